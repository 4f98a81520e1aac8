"""Exporters: which one writes a file, and that a file is written whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import qcompiler
from qcompiler.cli.application import app
from qcompiler.errors import QCompilerError
from qcompiler.exporters import EXPORTERS, export, exporter, find_exporter
from qcompiler.ir import Builder, Graph, SymbolicDim, TensorType
from qcompiler.ir.scalar import F32
from qcompiler.ops.activation import Relu
from qcompiler.program import Program


@pytest.fixture(autouse=True)
def _only_those_of_the_test() -> Iterator[None]:
    with EXPORTERS.temporary():
        EXPORTERS.clear()
        yield


@pytest.fixture(scope="module")
def program() -> Program:
    graph = Graph("g")
    x = graph.add_input("x", TensorType((SymbolicDim("N"), 4), F32))
    graph.set_outputs([("y", Builder(graph)(Relu(), x, loc=("relu",)))])
    data = np.random.default_rng(0).normal(0, 1, (8, 4)).astype(np.float32)
    return qcompiler.compile(graph, target="tpu-int8", data=data)


def write_ops(program: Program, path: Path) -> None:
    path.write_text(",".join(node.op.name for node in program.graph.nodes))


def register(*pairs: tuple[str, str]) -> None:
    for name, suffix in pairs:
        exporter(name, suffix=suffix)(write_ops)


def test_the_suffix_or_the_format_chooses() -> None:
    register(("listing", ".list"), ("bundle", ".tar.gz"), ("other-bundle", ".tar.gz"))
    assert find_exporter(Path("x.list")).name == "listing"
    assert find_exporter(Path("x.list"), "bundle").name == "bundle"
    assert find_exporter(Path("x.tar.gz"), "other-bundle").name == "other-bundle"
    with pytest.raises(QCompilerError, match=r"several formats: bundle, other-bundle\n.*\n  fix: say which"):
        find_exporter(Path("x.tar.gz"))
    with pytest.raises(QCompilerError, match=r"no exporter writes files such as 'x.gz'\n  expected: one of listing"):
        find_exporter(Path("x.gz"))
    with pytest.raises(QCompilerError, match=r"unknown format 'listin'\n.*\n  fix: did you mean 'listing'"):
        find_exporter(Path("x.list"), "listin")


def test_without_exporters_the_user_is_told_so() -> None:
    with pytest.raises(QCompilerError, match="no exporter is installed\n  fix: install a plugin"):
        find_exporter(Path("x.list"), "listing")


def test_a_file_is_replaced_whole(program: Program, tmp_path: Path) -> None:
    register(("listing", ".list"))
    path = tmp_path / "out.list"
    for _ in range(2):
        export(program, path)
        assert path.read_text() == ",".join(node.op.name for node in program.graph.nodes)
        assert list(tmp_path.iterdir()) == [path]
        path.write_text("old")


def fails_late(program: Program, path: Path) -> None:
    path.write_text("half")
    raise LookupError("no such kernel")


def refuses(program: Program, path: Path) -> None:
    path.write_text("half")
    raise QCompilerError("this format has no relu", layer="relu")


def fills_the_disk(program: Program, path: Path) -> None:
    path.write_text("half")
    raise OSError("no space left on device")


def writes_nothing(program: Program, path: Path) -> None:
    path.with_name("elsewhere").write_text("x")


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (fails_late, r"exporter 'bad' failed\n  found: LookupError: .*no such kernel.*\n  fix: report .* module 'plug"),
        (refuses, "layer 'relu': this format has no relu"), (fills_the_disk, "cannot write .*no space left"),
        (writes_nothing, "exporter 'bad' wrote no file"),
    ],
)
@pytest.mark.parametrize("existing", [True, False])
def test_a_failure_leaves_what_was_there(
    program: Program, tmp_path: Path, function: object, message: str, existing: bool
) -> None:
    exporter("bad", suffix=".bad")(function)  # type: ignore[type-var]
    path = tmp_path / "out.bad"
    if existing:
        path.write_text("old")
    with pytest.raises(QCompilerError, match=message):
        export(program, path)
    assert [p.read_text() for p in tmp_path.iterdir()] == (["old"] if existing else [])


def test_an_output_that_cannot_be_written_is_refused(program: Program, tmp_path: Path) -> None:
    register(("listing", ".list"))
    with pytest.raises(QCompilerError, match="is not writable"):
        export(program, tmp_path / "absent" / "out.list")
    (tmp_path / "folder.list").mkdir()
    with pytest.raises(QCompilerError, match="is a folder"):
        export(program, tmp_path / "folder.list")


def test_registering() -> None:
    register(("listing", ".list"))
    with pytest.raises(QCompilerError, match=r"exporter 'listing' is defined twice"):
        register(("listing", ".other"))
    with pytest.raises(QCompilerError, match="starts with a dot"):
        register(("other", "list"))
    assert list(EXPORTERS) == ["listing"]


def test_the_command(program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    program.save("build")
    without = CliRunner().invoke(app, ["export", "build", "-o", "x.list"])
    assert (without.exit_code, without.stderr.partition("\n")[0]) == (2, "error: no exporter is installed")
    register(("listing", ".list"))
    done = CliRunner().invoke(app, ["export", "build", "-o", "x.txt", "--format", "listing"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("wrote x.txt as listing, ")
    assert Path("x.txt").read_text()
    missing = CliRunner().invoke(app, ["export", "absent", "-o", "x.list"])
    assert missing.exit_code == 2
    assert "absent is no compiled program" in missing.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["build", "x.txt"]
