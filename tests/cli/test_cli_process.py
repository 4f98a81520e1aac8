"""The command line as a process of its own: entry points, exit codes, signals, pipes, imports."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import CliRunner

import qcompiler.compilation
from cli.command_line import invoke
from qcompiler.cli import main
from qcompiler.cli.application import app

PYTHON = [sys.executable, "-m", "qcompiler"]


def test_module_and_console_script_are_the_same_program() -> None:
    script = Path(sys.executable).with_name("qcompiler")
    for command in (PYTHON, [str(script)]):
        result = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
        assert result.stdout == f"qcompiler {version('qcompiler-legalizer')}\n"
        assert result.stderr == ""


def test_a_refusal_of_the_process() -> None:
    result = subprocess.run([*PYTHON, "inspect", "nowhere.onnx"], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: model file 'nowhere.onnx' does not exist\n")


@pytest.mark.parametrize("option", ["-h", "--help"])
@pytest.mark.parametrize("command", [[], ["compile"], ["run"], ["check"], ["inspect"], ["targets"], ["passes", "show"]])
def test_help(command: list[str], option: str) -> None:
    result = invoke(*command, option)
    assert result.exit_code == 0
    assert result.stdout.startswith("Usage: qcompiler")
    assert "\x1b" not in result.stdout


def test_interruption_exits_with_130_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(qcompiler.compilation, "read_model", interrupt)
    before = sorted(Path().rglob("*"))
    result = invoke("compile", "model.onnx", "--target", "tpu-int8", "--data", "calib.npz", "-o", "a/out")
    assert result.exit_code == 130
    assert "Traceback" not in result.output
    assert sorted(Path().rglob("*")) == before


def test_a_bug_shows_its_traceback_and_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("some bug")

    monkeypatch.setattr(qcompiler.compilation, "read_model", fail)
    with pytest.raises(ZeroDivisionError) as caught:
        main(["inspect", "model.onnx"])
    assert caught.value.__notes__ == [
        "This is a bug in qcompiler: please report it with the command and the text above."
    ]


@pytest.mark.parametrize("arguments", [["inspect", "model.onnx", "--text"], ["passes"], ["--help"]])
def test_reader_that_leaves_early(arguments: list[str]) -> None:
    process = subprocess.Popen([*PYTHON, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == b""
    assert process.wait() == 1
    process.stderr.close()


def test_piped_tables_are_plain_and_not_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    result = CliRunner().invoke(app, ["passes"])
    assert result.exit_code == 0
    assert result.stdout.isascii()
    assert "Stands for canonicalize,fold-constants,fold-batch-norm" in result.stdout


def test_own_imports_are_light() -> None:
    """Help must come at once: the commands import what they need when they run."""
    program = """
import sys, types
package = types.ModuleType("qcompiler")  # the package itself, without what its __init__ imports
package.__path__ = [sys.argv[1]]
sys.modules["qcompiler"] = package
from qcompiler.cli import application
print(sorted({"numpy", "onnx", "onnxruntime", "pydantic", "networkx"} & set(sys.modules)))
"""
    folder = str(Path(qcompiler.compilation.__file__).parent)
    result = subprocess.run([sys.executable, "-c", program, folder], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


def test_terminal_gets_bars_on_stderr_and_a_table_on_stdout() -> None:
    """Run on a pseudo-terminal."""
    pty = pytest.importorskip("pty", reason="pseudo-terminals exist on Unix only")
    import os

    master, slave = pty.openpty()
    command = [*PYTHON, "compile", "model.onnx", "--target", "tpu-int8", "--data", "calib.npz", "-o", "build"]
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100"}
    environment.pop("NO_COLOR", None)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=slave, env=environment)
    os.close(slave)
    shown = b""
    while True:
        try:
            chunk = os.read(master, 1 << 16)
        except OSError:  # how a closed pseudo-terminal ends on Linux
            break
        if not chunk:
            break
        shown += chunk
    os.close(master)
    assert process.stdout is not None
    summary = process.stdout.read()
    process.stdout.close()
    assert process.wait() == 0
    assert b"\x1b[" in shown
    assert b"calibrate" in shown
    assert b"100%" in shown
    assert b"\x1b" not in summary
    assert b"tpu-int8" in summary
