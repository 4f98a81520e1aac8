"""Targets that plugins hand in: found by name, refused where the name or the file is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from qcompiler import plugins, registry
from qcompiler.cli.application import app
from qcompiler.errors import QCompilerError
from qcompiler.target import TARGETS, built_in_targets, load_target, register_target

plugins.load()


@pytest.fixture(autouse=True)
def _scope() -> Iterator[None]:
    with registry.temporary():
        yield


def descriptor(folder: Path, file: str, name: str) -> Path:
    """tpu-int8 under another name."""
    text = built_in_targets()["tpu-int8"].read_text()
    (folder / file).write_text(text.replace('name = "tpu-int8"', f'name = "{name}"'))
    return folder / file


def test_a_registered_target_is_found_by_name(tmp_path: Path) -> None:
    register_target(descriptor(tmp_path, "my-chip.toml", "my-chip"))
    assert load_target("my-chip").name == "my-chip"
    with pytest.raises(QCompilerError, match=r"unknown target 'my-chop'\n  expected: .*my-chip.*\n.*mean 'my-chip'"):
        load_target("my-chop")
    listed = CliRunner().invoke(app, ["targets"], catch_exceptions=False).stdout
    assert [line.split()[0] for line in listed.splitlines()] == ["target", *built_in_targets(), "my-chip"]
    assert "my-chip" not in built_in_targets()


def test_a_relative_path_counts_from_the_module_that_registers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    descriptor(tmp_path, "near-chip.toml", "near-chip")
    code = "from qcompiler.target import register_target\nregister_target('near-chip.toml')\n"
    (tmp_path / "chip_module.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    __import__("chip_module")
    assert TARGETS["near-chip"] == tmp_path / "near-chip.toml"
    assert TARGETS.definitions()["near-chip"].module == "chip_module"


def test_what_is_no_descriptor_is_refused(tmp_path: Path) -> None:
    (tmp_path / "chip.json").write_text("{}")
    for path in (tmp_path / "absent.toml", tmp_path / "chip.json", tmp_path):
        with pytest.raises(QCompilerError, match="there is no target descriptor"):
            register_target(path)


def test_a_name_is_taken_once_and_is_that_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(QCompilerError, match=r"target 'tpu-int8' is defined twice\n  found: module 'qcompiler.targets"):
        register_target(descriptor(tmp_path, "tpu-int8.toml", "tpu-int8"))
    register_target(descriptor(tmp_path, "one-chip.toml", "other-chip"))
    with pytest.raises(QCompilerError, match="is called 'other-chip'\n  expected: 'one-chip', the name of its file"):
        load_target("one-chip")
