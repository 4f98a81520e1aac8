"""Programs that commands read: which file an error is about, in words that its user can follow."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.command_line import invoke, refuse, succeed
from qcompiler import plugins, registry
from qcompiler.cli.application import app
from qcompiler.errors import QCompilerError
from qcompiler.ir import Graph
from qcompiler.pipeline import PASSES, Context, Pass, PassResult, compiler_pass

RELU = """// qir 1
graph @g(%x: f32[N,2] original("x")) -> (y: f32[N,2]) {
  %y = relu %x -> f32[N,2] original("y") loc("act")
  return %y
}
"""


def test_diff_says_which_program_is_malformed() -> None:
    Path("good.qir").write_text(RELU)
    Path("bad.qir").write_text(RELU.replace("relu", "rleu"))
    for words in (("good.qir", "bad.qir"), ("bad.qir", "good.qir")):
        message = refuse("diff", *words, naming=("bad.qir: line 3, column 8: unknown op 'rleu'", "mean 'relu'"))
        assert "good.qir" not in message


def test_text_that_is_no_program_names_its_file() -> None:
    Path("a.qir").write_text("graph")
    refuse("inspect", "a.qir", naming=("a.qir: not a .qir text of this version",))
    Path("a.qir").write_text(RELU.replace("-> f32[N,2] original(\"y\")", "-> f32[N,3] original(\"y\")"))
    refuse("inspect", "a.qir", naming=("a.qir: ",))
    Path("a.qir").write_bytes(b"// qir 1\n\xff")
    refuse("inspect", "a.qir", naming=("'a.qir'", "no UTF-8 text"))


def test_constants_that_are_not_there() -> None:
    weights = RELU.replace("relu %x", "constant {value = @80db}")
    Path("a.qir").write_text(weights)
    refuse("inspect", "a.qir", naming=("a.qir: line 3", "the constants lack @80db", "safetensors", "-o OUT.qir"))
    result = CliRunner().invoke(app, ["opt", "-", "-p", "dce"], input=weights, catch_exceptions=False)
    assert result.exit_code == 2
    assert ".qir text, line 3" in result.stderr
    assert "has no constants beside it" in result.stderr


def test_reproducers_are_read() -> None:
    Path("a.qir").write_text(RELU)

    class Broken(Pass):
        """Fails."""

        def run(self, graph: Graph, context: Context) -> PassResult:
            raise QCompilerError("on purpose")

    with registry.temporary():
        compiler_pass("broken-on-purpose")(Broken)
        assert invoke("opt", "a.qir", "-p", "broken-on-purpose", "--crash-reproducer", "crash").exit_code == 2
    assert "broken-on-purpose" not in PASSES
    assert "relu" in succeed("inspect", "crash")
    assert succeed("inspect", "crash", "--text").endswith(RELU.partition("\n")[2].replace("%y", "%0"))
    assert succeed("diff", "a.qir", "crash").startswith("the programs are equal")


@pytest.mark.parametrize("command", [("inspect", "."), ("diff", ".", "model.onnx"), ("opt", ".", "-p", "dce")])
def test_folders_of_another_kind(command: tuple[str, ...]) -> None:
    message = refuse(*command, naming=(". is no compiled program and no crash reproducer", "reproducer.json"))
    assert "Errno" not in message


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("opt", "none.qir", "-p", "dce"), ("'none.qir'", "No such file or directory")),
        (("run", ".", "-d", "calib.npz", "-o", "y.npz"), (". is no compiled program", "manifest.json")),
        (("inspect", "none.qir"), ("'none.qir'", "No such file or directory")),
        (("opt", "model.onnx", "-p", "dce", "-o", "/proc/x.qir"), ("'/proc/x.qir'",)),
        (("compile", "model.onnx", "-t", "tpu-int8", "-d", "calib.npz", "-o", "/proc/b"), ("/proc/b is not writable",)),
        (("inspect", "model.onnx", "--html", "nodir/a.html"), ("'nodir/a.html'", "No such file or directory")),
    ],
)
def test_reasons_are_told_in_words(command: tuple[str, ...], words: tuple[str, ...]) -> None:
    message = refuse(*command, naming=words)
    assert "Errno" not in message
    assert ".part" not in message
    assert "/." not in message


def test_data_to_look_at_are_not_called_calibration_data() -> None:
    message = refuse("inspect", "model.onnx", "--value", "image", "--data", "none.npz", naming=("data 'none.npz'",))
    assert "calibration" not in message


def test_a_value_has_a_name() -> None:
    refuse("inspect", "model.onnx", "--value", "", naming=("the name of the value is empty",))


def test_passes_are_described_in_plain_text() -> None:
    plugins.load()
    assert len(PASSES) > 10
    for name in sorted(PASSES):
        shown = succeed("passes", "show", name)
        assert "``" not in shown
        assert ":class:" not in shown
    assert "``" not in succeed("passes")
