"""``qcompiler diff``."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from cli.command_line import invoke, refuse, succeed
from qcompiler.analysis.program_diff import ProgramDiff
from qcompiler.cli import diff_command

COMPILE = ("compile", "model.onnx", "--target", "tpu-int8", "--data", "calib.npz")


@pytest.fixture
def dumps() -> Path:
    """Every stage of a compilation."""
    succeed(*COMPILE, "-o", "build", "--dump-ir", "dumps")
    return Path("dumps")


def stage(folder: Path, name: str) -> Path:
    return sorted(folder.glob(f"*_{name}.qir"))[-1]


def differ(*arguments: object) -> str:
    """The output of a diff that must find something."""
    result = invoke("diff", *arguments)
    assert result.exit_code == 1, result.output
    assert result.stderr == ""
    return str(result.stdout)


def test_equal_programs_in_all_three_forms(dumps: Path) -> None:
    last = stage(dumps, "verify-legal")
    for first, second in (("build", last), (last, "build/program.qir"), ("model.onnx", stage(dumps, "import"))):
        assert succeed("diff", first, second) == "the programs are equal\n"
        assert json.loads(succeed("diff", first, second, "--json")) == {"equal": True, "program": [], "ops": []}


def test_what_fuse_requantize_did(dumps: Path) -> None:
    before = dumps / sorted(p.name for p in dumps.glob("*.qir"))[int(stage(dumps, "fuse-requantize").name[:3]) - 1]
    text = differ(before, stage(dumps, "fuse-requantize"))
    assert text.splitlines()[0::2] == ["layer Conv_0 + Relu_1", "layer Gemm_4", "ops: 2 added, in 2 layers"]
    assert "  + fused(matmul, requantize) -> q<i8, " in text
    assert "\x1b" not in text


def test_a_layer_and_a_summary(dumps: Path) -> None:
    stages = stage(dumps, "annotate"), stage(dumps, "calibrate")
    assert differ(*stages, "--summary").startswith("ops: ")
    assert differ(*stages, "--summary").count("\n") == 1
    alone = differ(*stages, "--layer", "Gemm_4")
    assert "layer Gemm_4" in alone
    assert "Conv_0" not in alone
    assert succeed("diff", stages[0], stages[0], "--layer", "Gemm_4") == "the programs are equal\n"


def test_json_tells_all(dumps: Path) -> None:
    found: Any = json.loads(differ(stage(dumps, "annotate"), stage(dumps, "calibrate"), "--json"))
    assert not found["equal"]
    assert {op["kind"] for op in found["ops"]} == {"changed"}
    assert {op["before"]["op"] for op in found["ops"]} == {"fake_quant"}
    change = found["ops"][0]["changes"][0]
    assert change["what"] == "attribute scale"
    assert change["before"] == "none"
    assert float(change["after"]) > 0


def test_errors(dumps: Path) -> None:
    refuse("diff", "nowhere.qir", "model.onnx", naming=("nowhere.qir",))
    refuse("diff", "model.onnx", "dumps", naming=("dumps is no compiled program",))
    refuse("diff", "model.onnx", "build", "--layer", "Gem_4", naming=("no program has a layer 'Gem_4'", "'Gemm_4'"))


def test_colours_on_a_terminal_alone(dumps: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    from qcompiler.analysis.program_diff import OpDiff, OpSummary

    added = OpDiff("added", None, OpSummary("relu", ("[bold]conv",), ("f32[4]",), ("x",), "", "", "%1"))
    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr("sys.stdout", terminal)
    diff_command._print_diff(ProgramDiff((), (added,)))
    monkeypatch.undo()
    assert "\x1b[32m  + relu(x) -> f32[4]" in terminal.getvalue()
    assert "layer [bold]conv" in terminal.getvalue()
