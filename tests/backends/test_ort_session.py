"""Sessions: what is fetched, fed and refused, and what the emitted model looks like."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import qcompiler.ops  # noqa: F401 - registers the ops
from qcompiler.backends import reference
from qcompiler.backends.onnx_emitter import OnnxEmitter, needed_nodes
from qcompiler.backends.ort import Bypass, FloatSession, run_float
from qcompiler.errors import QCompilerError
from qcompiler.ir import Arithmetic, Builder, ConstantArray, Graph, SymbolicDim, TensorType, Value
from qcompiler.ir.scalar import F32, F64, I8, I64
from qcompiler.ir.types import Affine
from qcompiler.ops.activation import Clip, Relu
from qcompiler.ops.binary import Add, Mul
from qcompiler.ops.constant import Constant
from qcompiler.ops.contraction import Conv2D, Matmul
from qcompiler.ops.pooling import AveragePool2D, MaxPool2D
from qcompiler.ops.quantization import FakeQuant, Quantize
from qcompiler.ops.reduction import Mean
from qcompiler.ops.resize import Resize
from qcompiler.ops.shape import Concat, Expand, Reshape, Transpose
from qcompiler.ops.slicing import Gather, Pad

Array = NDArray[Any]

N = SymbolicDim("N")


def constant(build: Builder, array: Array) -> Value:
    return build(Constant(ConstantArray(array.astype(np.float32))), elem=F32)


def test_run_float_returns_outputs_by_name() -> None:
    graph = Graph()
    x = graph.add_input("x", TensorType((N, 2), F32))
    relu = Builder(graph)(Relu(), x)
    graph.set_outputs([("a", relu), ("b", x), ("c", relu)])
    data = np.array([[-1, 2]], np.float32)
    result = run_float(graph, {"x": data})
    assert list(result) == ["a", "b", "c"]
    np.testing.assert_array_equal(result["a"], [[0, 2]])
    np.testing.assert_array_equal(result["b"], data)
    np.testing.assert_array_equal(result["c"], [[0, 2]])


def test_fetch_of_inputs_constants_and_intermediates_in_order() -> None:
    graph = Graph()
    build = Builder(graph)
    x = graph.add_input("x", TensorType((N, 2), F32))
    w = constant(build, np.array([[2.0, 3.0]]))
    product = build(Mul(), x, w)
    same = build(FakeQuant(I8, -128, 127), product)
    twice = [build(Transpose((1, 0)), same) for _ in range(2)]
    turned = build(Transpose((1, 0)), w)
    fetch = [w, twice[1], product, x, same, twice[0], product, turned]
    data = np.array([[1, 2], [3, 4]], np.float32)
    expected = data * [[2, 3]]
    wanted = [[[2, 3]], expected.T, expected, data, expected, expected.T, expected, [[2], [3]]]
    for got, want in zip(FloatSession(graph, fetch).run({"x": data}), wanted, strict=True):
        np.testing.assert_array_equal(got, want)


def test_inputs_that_nothing_needs_may_be_left_out() -> None:
    graph = Graph()
    x, unused = (graph.add_input(name, TensorType((N,), F32)) for name in ("x", "unused"))
    build = Builder(graph)
    relu = build(Relu(), x)
    graph.set_outputs([("y", relu), ("z", build(Add(), x, unused))])
    data = np.array([-1, 1], np.float32)
    np.testing.assert_array_equal(FloatSession(graph, [relu]).run({"x": data})[0], [0, 1])
    with pytest.raises(QCompilerError, match="input 'unused' is missing"):
        FloatSession(graph).run({"x": data})


def test_session_is_independent_of_later_changes() -> None:
    graph = Graph()
    x = graph.add_input("x", TensorType((N,), F32))
    node = Builder(graph).create(Relu(), [x])
    graph.set_outputs([("y", node.result)])
    session = FloatSession(graph)
    node.set_op(Clip(5.0, 6.0))
    np.testing.assert_array_equal(session.run({"x": np.array([-1, 1], np.float32)})[0], [0, 1])


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ({}, "input 'x' is missing"),
        ({"x": np.zeros((1, 2), np.float32), "z": np.zeros(1)}, "no input 'z'"),
        ({"x": np.zeros((1, 2), np.float64)}, r"expected: f32\[N,2\]\n  found: float64\[1, 2\]"),
        ({"x": np.zeros((1, 3), np.float32)}, r"found: float32\[1, 3\]"),
        ({"x": np.zeros(2, np.float32)}, r"found: float32\[2\]"),
        ({"x": np.zeros((1, 2), np.float32), "y": np.zeros((4, 2), np.float32)}, "input 'y' does not fit"),
        ({"x": np.zeros((1, 2), np.float32), "y": np.zeros((3, 2), np.float32)}, "input 'y' does not fit"),
    ],
)
def test_feeds_that_do_not_fit(feeds: dict[str, Array], message: str) -> None:
    graph = Graph()
    x = graph.add_input("x", TensorType((N, 2), F32))
    y = graph.add_input("y", TensorType((2 * N, 2), F32))
    graph.set_outputs([("a", x), ("b", y)])
    with pytest.raises(QCompilerError, match=message):
        FloatSession(graph).run(feeds)


def test_quantized_ops_are_refused_by_layer() -> None:
    graph = Graph()
    x = graph.add_input("x", TensorType((N,), F32))
    build = Builder(graph, loc=("conv_7",))
    graph.set_outputs([("y", build(Quantize(Arithmetic("affine")), x, elem=Affine.per_tensor(I8, 0.1)))])
    with pytest.raises(QCompilerError, match=r"layer 'conv_7': quantize .* simulation ends at realize"):
        FloatSession(graph)


def test_unsupported_formats_name_the_layer() -> None:
    # ONNX Runtime has no float64 convolution on the CPU.
    graph = Graph()
    x = graph.add_input("x", TensorType((N, 1, 4, 4), F64))
    w = graph.add_input("w", TensorType((1, 1, 3, 3), F64))
    graph.set_outputs([("y", Builder(graph, loc=("stem",))(Conv2D(), x, w))])
    with pytest.raises(QCompilerError, match="stem"):
        FloatSession(graph)


def test_failures_at_run_time_are_reported() -> None:
    graph = Graph()
    x = graph.add_input("x", TensorType((3,), F32))
    index = graph.add_input("i", TensorType((N,), I64))
    graph.set_outputs([("y", Builder(graph, loc=("lookup",))(Gather(0), x, index))])
    with pytest.raises(QCompilerError, match="lookup"):
        FloatSession(graph).run({"x": np.zeros(3, np.float32), "i": np.array([3])})


def channels_last_network(build: Builder, x: Value, rng: np.random.Generator) -> Value:
    """Every op that the emitter runs channels first, one behind the other."""
    conv = build(Conv2D(pads=(1, 1, 1, 1), layout="NHWC"), x, constant(build, rng.normal(size=(4, 3, 3, 3))))
    scaled = build(Mul(), constant(build, rng.normal(size=4)), build(Relu(), conv))
    shifted = build(Add(), scaled, constant(build, rng.normal(size=(1, 1, 5, 4))))
    gated = build(Mul(), shifted, build(Mean((1, 2), True), shifted))
    joined = build(Concat(-1), gated, conv)
    padded = build(Pad((0, 1, 2, 0), (0, 0, 1, 3), "constant", -1.0), joined)
    pooled = build(MaxPool2D((2, 3), layout="NHWC"), padded)
    smaller = build(AveragePool2D((2, 2), (2, 2), layout="NHWC"), pooled)
    return build(Resize((1, 2), (7, 5), "linear"), smaller)


def test_channels_last_networks_are_transposed_at_their_ends_only() -> None:
    rng = np.random.default_rng(0)
    graph = Graph()
    x = graph.add_input("x", TensorType((N, 6, 5, 3), F32))
    y = channels_last_network(Builder(graph), x, rng)
    graph.set_outputs([("y", y)])
    emitter = OnnxEmitter(graph, Bypass(), None)
    emitter.emit_nodes(needed_nodes(graph, [y]))
    model = emitter.model([(emitter.name(y), y.type)])
    assert sum(node.op_type == "Transpose" for node in model.graph.node) == 2
    for batch in (1, 3):
        feeds = {"x": rng.normal(size=(batch, 6, 5, 3)).astype(np.float32)}
        np.testing.assert_allclose(
            run_float(graph, feeds)["y"], reference.run(graph, feeds)["y"], rtol=1e-5, atol=1e-5
        )


@pytest.mark.parametrize(
    ("axes", "keepdims"), [((1,), True), ((1,), False), ((3,), False), ((1, 2), False), ((1, 3), False)]
)
def test_reductions_of_channels_last_values(axes: tuple[int, ...], keepdims: bool) -> None:
    rng = np.random.default_rng(1)
    graph = Graph()
    build = Builder(graph)
    x = graph.add_input("x", TensorType((N, 4, 5, 2), F32))
    conv = build(Conv2D(layout="NHWC"), x, constant(build, rng.normal(size=(3, 1, 1, 2))))
    graph.set_outputs([("y", build(Mean(axes, keepdims), conv))])
    feeds = {"x": rng.normal(size=(2, 4, 5, 2)).astype(np.float32)}
    np.testing.assert_allclose(run_float(graph, feeds)["y"], reference.run(graph, feeds)["y"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_pads_as_long_as_the_kernel(layout: str) -> None:
    # A ceil-mode pool has them; ONNX Runtime refuses them.
    graph = Graph()
    build = Builder(graph)
    x = graph.add_input("x", TensorType((N, 5, 5, 2) if layout == "NHWC" else (N, 2, 5, 5), F32))
    average = build(AveragePool2D((1, 2), (3, 3), (0, 0, 1, 2), layout), x)
    largest = build(MaxPool2D((2, 2), (1, 1), (1, 1), (0, 0, 0, 1), layout), x)
    padded = build(MaxPool2D((2, 2), (3, 3), (1, 1), (0, 0, 2, 2), layout), x)
    graph.set_outputs([("average", average), ("largest", largest), ("padded", padded)])
    # Negative numbers: a padding of 0 would win.
    numbers = -np.random.default_rng(2).uniform(1, 2, (2, 2, 5, 5)).astype(np.float32)
    feeds = {"x": numbers.transpose(0, 2, 3, 1) if layout == "NHWC" else numbers}
    actual, expected = run_float(graph, feeds), reference.run(graph, feeds)
    np.testing.assert_allclose(actual["average"], expected["average"], rtol=1e-6)
    np.testing.assert_array_equal(actual["largest"], expected["largest"])
    np.testing.assert_array_equal(actual["padded"], expected["padded"])


def test_batch_is_read_off_a_merged_dimension() -> None:
    graph = Graph()
    build = Builder(graph)
    x = graph.add_input("x", TensorType((3 * N, 2), F32))
    split = build(Reshape((N, 3, 2)), x)
    row = build(Expand((2 * N, 1, 4)), constant(build, np.arange(4.0)))
    graph.set_outputs([("split", split), ("row", row)])
    feeds = {"x": np.arange(12, dtype=np.float32).reshape(6, 2)}
    actual, expected = run_float(graph, feeds), reference.run(graph, feeds)
    for name in expected:
        np.testing.assert_array_equal(actual[name], expected[name])


def test_static_graphs() -> None:
    graph = Graph()
    build = Builder(graph)
    x = graph.add_input("x", TensorType((2, 3), F32))
    w = constant(build, np.eye(3)[:, :2])
    empty = build(Reshape((0, 4)), constant(build, np.zeros((2, 0))))
    graph.set_outputs([("y", build(Matmul(), x, w)), ("empty", empty)])
    result = run_float(graph, {"x": np.arange(6, dtype=np.float32).reshape(2, 3)})
    np.testing.assert_array_equal(result["y"], [[0, 1], [3, 4]])
    assert result["empty"].shape == (0, 4)


def test_large_constants_are_handed_over_without_a_copy() -> None:
    graph = Graph()
    build = Builder(graph)
    x = graph.add_input("x", TensorType((N, 100), F32))
    array = ConstantArray(np.random.default_rng(3).normal(size=(100, 50)).astype(np.float32))
    y = build(Matmul(), x, build(Constant(array), elem=F32))
    emitter = OnnxEmitter(graph, Bypass(), None)
    emitter.emit_nodes(needed_nodes(graph, [y]))
    model = emitter.model([(emitter.name(y), y.type)])
    (handed,) = emitter.large_initializers.values()
    assert np.shares_memory(handed, array.array)
    assert model.ByteSize() < array.array.nbytes / 10
