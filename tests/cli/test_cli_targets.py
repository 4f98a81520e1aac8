"""Listing and showing targets and passes, and what is wrong with broken descriptors."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from cli.command_line import descriptor_with, refuse, succeed, write_target
from qcompiler import plugins
from qcompiler.pipeline import ALIASES, PASSES
from qcompiler.rewrite import RULES
from qcompiler.target import built_in_targets, load_target


def test_targets_lists_every_target_with_its_summary() -> None:
    rows = [line.split(None, 1) for line in succeed("targets").splitlines()[1:]]
    assert rows == [[name, load_target(name).descriptor.summary] for name in built_in_targets()]


@pytest.mark.parametrize("name", list(built_in_targets()))
def test_show_names_all_that_a_target_says(name: str) -> None:
    shown = succeed("targets", "show", name)
    descriptor = load_target(name).descriptor
    for text in (descriptor.summary, descriptor.source, descriptor.pipeline):
        assert text in shown
    sums = descriptor.types[descriptor.ops["matmul"].out]
    held = f"{sums.storage}" if sums.kind == "scalar" else f"{descriptor.limits.accumulator.bits} bits: they"
    assert re.search(rf"^accumulators +{held}", shown, re.MULTILINE)
    for kind in descriptor.types:
        assert re.search(rf"^{kind}  ", shown, re.MULTILINE)
    for op, row in descriptor.ops.items():
        match = re.search(rf"^{op}  .*$", shown, re.MULTILINE)
        assert match, op
        assert (row.arithmetic or "") in match[0]
        assert ", ".join(row.operands) in match[0]
        assert ("share their scale" in match[0]) == (row.ties == "all")
        assert ("fused kernel" in match[0]) == row.fuse
    for rule in descriptor.decompositions:
        assert re.search(rf"^{rule}  ", shown, re.MULTILINE)


def test_show_reads_a_descriptor_file() -> None:
    text = descriptor_with('conv2d           = {', 'conv2d = { kernel = [1, 7], strides = [1, 2], max_rank = 4,')
    shown = succeed("targets", "show", write_target("mine.toml", text.replace('name = "tpu-int8"', 'name = "mine"', 1)))
    assert re.search(r"^target +mine$", shown, re.MULTILINE)
    assert re.search(r"^conv2d .* kernel 1 to 7; strides 1 to 2; rank at most 4$", shown, re.MULTILINE)


@pytest.mark.parametrize("command", ["compile", "check", "show"])
def test_unknown_target(command: str) -> None:
    _refuse_target(command, "tpu-int", "unknown target 'tpu-int'", "'tpu-int8'")


@pytest.mark.parametrize("command", ["compile", "check", "show"])
def test_missing_descriptor(command: str) -> None:
    _refuse_target(command, "nowhere.toml", "nowhere.toml")


BROKEN = {
    "not TOML": ("[limits]\n", "[limits\n", ("not a TOML file", "line")),
    "unknown key": ("layout =", "layuot =", ("layuot", "unknown key")),
    "unknown key of a row": ('pad       = {', 'pad = { fast = true,', ("ops.pad.fast", "unknown key")),
    "unknown key of a type": ('act   = {', 'act = { width = 8,', ("types.act.width", "unknown key")),
    "missing key": ("summary =", "# summary =", ("summary", "key is missing")),
    "wrong schema": ("schema = 1", "schema = 2", ("schema",)),
    "wrong kind": ("max_rank = 6", 'max_rank = "six"', ("limits.max_rank", "integer")),
    "unknown op": ("pad       =", "padd      =", ("ops.padd", "unknown op", "'pad'")),
    "unknown type name": ('pad       = { in = ["act"]', 'pad = { in = ["akt"]', ("ops.pad", "unknown type 'akt'")),
    "unknown storage": ('storage = "i8", blocks = "tensor"', 'storage = "i9"', ("types.act.storage", "'i9'")),
    "range beyond storage": ("[-127, 127]", "[-200, 127]", ("types.wt.range", "[-200, 127]", "i8")),
    "unknown arithmetic": ('"litert-mul"', '"litert-mull"', ("ops.mul.arithmetic", "'litert-mull'", "litert-mul")),
    "unknown arithmetic option": ("litert-add{shift=20}", "litert-add{shfit=20}", ("ops.add.arithmetic", "shfit")),
    "unknown fallback": ('fallback = "error"', 'fallback = "gpu"', ("fallback", "'host'")),
    "no requantize": ("requantize =", "# requantize =", ("ops", "'requantize'")),
    "unknown decomposition": ('"prelu-to-relu"', '"prelu-to-rlu"', ("decompositions", "-rlu'", "'prelu-to-relu'")),
}
"""What is replaced in tpu-int8, by what, and what the error says."""


@pytest.mark.parametrize("command", ["compile", "check", "show"])
@pytest.mark.parametrize("case", list(BROKEN))
def test_broken_descriptor(case: str, command: str) -> None:
    old, new, naming = BROKEN[case]
    write_target("broken.toml", descriptor_with(old, new))
    _refuse_target(command, "broken.toml", "broken.toml", *naming)


def test_error_gives_the_line() -> None:
    text = descriptor_with("pad       =", "padd      =")
    line = next(i for i, row in enumerate(text.splitlines(), 1) if row.startswith("padd"))
    refuse("targets", "show", write_target("broken.toml", text), naming=(f"broken.toml, line {line}: ops.padd",))


def test_pipeline_of_a_descriptor_with_an_unknown_pass() -> None:
    write_target("mine.toml", descriptor_with(",annotate,", ",anotate,"))
    _refuse_target("compile", "mine.toml", "unknown pass 'anotate'", "'annotate'")
    _refuse_target("check", "mine.toml", "unknown pass 'anotate'", "'annotate'")


def test_check_of_a_pipeline_without_legalize() -> None:
    write_target("mine.toml", descriptor_with(",legalize,", ","))
    _refuse_target("check", "mine.toml", "'tpu-int8'", "no pass 'legalize'")


def _refuse_target(command: str, target: str, *naming: str) -> None:
    if command == "show":
        refuse("targets", "show", target, naming=naming)
    elif command == "check":
        refuse("check", "model.onnx", "--target", target, naming=naming)
    else:
        refuse("compile", "model.onnx", "--target", target, "--data", "calib.npz", "-o", "out", naming=naming)


def test_passes_lists_every_pass_with_the_first_line_of_its_docstring() -> None:
    plugins.load()
    listed = dict(line.split(None, 1) for line in succeed("passes").splitlines()[1:])
    assert set(listed) == {*PASSES, *ALIASES}
    for name, cls in PASSES.items():
        assert listed[name] == (cls.__doc__ or "").partition("\n")[0].replace("``", "")


def test_show_names_all_options_of_every_pass() -> None:
    plugins.load()
    for name, cls in PASSES.items():
        shown = succeed("passes", "show", name)
        assert shown.startswith(f"{name}\n")
        fields = dataclasses.fields(cls)  # type: ignore[arg-type]
        assert ("no options" in shown) == (not fields)
        for field in fields:
            match = re.search(rf"^{field.name.replace('_', '-')}  .*$", shown, re.MULTILINE)
            assert match, field.name
            assert str(field.type) in match[0]
            assert field.metadata["help"] in match[0]
            assert all(choice in match[0] for choice in field.metadata["choices"])


def test_show_spells_an_alias_out() -> None:
    assert ALIASES["simplify"] in succeed("passes", "show", "simplify")


def test_unknown_pass() -> None:
    refuse("passes", "show", "calibrat", naming=("'calibrat'", "did you mean 'calibrate'"))


def test_a_folder_of_the_user_does_not_hide_ours() -> None:
    Path("targets").mkdir()
    Path("passes").mkdir()
    assert "tpu-int8" in succeed("targets")
    assert "legalize" in succeed("passes")


def test_passes_show_lists_the_rules_of_a_pass() -> None:
    shown = succeed("passes", "show", "canonicalize")
    rules = [name for name, cls in RULES.items() if "canonicalize" in cls.into]
    assert len(rules) >= 12
    for name in rules:
        assert re.search(rf"^{name} +\S", shown, re.MULTILINE)
    assert "replaces" not in succeed("passes", "show", "cse")
