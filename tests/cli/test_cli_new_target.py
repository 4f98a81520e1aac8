"""``qcompiler targets new`` and ``qcompiler targets schema``: what they write, and what they refuse."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from cli.command_line import refuse, succeed
from qcompiler.target import SCHEMA_FILE, Target, built_in_targets, load_target

NEW = ("targets", "new", "my-chip", "--extends")


def same_rules(target: Target, base: Target) -> bool:
    left_out = {"name", "summary", "source", "extends", "without"}
    first, second = (t.descriptor.model_dump(exclude=left_out) for t in (target, base))
    return first == second


@pytest.mark.parametrize("base", list(built_in_targets()))
def test_a_new_target_does_what_its_base_does(base: str) -> None:
    printed = succeed(*NEW, base)
    assert printed.startswith(f"my-chip.toml: does what {base} does")
    target = load_target("my-chip.toml")
    assert (target.name, target.descriptor.extends) == ("my-chip", base)
    assert same_rules(target, load_target(base))


@pytest.mark.parametrize("base", list(built_in_targets()))
def test_every_comment_is_what_holds_already(base: str) -> None:
    """Without the '#', all lines are TOML, and change nothing."""
    succeed(*NEW, base)
    lines = Path("my-chip.toml").read_text().splitlines()
    keys = [line.removeprefix("# ") if " = " in line else line for line in lines]
    assert sum(a != b for a, b in zip(lines, keys, strict=True)) > 30
    Path("my-chip.toml").write_text("\n".join(keys))
    assert set(tomllib.loads("\n".join(keys))["ops"]) == set(load_target(base).descriptor.ops)
    assert same_rules(load_target("my-chip.toml"), load_target(base))


def test_the_accumulator_is_shown_with_all_that_the_base_says_of_it() -> None:
    succeed(*NEW, "esp32-s3")
    shown = '# accumulator = { bits = 20, overflow = "saturate", home = "i32", proof = "worst-case" }'
    assert shown in Path("my-chip.toml").read_text().splitlines()


def test_commands_take_it_at_once() -> None:
    succeed(*NEW, "tpu-int8")
    assert "my-chip" in succeed("targets", "show", "my-chip.toml")
    succeed("check", "model.onnx", "--target", "my-chip.toml")
    succeed("compile", "model.onnx", "--target", "my-chip.toml", "--data", "calib.npz", "-o", "out", "--no-native")
    Path("program.qir").write_text("""\
// qir 1
graph @g(%x: f32[N,8] original("x")) -> (y: f32[N,8]) {
  %y = softmax %x {axis = -1} -> f32[N,8]
  return %y
}
""")
    assert "softmax" in succeed("opt", "program.qir", "--target", "my-chip.toml", "-p", "legalize")


def test_a_changed_line_counts() -> None:
    succeed(*NEW, "tpu-int8")
    text = Path("my-chip.toml").read_text()
    Path("my-chip.toml").write_text(text.replace("[ops]\n", "[ops]\nconv2d = { kernel = [1, 2] }\n"))
    shown = succeed("targets", "show", "my-chip.toml")
    assert "kernel 1 to 2" in shown
    refuse("check", "model.onnx", "--target", "nowhere.toml", naming=("nowhere.toml",))


def test_a_base_in_another_folder_is_named_as_the_new_file_sees_it() -> None:
    Path("vendor").mkdir()
    Path("mine").mkdir()
    succeed("targets", "new", "first", "--extends", "tpu-int8", "--output", "vendor/first.toml")
    succeed("targets", "new", "second", "--extends", "vendor/first.toml", "-o", "mine/second.toml")
    target = load_target("mine/second.toml")
    assert target.descriptor.extends == "../vendor/first.toml"
    assert same_rules(target, load_target("tpu-int8"))


@pytest.mark.parametrize("name", ["My-Chip", "3chip", "chip_1", "", "../chip", "chip.toml", "-"])
def test_bad_names(name: str) -> None:
    refuse("targets", "new", "--extends", "tpu-int8", "--", name, naming=("a target cannot be called", "small letters"))


def test_names_that_are_taken() -> None:
    refuse("targets", "new", "tpu-int8", "--extends", "cpu-int8", naming=("a target 'tpu-int8' already",))


def test_unknown_bases() -> None:
    refuse(*NEW, "tpu-int9", naming=("unknown target 'tpu-int9'", "'tpu-int8'"))
    refuse(*NEW, "nowhere.toml", naming=("nowhere.toml",))
    Path("broken.toml").write_text("schema = 2\n")
    refuse(*NEW, "broken.toml", naming=("broken.toml",))


def test_files_that_are_there_stay_unless_forced() -> None:
    Path("my-chip.toml").write_text("precious")
    refuse(*NEW, "tpu-int8", naming=("my-chip.toml is there already", "--force"))
    succeed(*NEW, "tpu-int8", "--force")
    assert "precious" not in Path("my-chip.toml").read_text()
    refuse(*NEW, "my-chip.toml", "--force", naming=("cannot extend itself",))
    Path("folder.toml").mkdir()
    refuse(*NEW, "tpu-int8", "--force", "-o", "folder.toml", naming=("folder.toml is there already",))


def test_outputs_that_cannot_be() -> None:
    refuse(*NEW, "tpu-int8", "-o", "my-chip.txt", naming=("ends in .toml",))
    refuse(*NEW, "tpu-int8", "-o", "nowhere/my-chip.toml", naming=("cannot write",))


def test_the_schema_is_printed_and_written() -> None:
    printed = succeed("targets", "schema")
    assert json.loads(printed)["title"] == "Target descriptor"
    succeed("targets", "schema", "--output", "schema.json")
    assert Path("schema.json").read_text() == printed
    refuse("targets", "schema", "-o", "schema.json", naming=("schema.json is there already",))
    assert set(json.loads(SCHEMA_FILE.read_text())["properties"]) == set(json.loads(printed)["properties"])


def test_editors_find_the_schema_that_is_written_beside_a_new_target() -> None:
    said = succeed(*NEW, "tpu-int8").splitlines()[1].partition("qcompiler ")[2].split()
    succeed(*said)
    first = Path("my-chip.toml").read_text().splitlines()[0]
    assert first.startswith("#:schema ./")
    assert Path(first.removeprefix("#:schema ")).is_file()
