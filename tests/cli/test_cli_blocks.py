"""Programs of block floating point on the command line: mantissas and exponents, both."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import qcompiler
from cli.command_line import images, invoke, refuse, succeed
from qcompiler import BlockArray
from qcompiler.backends import reference
from qcompiler.cli.array_files import named_arrays
from qcompiler.compare import compare
from qcompiler.compilation import read_model
from qcompiler.errors import QCompilerError
from qcompiler.ir import Tensor, Value

TARGETS = ["dsp-bfp16", "dsp-bfp8"]
"""Targets that hold every result in blocks."""
MEASURE = ("--data", "calib.npz", "--against", "model.onnx")


def build(target: str) -> str:
    text = succeed("compile", "model.onnx", "--target", target, "--data", "calib.npz", "-o", target)
    assert "slow" not in text
    return target


def row(text: str, name: str) -> str:
    """The value of the first row of this name."""
    match = re.search(rf"^{re.escape(name)}  +(.*)$", text, re.MULTILINE)
    assert match, text
    return match[1]


def entries(*arguments: object) -> list[Any]:
    found: list[Any] = json.loads(succeed("inspect", *arguments, "--json"))
    return found


@pytest.mark.parametrize("target", TARGETS)
def test_run_writes_mantissas_and_exponents(target: str) -> None:
    folder = build(target)
    x = images(70, seed=1)
    np.savez("x.npz", image=x)
    printed = succeed("run", folder, "--data", "x.npz", "-o", "stored.npz", "--quantized")
    program = qcompiler.load(folder)
    (name,) = (o.name for o in program.graph.outputs)
    pair = program.run(x, quantized=True)[name]
    with np.load("stored.npz") as written:
        assert sorted(written.files) == [f"{name}.exponents", f"{name}.mantissas"]
        for part, array in pair._asdict().items():
            assert written[f"{name}.{part}"].dtype == array.dtype
            np.testing.assert_array_equal(written[f"{name}.{part}"], array)
    assert re.search(rf"^{name}\.mantissas +{pair.mantissas.dtype} +70x3$", printed, re.MULTILINE)
    assert re.search(rf"^{name}\.exponents +int32 +70x1$", printed, re.MULTILINE)
    succeed("run", folder, "--data", "x.npz", "-o", "real.npz")
    with np.load("real.npz") as written:
        assert written.files == [name]
        values = pair.mantissas * 2.0 ** pair.exponents.astype(np.float64)
        np.testing.assert_array_equal(written[name], values.astype(np.float32))


def test_two_arrays_of_one_name_are_refused() -> None:
    pair = BlockArray(np.zeros((1, 2), np.int8), np.zeros((1, 1), np.int32))
    assert list(named_arrays({"y": pair, "z": pair.mantissas})) == ["y.mantissas", "y.exponents", "z"]
    with pytest.raises(QCompilerError, match=r"called 'y\.exponents'"):
        named_arrays({"y": pair, "y.exponents": pair.exponents})


def test_the_table_of_a_program_names_both_arrays() -> None:
    text = succeed("inspect", build("dsp-bfp8"))
    assert re.search(r"^input +image .*: i8\[N,2,6,6\] mantissas, i32\[N,2,6,1\] exponents$", text, re.MULTILINE)
    assert re.search(r"^output +gemm4 .*: i8\[N,3\] mantissas, i32\[N,1\] exponents$", text, re.MULTILINE)


def test_a_constant() -> None:
    """Its figures are those of the stored arrays."""
    folder = build("npu-bfp16")
    (entry,) = entries(folder, "--value", "w0")
    graph = qcompiler.load(folder).graph
    (node,) = [n for n in graph.nodes if n.op.name == "constant" and getattr(n.result.origin, "name", "") == "w0"]
    mantissas, exponents = node.op.value.array, node.op.exponents.array  # type: ignore[attr-defined]
    constant = entry["constant"]
    assert constant["stored"]["count"] == mantissas.size
    assert (constant["stored"]["minimum"], constant["stored"]["maximum"]) == (mantissas.min(), mantissas.max())
    assert constant["exponents"]["count"] == exponents.size
    assert (constant["exponents"]["minimum"], constant["exponents"]["maximum"]) == (exponents.min(), exponents.max())
    assert (entry["quantization"], entry["block"]["blocks"]) == (None, "[1,1,1,8]")
    text = succeed("inspect", folder, "--value", "w0")
    assert row(text, "stored as") == "i8 mantissas, -128 to 127, and exponents"
    assert row(text, "format") == "m8e8, overflow=raise"
    assert row(text, "mantissas").startswith(f"{mantissas.min()} to {mantissas.max()}, mean")
    assert row(text, "block exponents").startswith(f"{exponents.size}, {exponents.min()} to {exponents.max()}, mean")
    for title in ("mantissas", "block exponents", "real numbers"):
        assert re.search(rf"^{title} +share", text, re.MULTILINE)


def test_measured_figures_are_those_of_the_reference_interpreter() -> None:
    folder = build("dsp-bfp16")
    found = entries(folder, "--value", "relu1", "--data", "calib.npz")
    graph = qcompiler.load(folder).graph
    held: list[Tensor] = []

    def observe(value: Value, tensor: Tensor) -> None:
        if getattr(value.origin, "name", "") == "relu1":
            held.append(tensor)

    reference.run(graph, {"image": images(16)}, observe)
    assert found[0]["op"].startswith("fused")
    numbers, pair = found[0]["measured"]["numbers"], held[-1].block
    assert numbers["stored"]["count"] == pair.mantissas.size
    assert numbers["stored"]["maximum"] == pair.mantissas.max()
    assert numbers["at_maximum"] == np.mean(pair.mantissas == 32767)
    # One exponent a sample.
    assert numbers["exponents"]["count"] == pair.exponents.size == 16
    assert numbers["exponents"]["minimum"] == pair.exponents.min()
    assert numbers["real"]["maximum"] == (pair.mantissas * 2.0 ** pair.exponents).max()


@pytest.mark.parametrize("target", [*TARGETS, "npu-bfp16", "mx-fp8"])
def test_sqnr_is_that_of_compare(target: str) -> None:
    folder = build(target)
    original = read_model("model.onnx")
    expected = {d.name: d for d in compare(original, qcompiler.load(folder).graph, {"image": images(16)})}
    found = entries(folder, "--value", "relu1", *MEASURE)
    last = found[-1]["measured"]
    assert last["sqnr_db"] == pytest.approx(expected["relu1"].sqnr_db, abs=1e-9)
    assert last["max_error"] == pytest.approx(expected["relu1"].max_error, rel=1e-12)
    text = succeed("inspect", folder, "--value", "relu1", *MEASURE)
    assert f"{found[0]['measured']['sqnr_db']:.1f} dB" in row(text, "SQNR to float")


def test_a_simulation_is_measured_and_described() -> None:
    compile_model = ("compile", "model.onnx", "--target", "npu-bfp16", "--data", "calib.npz", "-o", "build")
    succeed(*compile_model, "--dump-ir", "dumps")
    (calibrated,) = Path("dumps").glob("*_calibrate.qir")
    found = entries(calibrated, "--value", "relu1", *MEASURE)
    assert {entry["op"].split()[0] for entry in found} == {"relu", "fake_block"}
    for entry in found:
        assert (entry["block"] is not None) == entry["op"].startswith("fake_block")
        assert entry["measured"]["sqnr_db"] > 20
    refuse("inspect", calibrated, "--value", "relu1", "--data", "calib.npz", "--against", calibrated,
           naming=("is not float", "fake_block"))


def test_dumps_and_text_hold_both_arrays() -> None:
    folder = build("npu-bfp16")
    text = succeed("inspect", folder, "--text")
    constants = [line for line in text.splitlines() if "= constant" in line and "-> bf<" in line]
    assert constants
    assert all(re.search(r"value = \S+, exponents = \S+", line) for line in constants)


def test_fixed_exponents_are_told_apart() -> None:
    from models import ModelWriter

    w = ModelWriter(3)
    onnx.save(w.model({"image": ["batch", 2, 6, 6]}, [w.node("Sigmoid", w.conv("image", 2, 4))]), "model.onnx")
    folder = build("dsp-bfp16")
    found = [e for e in entries(folder, "--value", "conv0") if e["block"] and e["block"]["fixed_exponents"]]
    assert found
    exponent = found[0]["block"]["fixed_exponents"]["median"]
    text = succeed("inspect", folder, "--value", found[0]["name"])
    assert row(text, "exponents") == f"fixed: {exponent:.0f}"
    free = succeed("inspect", folder, "--value", "image")
    assert "found at run time, -128 to 127" in free


def test_the_page() -> None:
    folder = build("npu-bfp16")
    succeed("inspect", folder, "--html", "page.html", *("--against", "model.onnx", "--data", "calib.npz"))
    page = Path("page.html").read_text(encoding="utf-8")
    assert "blocks by exponent" in page
    assert '"sqnr_db"' in page


def test_diff_tells_what_differs() -> None:
    for target in ("dsp-bfp16", "npu-bfp16"):
        build(target)
    result = invoke("diff", "dsp-bfp16", "npu-bfp16")
    assert "format mantissa: 16 -> 8" in result.stdout
    assert "format scale: headroom -> floor" in result.stdout
