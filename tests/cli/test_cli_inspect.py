"""``qcompiler inspect``: the table of values, and one value."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qcompiler
from cli.command_line import images, refuse, succeed
from qcompiler import numerics
from qcompiler.backends import reference
from qcompiler.compare import compare
from qcompiler.compilation import read_model
from qcompiler.ir import Tensor, Value
from qcompiler.ops.quantized import parameters

COMPILE = ("compile", "model.onnx", "--target", "tpu-int8", "--data", "calib.npz")
MEASURE = ("--data", "calib.npz", "--against", "model.onnx")


@pytest.fixture
def build() -> str:
    succeed(*COMPILE, "-o", "build")
    return "build"


def row(text: str, name: str) -> str:
    """The value of the first row of this name."""
    match = re.search(rf"^{re.escape(name)}  +(.*)$", text, re.MULTILINE)
    assert match, text
    return match[1]


def entries(*arguments: object) -> list[Any]:
    found: list[Any] = json.loads(succeed("inspect", *arguments, "--json"))
    return found


def test_numbers_in_the_table_are_those_of_the_text(build: str) -> None:
    table, text = succeed("inspect", build), succeed("inspect", build, "--text")
    rows = re.findall(r"^(%\d+) +([a-z]\w*)", table, re.MULTILINE)
    assert len(rows) > 4
    for name, op in rows:
        assert re.search(rf"^  {name} = {op} ", text, re.MULTILINE)


def test_names_as_written_by_hand() -> None:
    lines = ("// qir 1", "graph @g(%x: f32[4]) -> (y: f32[4]) {", "%sum = add %x, %x -> f32[4]", "return %sum", "}")
    Path("hand.qir").write_text("\n".join(lines))
    assert re.search(r"^%sum +add ", succeed("inspect", "hand.qir"), re.MULTILINE)
    text = succeed("inspect", "hand.qir", "--value", "%sum")
    assert row(text, "used by") == "output y"
    assert text.endswith("\n%sum = add %x, %x -> f32[4]\n")
    refuse("inspect", "hand.qir", "--value", "%smu", naming=("no value '%smu'", "'%sum'"))


def test_a_value_in_a_kernel_and_its_kernel(build: str) -> None:
    found = entries(build, "--value", "relu1")
    assert [entry["op"].split()[0] for entry in found] == ["fused", "clamp"]
    kernel, inner = found
    assert (kernel["kernel"], inner["kernel"]) == ("", kernel["name"])
    assert inner["users"] == [f"{kernel['name']} fused"]
    assert kernel["layers"] == ["Conv_0", "Relu_1"]
    assert inner["text"] in kernel["text"].replace("\n  ", "\n")
    quantization = kernel["quantization"]
    assert (quantization["storage"], quantization["qmin"], quantization["qmax"]) == ("i8", -128, 127)
    scale, zero_point = quantization["scale"]["median"], quantization["zero_point"]["median"]
    assert quantization["real_maximum"] == pytest.approx(scale * (127 - zero_point), rel=1e-6)


def test_a_constant(build: str) -> None:
    """Its figures are those of the stored array."""
    (entry,) = entries(build, "--value", "w0")
    graph = qcompiler.load(build).graph
    (node,) = [n for n in graph.nodes if n.op.name == "constant" and getattr(n.result.origin, "name", "") == "w0"]
    stored = node.op.value.array  # type: ignore[attr-defined]
    constant = entry["constant"]
    assert constant["stored"]["count"] == stored.size
    assert (constant["stored"]["minimum"], constant["stored"]["maximum"]) == (stored.min(), stored.max())
    assert constant["at_minimum"] == np.mean(stored == -127)
    assert constant["at_maximum"] == np.mean(stored == 127)
    real = numerics.dequantize(stored, parameters(node.result.type))
    assert constant["real"]["mean"] == pytest.approx(float(real.astype(np.float64).mean()))
    text = succeed("inspect", build, "--value", "w0")
    assert "stored integers" in text
    assert row(text, "stored as") == "i8, -127 to 127"
    assert row(text, "blocks").startswith("4 of [1,")


def test_measured_figures_are_those_of_the_reference_interpreter(build: str) -> None:
    (entry, _) = entries(build, "--value", "relu1", "--data", "calib.npz")
    graph = qcompiler.load(build).graph
    held: dict[str, Tensor] = {}

    def observe(value: Value, tensor: Tensor) -> None:
        held[getattr(value.origin, "name", "")] = tensor

    reference.run(graph, {"image": images(16)}, observe)
    stored = held["relu1"].data
    numbers = entry["measured"]["numbers"]
    assert entry["measured"]["samples"] == 16
    assert numbers["stored"]["count"] == stored.size
    assert numbers["at_minimum"] == np.mean(stored == -128)
    assert numbers["at_maximum"] == np.mean(stored == 127) > 0
    assert sum(numbers["stored"]["histogram"]["counts"]) == stored.size
    assert entry["measured"]["sqnr_db"] is None


def test_sqnr_is_that_of_compare(build: str) -> None:
    original = read_model("model.onnx")
    expected = {d.name: d for d in compare(original, qcompiler.load(build).graph, {"image": images(16)})}
    for name in ("conv0", "relu1", "gemm4"):
        for entry in entries(build, "--value", name, *MEASURE):
            if entry["op"] != "dequantize":
                assert entry["measured"]["sqnr_db"] == pytest.approx(expected[name].sqnr_db, abs=1e-3)
                assert entry["measured"]["max_error"] == pytest.approx(expected[name].max_error, rel=1e-5)
    text = succeed("inspect", build, "--value", "relu1", *MEASURE)
    assert row(text, "SQNR to float") == f"{expected['relu1'].sqnr_db:.1f} dB"


def test_a_value_that_the_program_does_not_hold() -> None:
    """What a batch normalization reads is gone once it is folded; it follows from the result."""
    import onnx
    from models import ModelWriter

    w = ModelWriter(3)
    x = w.node("Relu", w.batch_norm(w.conv("image", 2, 4, bias=False), 4))
    onnx.save(w.model({"image": ["batch", 2, 6, 6]}, [w.conv(x, 4, 3)]), "model.onnx")
    succeed(*COMPILE, "-o", "folded")
    (entry,) = entries("folded", "--value", "conv0", *MEASURE)
    assert entry["recovered"]
    assert entry["sqnr_db"] > 20
    text = succeed("inspect", "folded", "--value", "conv0", *MEASURE)
    assert row(text, "held") == "no: it follows from the values that the program holds"
    refuse("inspect", "folded", "--value", "conv0", naming=("no value 'conv0'",))


def test_float_programs_and_simulations_are_measured() -> None:
    succeed(*COMPILE, "-o", "build", "--dump-ir", "dumps")
    (entry,) = entries("model.onnx", "--value", "conv0", *MEASURE)
    assert entry["measured"]["sqnr_db"] is None
    assert entry["measured"]["max_error"] == 0
    (calibrated,) = Path("dumps").glob("*_calibrate.qir")
    for entry in entries(calibrated, "--value", "relu1", *MEASURE):
        assert entry["measured"]["sqnr_db"] is None or entry["measured"]["sqnr_db"] > 20
        assert (entry["quantization"] is not None) == entry["op"].startswith("fake_quant")


def test_options_that_do_not_go_together(build: str) -> None:
    value = ("inspect", build, "--value", "relu1")
    refuse("inspect", build, "--json", naming=("--json belongs to --value or --accumulators",))
    refuse(*value, "--text", naming=("--value does not go with --text",))
    refuse(*value, "--html", "page.html", naming=("--value does not go with --html",))
    refuse(*value, "--against", "model.onnx", naming=("--data X.npz",))
    refuse(*value, "--against", "build", "--data", "calib.npz", naming=("is not float",))
    np.savez("two.npz", image=images(2), mask=images(2))
    refuse(*value, "--data", "two.npz", naming=("'mask'", "no input"))
