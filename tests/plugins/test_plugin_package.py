"""A plugin package, from its source to a compiled and exported program, through the command line alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from plugins.plugin_folder import refuse, run_command, succeed

NOTHING = ""
"""A module path without plugins."""


def acme_model(channels: int) -> onnx.ModelProto:
    """sqrt(s*s + x*x), where s is an operator of the domain com.acme: snake(x w)."""
    weights = np.random.default_rng(3).normal(0, 0.5, (channels, channels)).astype(np.float32)
    nodes = [
        helper.make_node("Gemm", ["x", "w"], ["a"], "Gemm_0", transB=1),
        helper.make_node("Snake", ["a"], ["s"], "Snake_0", domain="com.acme", alpha=2.0),
        helper.make_node("Mul", ["s", "s"], ["b"], "Mul_0"), helper.make_node("Mul", ["x", "x"], ["c"], "Mul_1"),
        helper.make_node("Add", ["b", "c"], ["d"], "Add_0"), helper.make_node("Sqrt", ["d"], ["y"], "Sqrt_0"),
    ]
    graph = helper.make_graph(
        nodes, "acme", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", channels])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", channels])],
        [numpy_helper.from_array(weights, "w")],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.acme", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def float_reference(x: NDArray[np.float32]) -> NDArray[np.float64]:
    """What the model of 8 channels computes, in float64."""
    (weights,) = acme_model(8).graph.initializer
    a = x.astype(np.float64) @ numpy_helper.to_array(weights).T.astype(np.float64)
    y: NDArray[np.float64] = np.hypot(a + np.sin(2 * a) ** 2 / 2, x)
    return y


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A folder with a model, one that does not suit the target, and calibration data."""
    onnx.save(acme_model(8), tmp_path / "model.onnx")
    onnx.save(acme_model(6), tmp_path / "six.onnx")
    x = np.random.default_rng(4).normal(0, 1, (32, 8)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=x)
    np.savez(tmp_path / "six.npz", x=x[:, :6])
    return tmp_path


def test_plugins_lists_what_the_package_registers(acme: Path) -> None:
    header, row = succeed(acme, "plugins").splitlines()
    assert header.split() == ["plugin", "distribution", "version", "module", "registers"]
    name, distribution, version, module, registers = row.split(maxsplit=4)
    assert (name, distribution, version, module) == ("acme", "acme-npu", "1.2.0", "acme_npu")
    assert set(registers.split("; ")) == {
        "passes: acme-recognize", "rules: acme-hypot-of-squares", "ops: hypot, snake",
        "arithmetic: hypot acme-hypot", "predicates: acme-lanes",
        "targets: acme-npu", "lowerings: onnx hypot", "exporters: acme-listing",
        "ONNX operators: com.acme.Snake",
    }


def test_passes_and_targets_find_it(acme: Path) -> None:
    assert "acme-recognize" in succeed(acme, "passes")
    assert "Name what the Acme NPU has an op for" in succeed(acme, "passes", "show", "acme-recognize")
    assert "acme-npu" in succeed(acme, "targets")
    shown = succeed(acme, "targets", "show", "acme-npu")
    assert "the last axis of the result fills vectors of 4 lanes" in shown
    assert "input and output channels are multiples of 4" in shown


def test_a_model_is_compiled_run_and_exported(acme: Path, workspace: Path) -> None:
    done = run_command(acme, "compile", "model.onnx", "-t", "acme-npu", "-d", "data.npz", "-o", "build", cwd=workspace)
    assert done.returncode == 0, done.stderr
    # hypot has an ONNX form, snake has none.
    assert "no lowering gives an ONNX form of snake" in done.stderr
    succeed(acme, "run", "build", "-d", "data.npz", "-o", "y.npz", cwd=workspace)
    x, y = np.load(workspace / "data.npz")["x"], np.load(workspace / "y.npz")["y"]
    expected = float_reference(x)
    step = (expected.max() - expected.min()) / 255
    assert np.abs(y - expected).max() < 6 * step
    text = (workspace / "build" / "program.qir").read_text()
    assert "hypot" in text
    assert "acme-hypot" in text
    exported = succeed(acme, "export", "build", "-o", "listing.acme", cwd=workspace)
    assert exported.startswith("wrote listing.acme as acme-listing")
    listing = json.loads((workspace / "listing.acme").read_text())
    assert listing["target"] == "acme-npu"
    (layers,) = [kernel["layers"] for kernel in listing["kernels"] if kernel["op"] == "hypot"]
    assert "Sqrt_0" in layers


def test_check_applies_its_predicates(acme: Path, workspace: Path) -> None:
    assert "0 illegal" in succeed(acme, "check", "model.onnx", "-t", "acme-npu", cwd=workspace)
    done = run_command(acme, "check", "six.onnx", "-t", "acme-npu", cwd=workspace)
    assert done.returncode == 2
    assert "vectors of 4 lanes (found 6 elements)" in done.stdout
    assert "multiples of 4 (found 6 input channels and 6 output channels)" in done.stdout
    error = refuse(acme, "compile", "six.onnx", "-t", "acme-npu", "-d", "six.npz", "-o", "b", cwd=workspace)
    assert "Sqrt_0" in error


def test_without_the_plugin_nothing_of_it_is_there(acme: Path, workspace: Path) -> None:
    for words in (["--no-plugins", "targets"], ["--no-plugins", "passes"]):
        assert "acme" not in succeed(acme, *words)
    assert "not loaded" in succeed(acme, "--no-plugins", "plugins")
    assert succeed(NOTHING, "plugins") == "No plugins are installed.\n"
    error = refuse(NOTHING, "compile", "model.onnx", "-t", "tpu-int8", "-o", "out", cwd=workspace)
    assert "'Snake_0' (com.acme.Snake): no plugin reads operators of the domain 'com.acme'" in error
    checked = run_command(NOTHING, "check", "model.onnx", "-t", "tpu-int8", cwd=workspace)
    assert checked.returncode == 2
    assert "no plugin reads operators of the domain 'com.acme'" in " ".join(checked.stdout.split())
    assert "unknown target 'acme-npu'" in refuse(NOTHING, "targets", "show", "acme-npu")
    assert "did you mean 'acme-npu'" in refuse(acme, "targets", "show", "acme-npo")
