"""Pooling, reductions, normalization and softmax against ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx_single_node import compare, node_model, op_names

from qcompiler.errors import QCompilerError
from qcompiler.frontends.onnx import import_model

F = np.float32
X = {"x": (F, ["N", 3, 9, 8])}


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng()


POOLS = [
    {"kernel_shape": [2, 3]},
    {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]},
    {"kernel_shape": [3, 2], "strides": [2, 3], "pads": [0, 1, 2, 0]},
    {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"},
    {"kernel_shape": [2, 2], "strides": [2, 1], "auto_pad": "SAME_LOWER"},
    {"kernel_shape": [2, 2], "strides": [2, 2], "auto_pad": "VALID"},
    {"kernel_shape": [2, 3], "strides": [2, 2], "ceil_mode": 1},
    {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "ceil_mode": 1},
    {"kernel_shape": [3, 3], "strides": [3, 3], "pads": [1, 0, 0, 1], "ceil_mode": 1},
]


@pytest.mark.parametrize("attributes", POOLS)
def test_max_pool(rng: np.random.Generator, attributes: dict[str, Any]) -> None:
    x = rng.standard_normal((2, 3, 9, 8)).astype(F) - F(5)
    assert op_names(compare(node_model("MaxPool", X, **attributes), {"x": x}, exact=True)) == ["max_pool2d"]


def test_max_pool_with_dilations(rng: np.random.Generator) -> None:
    model = node_model("MaxPool", X, kernel_shape=[2, 3], dilations=[3, 2], pads=[1, 0, 0, 2])
    compare(model, {"x": rng.standard_normal((2, 3, 9, 8)).astype(F)}, exact=True)


def test_max_pool_indices_are_refused() -> None:
    model = node_model("MaxPool", X, kernel_shape=[2, 2], outputs=["y", "indices"])
    with pytest.raises(QCompilerError, match=r"output 1 \('indices'\) is used"):
        import_model(model)


@pytest.mark.parametrize("attributes", POOLS)
@pytest.mark.parametrize("counted", [0, 1])
def test_average_pool(rng: np.random.Generator, attributes: dict[str, Any], counted: int) -> None:
    model = node_model("AveragePool", X, count_include_pad=counted, opset=19, **attributes)
    graph = compare(model, {"x": rng.standard_normal((2, 3, 9, 8)).astype(F)})
    padded = counted and (any(attributes.get("pads", [])) or "SAME" in attributes.get("auto_pad", ""))
    assert op_names(graph) == (["pad"] if padded else []) + ["average_pool2d"]


@pytest.mark.parametrize("op_type", ["MaxPool", "AveragePool"])
def test_pool_of_one_axis(rng: np.random.Generator, op_type: str) -> None:
    model = node_model(op_type, {"x": (F, ["N", 3, 12])}, kernel_shape=[3], strides=[2], pads=[1, 0])
    graph = compare(model, {"x": rng.standard_normal((2, 3, 12)).astype(F)})
    assert op_names(graph) == ["reshape", f"{op_type[:-4].lower()}_pool2d", "reshape"]


@pytest.mark.parametrize(
    ("op_type", "attributes"),
    [("MaxPool", {}), ("AveragePool", {"count_include_pad": 0}), ("AveragePool", {"count_include_pad": 1})],
)
def test_ceil_mode_leaves_out_a_window_in_the_padding(
    rng: np.random.Generator, op_type: str, attributes: dict[str, Any]
) -> None:
    # Height 5 and 1 row of padding on both sides: the windows start at 0, 2, 4, and not at 6, where no row is left.
    window: dict[str, Any] = {"kernel_shape": [2, 2], "strides": [2, 2], "pads": [1, 1, 1, 1], "ceil_mode": 1}
    x = rng.standard_normal((2, 1, 5, 6)).astype(F)
    graph = compare(node_model(op_type, {"x": (F, ["N", 1, 5, 6])}, **window, **attributes), {"x": x})
    assert graph.outputs[0].value.type.shape[2:] == (3, 4)


def test_ceil_mode_leaves_out_a_window_in_one_dimension(rng: np.random.Generator) -> None:
    # Size 4, padding 1 at the end, stride 4: the second window would start in the padding.
    model = node_model("MaxPool", {"x": (F, ["N", 1, 4])}, kernel_shape=[2], strides=[4], pads=[0, 1], ceil_mode=1)
    compare(model, {"x": rng.standard_normal((2, 1, 4)).astype(F)}, exact=True)


@pytest.mark.parametrize(("op_type", "op"), [("GlobalAveragePool", "mean"), ("GlobalMaxPool", "reduce_max")])
@pytest.mark.parametrize("shape", [(3, 7), (3, 4, 5)])
def test_global_pool(rng: np.random.Generator, op_type: str, op: str, shape: tuple[int, ...]) -> None:
    graph = compare(node_model(op_type, {"x": (F, ["N", *shape])}), {"x": rng.standard_normal((2, *shape)).astype(F)})
    assert op_names(graph) == [op]


REDUCTIONS = [
    "ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare"
]


@pytest.mark.parametrize("op_type", REDUCTIONS)
@pytest.mark.parametrize("opset", [11, 13, 18])
@pytest.mark.parametrize(("axes", "keepdims"), [([2, -1], 1), ([-2], 0), ([1], 1)])
def test_reduce(rng: np.random.Generator, op_type: str, opset: int, axes: list[int], keepdims: int) -> None:
    if opset >= 18 or (op_type == "ReduceSum" and opset >= 13):
        model = node_model(op_type, X, {"axes": np.asarray(axes)}, opset=opset, keepdims=keepdims)
    else:
        model = node_model(op_type, X, opset=opset, axes=axes, keepdims=keepdims)
    compare(model, {"x": rng.standard_normal((2, 3, 9, 8)).astype(F)})


def test_reduce_over_all_axes(rng: np.random.Generator) -> None:
    model = node_model("ReduceMean", {"x": (F, [2, 3, 4])}, keepdims=0)
    compare(model, {"x": rng.standard_normal((2, 3, 4)).astype(F)})


def test_reduce_with_empty_axes_does_nothing(rng: np.random.Generator) -> None:
    model = node_model("ReduceSum", X, {"axes": np.zeros(0, np.int64)}, noop_with_empty_axes=1)
    assert op_names(compare(model, {"x": rng.standard_normal((2, 3, 9, 8)).astype(F)}, exact=True)) == []


def test_reduce_over_the_batch_is_refused() -> None:
    with pytest.raises(QCompilerError, match="layer 'layer': mean: reduced axis 0 must be a fixed dimension, found N"):
        import_model(node_model("ReduceMean", X))


@pytest.mark.parametrize(("axis", "keepdims"), [(1, 1), (-1, 0)])
def test_argmax(rng: np.random.Generator, axis: int, keepdims: int) -> None:
    x = rng.integers(0, 3, (2, 3, 9, 8)).astype(F)  # many ties: the first wins
    compare(node_model("ArgMax", X, axis=axis, keepdims=keepdims), {"x": x}, exact=True)


def test_argmax_of_the_last_index_is_refused() -> None:
    with pytest.raises(QCompilerError, match="select_last_index=1"):
        import_model(node_model("ArgMax", X, axis=1, select_last_index=1))


@pytest.mark.parametrize("opset", [9, 14, 15])
@pytest.mark.parametrize("shape", [(3,), (3, 7), (3, 4, 5)])
def test_batch_normalization(rng: np.random.Generator, opset: int, shape: tuple[int, ...]) -> None:
    parameters = {
        "scale": rng.standard_normal(3), "shift": rng.standard_normal(3), "mean": rng.standard_normal(3),
        "variance": rng.uniform(0.1, 2, 3),
    }
    constants = {name: array.astype(F) for name, array in parameters.items()}
    model = node_model("BatchNormalization", {"x": (F, ["N", *shape])}, constants, opset=opset, epsilon=1e-3)
    graph = compare(model, {"x": rng.standard_normal((2, *shape)).astype(F)})
    assert op_names(graph) == ["batch_norm"]


def test_batch_normalization_in_training_is_refused() -> None:
    constants = {name: np.ones(3, F) for name in ("scale", "shift", "mean", "variance")}
    model = node_model("BatchNormalization", X, constants, opset=15, training_mode=1, outputs=["y", "m", "v"])
    with pytest.raises(QCompilerError, match="training mode"):
        import_model(model)


@pytest.mark.parametrize("op_type", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize(
    ("opset", "axis", "ops"),
    [
        (9, None, 3), (11, 1, 3), (11, 2, 3), (11, 3, 1), (11, -1, 1), (13, None, 1), (13, 1, 1), (17, -2, 1),
    ],
)
def test_softmax(rng: np.random.Generator, op_type: str, opset: int, axis: int | None, ops: int) -> None:
    attributes: dict[str, Any] = {} if axis is None else {"axis": axis}
    model = node_model(op_type, X, opset=opset, **attributes)
    graph = compare(model, {"x": 4 * rng.standard_normal((2, 3, 9, 8)).astype(F)})
    # The logarithm takes maximum, difference, exponentials, sum, logarithm, difference.
    assert len(op_names(graph)) == ops + (5 if op_type == "LogSoftmax" else 0)


def test_log_softmax_of_large_differences(rng: np.random.Generator) -> None:
    x = rng.uniform(-300, 300, (2, 3, 9, 8)).astype(F)  # softmax itself is 0 in float32
    compare(node_model("LogSoftmax", X, axis=-1), {"x": x})


@pytest.mark.parametrize("axis", [-1, 2])
@pytest.mark.parametrize("bias", [False, True])
def test_layer_normalization(rng: np.random.Generator, axis: int, bias: bool) -> None:
    shape = (9, 8)[axis % 4 - 2 :]
    constants = {"scale": rng.standard_normal(shape).astype(F)}
    if bias:
        constants["shift"] = rng.standard_normal(shape).astype(F)
    model = node_model("LayerNormalization", X, constants, axis=axis)
    compare(model, {"x": rng.standard_normal((2, 3, 9, 8)).astype(F)})
