"""``qcompiler opt``, and the options that look between the passes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import qcompiler
from cli.command_line import invoke, nothing_left_behind, refuse, succeed
from qcompiler import plugins
from qcompiler.calibration.data import open_data
from qcompiler.cli.application import app
from qcompiler.cli.terminal import print_table
from qcompiler.compilation import read_model
from qcompiler.ir import parse, read_program
from qcompiler.pass_comparison import Compare
from qcompiler.pass_comparison.report import HEADER
from qcompiler.pipeline import PASSES, Context, PassResult, Pipeline
from qcompiler.target import load_target

PROGRAM = """// qir 1
// RUN: qcompiler opt %s -p "dce" | filecheck %s
// CHECK-LABEL: graph @g
graph @g(%x: f32[N,2] original("x")) -> (y: f32[N,2]) {
  // CHECK: relu
  %r = relu %x // trailing
    -> f32[N,2] original("y") loc("act//1")
  // CHECK-NOT: sigmoid
  %s = sigmoid %x -> f32[N,2]
  return %r
}
// CHECK: return
"""
TARGET = ("--target", "tpu-int8")
QUANTIZE = ("-p", "simplify,legalize,annotate,calibrate,realize", *TARGET, "--data", "calib.npz")
COMPILE = ("compile", "model.onnx", *TARGET, "--data", "calib.npz", "-o", "build")


@pytest.fixture(autouse=True)
def _programs() -> Iterator[None]:
    Path("a.qir").write_text(PROGRAM)
    plugins.load()
    with PASSES.temporary():
        yield


def headers(text: str) -> list[str]:
    return re.findall(r"^// ----- IR (.*) -----$", text, re.MULTILINE)


def expected() -> str:
    return str(Pipeline.parse("dce").run(parse(PROGRAM), Context()))


# Where programs come from and go to


def test_text_goes_to_stdout() -> None:
    assert succeed("opt", "a.qir", "-p", "dce") == expected()
    assert "sigmoid" not in expected()


def test_stdin() -> None:
    result = CliRunner().invoke(app, ["opt", "-", "-p", "dce"], input=PROGRAM, catch_exceptions=False)
    assert (result.exit_code, result.stdout, result.stderr) == (0, expected(), "")


def test_an_empty_pipeline_prints_the_program() -> None:
    assert parse(succeed("opt", "a.qir", "-p", "")) == parse(PROGRAM)


def test_output_to_a_file_with_constants_beside() -> None:
    assert succeed("opt", "model.onnx", *QUANTIZE, "-o", "out.qir") == ""
    graph = read_program(Path("out.qir"))
    assert graph.pipeline.endswith("annotate,calibrate,realize")
    assert Path("out.safetensors").exists()
    assert not [p for p in Path().iterdir() if p.name.startswith(".")]
    # Step by step, from file to file, gives the same.
    succeed("opt", "model.onnx", "-p", "simplify,legalize,annotate", *TARGET, "-o", "one.qir")
    succeed("opt", "one.qir", "-p", "calibrate,realize", *TARGET, "-d", "calib.npz", "-o", "two.qir")
    assert read_program(Path("two.qir")) == graph
    succeed("opt", "two.qir", "-p", "dce", "-o", "two.qir")
    assert read_program(Path("two.qir")).pipeline == f"{graph.pipeline},dce"


def test_the_folder_of_a_compiled_program() -> None:
    succeed(*COMPILE)
    assert parse_with("build", succeed("opt", "build", "-p", "cse")) == f"{qcompiler.load('build').graph.pipeline},cse"


def parse_with(folder: str, text: str) -> str:
    """The pipeline of a text that cites the constants of a compiled program."""
    from safetensors.numpy import load_file

    return parse(text, load_file(Path(folder) / "program.safetensors")).pipeline


def test_shapes_of_a_model() -> None:
    assert "%image: f32[3,2,6,6]" in succeed("opt", "model.onnx", "-p", "dce", "--batch", "3")
    refuse("opt", "a.qir", "-p", "dce", "--batch", "3", naming=("'a.qir'", "--batch"))
    refuse("opt", "-", "-p", "dce", "--batch", "3", naming=("--batch",))


def test_warnings_go_to_stderr() -> None:
    Path("bias.qir").write_text(
        "// qir 1\ngraph @g(%x: f32[N,1]) -> (y: f32[N,1]) {\n"
        "  %w = constant {value = dense<f32[1,1]>[1e-12]} -> f32[1,1]\n"
        "  %b = constant {value = dense<f32[1]>[1000.0]} -> f32[1]\n"
        '  %m = matmul %x, %w, %b -> f32[N,1] loc("fc")\n  return %m\n}\n'
    )
    np.save("x.npy", np.ones((2, 1), np.float32))
    result = invoke("opt", "bias.qir", "-p", "annotate,calibrate", *TARGET, "-d", "x.npy")
    assert result.exit_code == 0
    assert result.stderr.startswith("warning: ")
    assert result.stdout.startswith("// qir 1\n")


# What users get wrong


@pytest.mark.parametrize(
    ("arguments", "naming"),
    [
        (("a.qir",), ("no passes to run", "-p")), (("a.qir", "-p", "dca"), ("unknown pass 'dca'", "'dce'")),
        (("a.qir", "-p", "realize", *TARGET), ("pass 'realize' needs a calibrated program", "'annotate,calibrate'")),
        (("a.qir", "-p", "legalize"), ("needs a target", "--target")),
        (("a.qir", "-p", "annotate,calibrate", *TARGET), ("needs calibration data", "--data")),
        (("missing.qir", "-p", "dce"), ("missing.qir",)), (("-p", "dce", "calib.npz"), ("calib.npz",)),
        (("a.qir", "-p", "dce", "-o", "out.txt"), ("out.txt", ".qir")),
        (("a.qir", "-p", "dce", "-o", "none/out.qir"), ("none/out.qir",)),
        (("a.qir", "-p", "dce", "--target", "nothing"), ("'nothing'",)),
        (("a.qir", "-p", "dce", "--data", "nothing.npz"), ("nothing.npz",)),
        (("a.qir", "-p", "dce", "--print-ir-after", "dec"), ("--print-ir-after", "'dec'", "'dce'")),
        (("a.qir", "-p", "dce", "--print-ir-before", "simplfy"), ("--print-ir-before", "'simplfy'", "'simplify'")),
        (("a.qir", "-p", "dce", "--compare", "nothing.npz"), ("nothing.npz",)),
        (("a.qir", "-p", "dce", "--dump-ir", "calib.npz/ir"), ("calib.npz/ir",)),
        (("a.qir", "-p", "dce", "--crash-reproducer", "calib.npz"), ("calib.npz", "no reproducer")),
    ],
)
def test_refusals(arguments: tuple[str, ...], naming: tuple[str, ...]) -> None:
    refuse("opt", *arguments, naming=naming)


def test_stdin_that_is_no_program() -> None:
    result = CliRunner().invoke(app, ["opt", "-", "-p", "dce"], input="hello", catch_exceptions=False)
    assert result.exit_code == 2
    assert "// qir 1" in result.stderr


def test_a_failing_pass_writes_no_output() -> None:
    np.savez("nan.npz", image=np.full((2, 2, 6, 6), np.nan, np.float32))
    refuse("opt", "model.onnx", *QUANTIZE[:-1], "nan.npz", "-o", "out.qir", naming=("NaN",))


# Looking between the passes


def test_programs_are_printed_to_stderr() -> None:
    run = ("opt", "a.qir", "-p", "cse,dce,cse")
    for options, wanted in [
        (["--print-ir-before", "dce"], ["before dce (2 of 3)"]),
        (["--print-ir-after", "dce", "--print-ir-before", "dce"],
         ["before dce (2 of 3)", "after dce (2 of 3, changed)"]),
        (["--print-ir-after-change"], ["after dce (2 of 3, changed)"]),
        (["--print-ir-before-all"], ["before cse (1 of 3)", "before dce (2 of 3)", "before cse (3 of 3)"]),
        (["--print-ir-after-all"], ["after cse (1 of 3, unchanged)", "after dce (2 of 3, changed)",
                                    "after cse (3 of 3, unchanged)"]),
        (["--print-ir-on-failure"], []),
        # An alias stands for its passes, of which cse and dce run here.
        (["--print-ir-after", "simplify"], ["after cse (1 of 3, unchanged)", "after dce (2 of 3, changed)",
                                            "after cse (3 of 3, unchanged)"]),
        (["--print-ir-before", "simplify", "--print-ir-before", "realize"],
         ["before cse (1 of 3)", "before dce (2 of 3)", "before cse (3 of 3)"]),
    ]:
        result = invoke(*run, *options)
        assert result.exit_code == 0
        assert headers(result.stderr) == wanted
        assert parse(result.stdout).pipeline == "cse,dce,cse"


def test_a_program_is_printed_on_failure() -> None:
    np.savez("nan.npz", image=np.full((2, 2, 6, 6), np.nan, np.float32))
    result = invoke("opt", "model.onnx", *QUANTIZE[:-1], "nan.npz", "--print-ir-on-failure")
    assert result.exit_code == 2
    assert [h.split(" (")[0] for h in headers(result.stderr)] == ["on failure of calibrate"]


def test_times_and_comparison_are_tables_on_stderr() -> None:
    result = invoke("opt", "model.onnx", *QUANTIZE, "--time", "--compare", "calib.npz")
    assert result.exit_code == 0
    number = 1 + [p.name for p in Pipeline.parse(QUANTIZE[1]).passes].index("annotate")
    assert re.search(rf"^{number:03d}  annotate +\d+\.\d{{4}} .*changed", result.stderr, re.MULTILINE)
    assert re.search(r"^ +total ", result.stderr, re.MULTILINE)
    assert all(line == line.rstrip() for line in result.stderr.splitlines())
    comparison, graph = Compare("calib.npz"), read_model("model.onnx")
    context = Context(load_target("tpu-int8"), open_data("calib.npz", graph))
    Pipeline.parse(QUANTIZE[1]).run(graph, context, [comparison])
    report = comparison.report
    assert result.stderr.startswith(f"{report.title}\n{HEADER[0]}")
    lines = [re.split(r" {2,}", line) for line in result.stderr.splitlines()]
    assert report.rows()
    for row in report.rows():
        assert [cell for cell in row if cell] in lines


def test_long_names_are_whole_in_the_tables(capsys: pytest.CaptureFixture[str]) -> None:
    name = "a/very/long/layer/" * 20
    for stderr in (True, False):
        print_table([("001", name, "x")], ("no.", "pass", ""), "title", stderr=stderr)
        captured = capsys.readouterr()
        text, other = (captured.err, captured.out) if stderr else (captured.out, captured.err)
        assert text == f"title\nno.  pass\n001  {name}  x\n"
        assert other == ""


def test_a_comparison_in_which_nothing_moves() -> None:
    result = invoke("opt", "model.onnx", "-p", "dce", "--compare", "calib.npz")
    assert result.stderr == "no pass moved a value\n"


def test_verification_after_each_pass_is_on_unless_unwanted(monkeypatch: pytest.MonkeyPatch) -> None:
    def forget(self: Any, graph: Any, context: Any) -> PassResult:
        graph.inputs[0].uses.popitem()
        return PassResult(graph, False)

    monkeypatch.setattr(PASSES["cse"], "run", forget)
    refuse("opt", "a.qir", "-p", "cse", naming=("pass 'cse' left a malformed program",))
    refuse("opt", "a.qir", "-p", "cse", "--verify-each", naming=("pass 'cse' left a malformed program",))
    succeed("opt", "a.qir", "-p", "cse", "--no-verify-each")


def test_compile_takes_the_same_options() -> None:
    result = invoke(
        *COMPILE, "--time", "--print-ir-after", "annotate", "--dump-ir", "ir", "--verify-each",
        "--crash-reproducer", "crash", "--compare", "calib.npz",
    )
    assert result.exit_code == 0, result.output
    assert len(headers(result.stderr)) == 1
    assert " total " in result.stderr
    assert "SQNR to the float program at the start on 8 samples, by pass\n" in result.stderr
    assert not Path("crash").exists()
    assert read_program(max(Path("ir").glob("*.qir"))) == qcompiler.load("build").graph


@pytest.mark.parametrize("folder", ["build", "build/crash"])
def test_a_reproducer_in_the_output_folder(folder: str) -> None:
    refuse(*COMPILE, "--crash-reproducer", folder, naming=("--crash-reproducer", folder, "'build'"))


# Crash reproducers


def break_pass(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Let a pass crash on programs that hold a fake_quant."""

    def run(self: Any, graph: Any, context: Any) -> None:
        raise RuntimeError(f"{name} cannot do {sum(n.op.name == 'fake_quant' for n in graph.nodes)} marks")

    monkeypatch.setattr(PASSES[name], "run", run)


@pytest.mark.parametrize("command", [COMPILE, ("opt", "model.onnx", *QUANTIZE)])
@pytest.mark.parametrize("name", ["calibrate", "realize"])
def test_a_reproducer_replays_the_crash(
    monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...], name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as broken:
        break_pass(broken, name)
        runner = CliRunner()
        first = runner.invoke(app, [*command, "--crash-reproducer", "deep/crash"])
        # A note, which Python prints behind the traceback.
        assert first.exception is not None
        assert first.exception.__notes__[-1] == "reproducer: qcompiler opt deep/crash"
        assert "reproducer" not in first.stderr
        assert not Path("build").exists()
        # Nothing else is needed: not the model, not the data.
        Path("model.onnx").unlink()
        Path("calib.npz").unlink()
        again = runner.invoke(app, ["opt", "deep/crash"])
        assert type(first.exception) is type(again.exception) is RuntimeError
        assert str(first.exception) == str(again.exception)
    # Once the pass is mended, what is left runs through.
    succeed("opt", "deep/crash", "-o", "mended.qir")
    assert "realize" in read_program(Path("mended.qir")).pipeline
    # Other passes may be run instead, up to the failing one, say.
    pipeline = succeed("opt", "deep/crash", "-p", "cse").splitlines()[1]
    assert pipeline.endswith(",cse")
    assert "realize" not in pipeline


def test_a_refusal_leaves_a_reproducer_beside_the_message() -> None:
    np.savez("nan.npz", image=np.full((2, 2, 6, 6), np.nan, np.float32))
    result = invoke("opt", "model.onnx", *QUANTIZE[:-1], "nan.npz", "--crash-reproducer", "crash")
    assert result.exit_code == 2
    assert result.stderr.startswith("reproducer: qcompiler opt crash\nerror: ")


def test_conditions_leave_no_reproducer() -> None:
    with nothing_left_behind():
        assert invoke("opt", "a.qir", "-p", "realize", *TARGET, "--crash-reproducer", "crash").exit_code == 2


def test_the_same_samples_give_the_same_program_as_compile() -> None:
    pipeline = load_target("tpu-int8").descriptor.pipeline
    succeed("opt", "model.onnx", "-p", pipeline, *TARGET, "-d", "calib.npz", "-o", "out.qir")
    succeed(*COMPILE)
    assert read_program(Path("out.qir")) == qcompiler.load("build").graph


def test_dumps_do_not_take_the_place_of_the_input() -> None:
    succeed("opt", "model.onnx", "-p", "canonicalize,dce", "--dump-ir", "ir")
    again = ("opt", "ir/001_canonicalize.qir", "-p", "cse", "--dump-ir")
    refuse(*again, "ir", naming=("holds the input", "another folder"))
    succeed(*again, "other")
    assert sorted(path.name for path in Path("ir").glob("*.qir")) == [
        "000_import.qir", "001_canonicalize.qir", "002_dce.qir",
    ]
    refuse("opt", "a.qir", "-p", "cse", "--split-input-file", "--dump-ir", "new", naming=("--split-input-file",))
