"""``--load``: a pass from the user's file, before it is packaged."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from plugins.plugin_folder import refuse, succeed
from plugins.test_plugin_failures import OP, PASS
from qcompiler import plugins, registry
from qcompiler.cli.application import app
from qcompiler.errors import QCompilerError
from qcompiler.ir import OPS
from qcompiler.pipeline import PASSES

ROOT = Path(__file__).parents[2]
SCALED = """// qir 1
// RUN: qcompiler --load fold_multiply.py opt %s -p fold-multiply | filecheck %s
// CHECK: dense<f32[2,2]>[0.5,1.0,1.5,2.0]
// CHECK-NOT: mul
graph @scaled(%x: f32[N,2] original("x")) -> (y: f32[N,2]) {
  %w = constant {value = dense<f32[2,2]>[1.0, 2.0, 3.0, 4.0]} -> f32[2,2] original("w") loc("fc")
  %c = constant {value = dense<f32[]>[0.5]} -> f32[] original("c") loc("half")
  %h = matmul %x, %w -> f32[N,2] original("h") loc("fc")
  %y = mul %h, %c -> f32[N,2] original("y") loc("half")
  return %y
}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder. What files of it register is forgotten."""
    plugins.load()
    monkeypatch.chdir(tmp_path)
    modules = dict(sys.modules)
    with registry.temporary():
        yield tmp_path
    for name in set(sys.modules) - set(modules):
        if name.startswith(str(tmp_path)) or str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def test_the_pass_of_the_documentation_runs_from_its_file(folder: Path) -> None:
    page = (ROOT / "docs" / "writing-a-pass.md").read_text(encoding="utf-8")
    assert re.search(r"^    // RUN: qcompiler --load fold_multiply\.py opt %s -p fold-multiply", page, re.MULTILINE)
    block = re.search(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert block
    Path("fold_multiply.py").write_text(block[1])
    Path("scaled.qir").write_text(SCALED)
    printed = succeed("", "--load", "fold_multiply.py", "opt", "scaled.qir", "-p", "fold-multiply", cwd=folder)
    assert "[0.5,1.0,1.5,2.0]" in printed
    assert "mul %" not in printed.replace("matmul %", "")
    assert not Path("__pycache__").exists()
    assert "unknown pass 'fold-multiply'" in refuse("", "opt", "scaled.qir", "-p", "fold-multiply", cwd=folder)


def test_several_files_and_modules_beside_them(folder: Path) -> None:
    Path("names_beside.py").write_text("NAME = 'from-beside'\n")
    text = PASS.format(name="x").replace('"x"', "NAME")
    Path("one.py").write_text("from names_beside import NAME\n" + text)
    Path("json.py").write_text(PASS.format(name="two-pass"))
    path = list(sys.path)
    result = CliRunner().invoke(app, ["--load", "one.py", "--load", "json.py", "passes"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "from-beside" in result.stdout
    assert "two-pass" in result.stdout
    assert sys.path == path
    import json

    assert json.loads("[1]") == [1]
    assert PASSES.definitions()["two-pass"].plugin == "file json.py"


def test_a_file_loaded_again_replaces_itself(folder: Path) -> None:
    file = Path("mine.py")
    file.write_text(PASS.format(name="first"))
    plugins.load_file(file)
    first = PASSES["first"]
    plugins.load_file(file)
    assert PASSES["first"] is not first
    # Of the same length, within the same second: stale byte code would not be noticed as such.
    file.write_text(PASS.format(name="other"))
    plugins.load_file(file)
    assert "first" not in PASSES
    assert "other" in PASSES


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = 1\n\nraise OSError('no licence')\n", ("OSError: no licence", "mine.py, line 3")),
        ("import missing_dependency\n", ("ModuleNotFoundError: No module named 'missing_dependency'", "line 1")),
        ("x = 1\ndef f(:\n", ("SyntaxError", "mine.py, line 2")),
        ("import sys\nsys.exit(3)\n", ("SystemExit: 3", "mine.py, line 2")),
        (PASS.format(name="dce"), ("pass 'dce' is defined twice", "of file mine.py", "mine.py, line 4", "qcompiler.")),
    ],
)
def test_a_broken_file_is_named_with_line_and_error(folder: Path, text: str, words: tuple[str, ...]) -> None:
    Path("mine.py").write_text(text)
    result = CliRunner().invoke(app, ["--load", "mine.py", "passes"], catch_exceptions=False)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: file mine.py cannot be loaded")
    assert "Traceback" not in result.stderr
    for word in (*words, "leave out --load"):
        assert word in result.stderr


def test_nothing_of_a_failed_file_remains_and_it_can_be_mended(folder: Path) -> None:
    Path("op_beside.py").write_text(OP.format(name="beside_op"))
    Path("mine.py").write_text("import op_beside\n" + PASS.format(name="half-pass") + "\n1 / 0\n")
    ops, passes, modules = dict(OPS), dict(PASSES), set(sys.modules)
    for _ in range(2):
        with pytest.raises(QCompilerError, match="ZeroDivisionError"):
            plugins.load_file("mine.py")
        assert (dict(OPS), dict(PASSES)) == (ops, passes)
        assert set(sys.modules) == modules
    Path("mine.py").write_text("import op_beside\n" + PASS.format(name="half-pass"))
    plugins.load_file("mine.py")
    assert "half-pass" in PASSES
    assert "beside_op" in OPS


def test_a_failed_reload_keeps_what_was_there(folder: Path) -> None:
    Path("mine.py").write_text(PASS.format(name="kept-pass"))
    plugins.load_file("mine.py")
    kept, module = PASSES["kept-pass"], sys.modules[str(folder.resolve() / "mine.py")]
    Path("mine.py").write_text(PASS.format(name="new-pass") + "\n1 / 0\n")
    with pytest.raises(QCompilerError):
        plugins.load_file("mine.py")
    assert PASSES["kept-pass"] is kept
    assert "new-pass" not in PASSES
    assert sys.modules[str(folder.resolve() / "mine.py")] is module


def test_two_files_with_one_name_are_both_named(folder: Path) -> None:
    for name in ("a.py", "b.py"):
        Path(name).write_text(PASS.format(name="p"))
    plugins.load_file("a.py")
    with pytest.raises(QCompilerError, match=r"of file a\.py") as caught:
        plugins.load_file("b.py")
    assert "of file b.py" in str(caught.value)


@pytest.mark.parametrize(("path", "found"), [("none.py", "no such file"), ("model.onnx", "another kind of file"),
                                             (".", "another kind of file")])
def test_what_is_no_python_file(folder: Path, path: str, found: str) -> None:
    Path("model.onnx").write_bytes(b"")
    with pytest.raises(QCompilerError, match=found):
        plugins.load_file(path)
