"""What exporters write, compiled for tpu-int8: each case once went wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

import qcompiler
from qcompiler.compare import ValueDifference, activations, compare, sqnr_db
from qcompiler.compilation import read_model

Array = NDArray[Any]
F = np.float32


def node(op_type: str, inputs: Sequence[str], output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op_type, list(inputs), [output], name=f"{output}/{op_type}", **attributes)


def model_of(
    nodes: Sequence[onnx.NodeProto], shape: Sequence[int], constants: Mapping[str, Array] | None = None
) -> onnx.ModelProto:
    """A model from ``x`` of [N, *shape] to ``y``, opset 17."""
    graph = helper.make_graph(
        list(nodes), "exported",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", *shape])],
        [helper.make_value_info("y", onnx.TypeProto())],
        [numpy_helper.from_array(array, name) for name, array in (constants or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def compiled(model: onnx.ModelProto, x: Array) -> qcompiler.Program:
    return qcompiler.compile(model, target="tpu-int8", data={"x": x}, check_float=True)


def error_db(model: onnx.ModelProto, program: qcompiler.Program, x: Array) -> float:
    """SQNR against ONNX Runtime's float result of the same shape."""
    (expected,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})
    found = program.run({"x": x})["y"]
    assert found.shape == expected.shape
    return sqnr_db(expected, found)


def differences(model: onnx.ModelProto, x: Array) -> dict[str, ValueDifference]:
    """Differences of all activations; there must be one for each."""
    original = read_model(model)
    found = {d.name: d for d in compare(original, compiled(model, x).graph, {"x": x})}
    assert set(found) == set(activations(original))
    return found


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng()


def test_log_softmax_of_a_confident_classifier(rng: np.random.Generator) -> None:
    # Probabilities under 1/512 are 0 in 8 bits, and their logarithm is lost. The float check failed, too.
    model = model_of([node("MatMul", "xw", "g"), node("LogSoftmax", "g", "y", axis=-1)], [16],
                     {"w": (3 * rng.standard_normal((16, 10))).astype(F)})
    x = rng.standard_normal((64, 16)).astype(F)
    program = compiled(model, x)
    assert error_db(model, program, x) > 35
    assert program.coverage.host_nodes == 0


@pytest.mark.parametrize("lowest", [-np.inf, np.finfo(F).min])
def test_max_pool_behind_padding_with_the_lowest_number(rng: np.random.Generator, lowest: float) -> None:
    # SAME padding as PyTorch models write it; the padding's value must not stretch the calibrated range.
    model = model_of(
        [node("Pad", ["x", "pads", "lowest"], "p"), node("MaxPool", "p", "y", kernel_shape=[3, 3], strides=[2, 2])],
        [3, 8, 8], {"pads": np.asarray([0, 0, 0, 0, 0, 0, 1, 1]), "lowest": np.asarray(lowest, F)},
    )
    x = rng.standard_normal((16, 3, 8, 8)).astype(F)
    program = compiled(model, x)
    assert error_db(model, program, x) > 35
    assert "pad" not in program.figures["ops"]


def test_a_window_of_padding_alone_keeps_the_pad(rng: np.random.Generator) -> None:
    constants = {"pads": np.asarray([0, 0, 2, 0, 0, 0, 0, 0]), "lowest": np.asarray(np.finfo(F).min)}
    nodes = [node("Pad", ["x", "pads", "lowest"], "p"), node("MaxPool", "p", "y", kernel_shape=[2, 2])]
    graph = compiled(model_of(nodes, [1, 4, 4], constants), rng.standard_normal((4, 1, 4, 4)).astype(F)).graph
    assert "pad" in [n.op.name for n in graph.nodes]


@pytest.mark.parametrize("kind", ["MaxPool", "AveragePool"])
def test_ceil_mode_with_padding(rng: np.random.Generator, kind: str) -> None:
    # The fourth row of windows would start in the padding; PyTorch and ONNX Runtime leave it out.
    attributes = {"count_include_pad": 1} if kind == "AveragePool" else {}
    model = model_of(
        [node(kind, "x", "y", kernel_shape=[2, 2], strides=[2, 2], pads=[1, 1, 1, 1], ceil_mode=1, **attributes)],
        [3, 5, 6],
    )
    x = rng.standard_normal((16, 3, 5, 6)).astype(F)
    assert error_db(model, compiled(model, x), x) > 30


def test_pools_between_one_dimensional_convolutions_are_compared(rng: np.random.Generator) -> None:
    model = model_of(
        [
            node("Conv", ["x", "v"], "c"), node("Relu", "c", "r"),
            node("MaxPool", "r", "m", kernel_shape=[2], strides=[2]),
            node("Conv", ["m", "w"], "d"), node("AveragePool", "d", "a", kernel_shape=[2]),
            node("Conv", ["a", "w"], "y"),
        ],
        [3, 32], {"v": rng.standard_normal((4, 3, 3)).astype(F), "w": rng.standard_normal((4, 4, 3)).astype(F)},
    )
    found = differences(model, rng.standard_normal((16, 3, 32)).astype(F))
    assert not found["m"].recovered
    assert not found["a"].recovered
    assert min(d.sqnr_db for d in found.values()) > 25


def test_steps_inside_a_named_function_are_compared(rng: np.random.Generator) -> None:
    model = model_of(
        [
            node("Conv", ["x", "w"], "c"), node("Sigmoid", "c", "s"), node("Mul", "cs", "silu"),
            node("Conv", ["silu", "w"], "d"), node("Softplus", "d", "p"), node("Tanh", "p", "t"),
            node("Mul", "dt", "y"),
        ],
        [3, 8, 8], {"w": rng.standard_normal((3, 3, 3, 3)).astype(F)},
    )
    x = rng.standard_normal((16, 3, 8, 8)).astype(F)
    found = differences(model, x)
    assert {name for name, d in found.items() if d.recovered} == {"s", "p", "t"}
    assert min(d.sqnr_db for d in found.values()) > 25
    assert compiled(model, x).figures["ops"]["lut"] == 2


def test_a_step_behind_a_limited_value_is_not_compared(rng: np.random.Generator) -> None:
    # relu and clip become one clamp, so the sum is held up to 1: nothing tells what relu alone would give.
    model = model_of(
        [
            node("Conv", ["x", "w"], "c"), node("Conv", ["x", "v"], "d"), node("Add", "cd", "a"),
            node("Relu", "a", "r"), node("Clip", ["r", "low", "high"], "k"), node("Conv", ["k", "w"], "y"),
        ],
        [3, 8, 8],
        {
            "v": rng.standard_normal((3, 3, 3, 3)).astype(F), "w": rng.standard_normal((3, 3, 3, 3)).astype(F),
            "low": np.asarray(0, F), "high": np.asarray(1, F),
        },
    )
    x = rng.standard_normal((16, 3, 8, 8)).astype(F)
    found = {d.name: d for d in compare(read_model(model), compiled(model, x).graph, {"x": x})}
    assert set(found) == {"x", "c", "d", "a", "k", "y"}
    assert min(d.sqnr_db for d in found.values()) > 25


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_no_samples_give_no_results(rng: np.random.Generator, groups: int) -> None:
    model = model_of(
        [node("Conv", ["x", "w"], "c", group=groups), node("GlobalAveragePool", "c", "y")], [4, 8, 8],
        {"w": rng.standard_normal((8, 4 // groups, 3, 3)).astype(F)},
    )
    x = rng.standard_normal((4, 4, 8, 8)).astype(F)
    assert compiled(model, x).run({"x": x[:0]})["y"].shape == (0, 8, 1, 1)
