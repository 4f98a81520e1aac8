"""Simulated quantization in ONNX Runtime equals ``FakeQuant.evaluate`` in every bit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import qcompiler.ops  # noqa: F401 - registers the ops
from qcompiler.backends.ort import Bypass, FloatSession
from qcompiler.errors import QCompilerError
from qcompiler.ir import Builder, ConstantArray, Graph, Original, Scalar, Shape, SymbolicDim, Tensor, TensorType, Value
from qcompiler.ir.scalar import F32, F64, I4, I8, I16, I32, U8
from qcompiler.ops.activation import Relu
from qcompiler.ops.binary import Add
from qcompiler.ops.constant import Constant
from qcompiler.ops.contraction import Conv2D, Matmul
from qcompiler.ops.normalization import Softmax
from qcompiler.ops.quantization import FakeQuant
from qcompiler.ops.shape import Concat, Transpose

Array = NDArray[Any]

N = SymbolicDim("N")
FORMATS = [
    (I8, -128, 127, 3), (I8, -127, 127, 0), (U8, 0, 255, 0), (U8, 0, 255, 128), (I4, -8, 7, -2),
    (I16, -32768, 32767, 9),
    # Too wide for float32: the limits and the product need float64.
    (I32, -(2**31), 2**31 - 1, 0), (I32, -(2**30), 2**31 - 1, 1000),
]


def calibrated(storage: Scalar, qmin: int, qmax: int, scale: Any, zero_point: Any, blocks: Shape = ()) -> FakeQuant:
    scales = np.asarray(scale, np.float32)
    zeros = np.broadcast_to(np.asarray(zero_point, np.int64), scales.shape)
    return FakeQuant(
        storage, qmin, qmax, blocks, scale=ConstantArray(scales), zero_point=ConstantArray(zeros)
    )


def graph_of(op: FakeQuant, shape: Shape, elem: Scalar = F32) -> Graph:
    graph = Graph()
    x = graph.add_input("x", TensorType(shape, elem))
    graph.set_outputs([("y", Builder(graph)(op, x))])
    return graph


def evaluate(op: FakeQuant, x: Array, elem: Scalar = F32) -> Array:
    type = TensorType(x.shape, elem)
    with np.errstate(all="ignore"):
        (result,) = op.evaluate([Tensor(type, x)], [type])
    return result


def assert_same_bits(actual: Array, expected: Array) -> None:
    """Equality that tells 0 from -0 and compares NaN."""
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    np.testing.assert_array_equal(np.isnan(actual), np.isnan(expected))
    numbers = ~np.isnan(expected)
    np.testing.assert_array_equal(actual[numbers], expected[numbers])
    np.testing.assert_array_equal(np.signbit(actual[numbers]), np.signbit(expected[numbers]))


def awkward_numbers(rng: np.random.Generator, scale: float, qmin: int, qmax: int, zero_point: int) -> Array:
    """Ties, both ends of the range and beyond, signed zeros, subnormals, infinities and NaN."""
    ties = np.arange(-300, 300) * 0.5 * scale
    ends = (np.array([qmin, qmax]) - zero_point)[:, None] + np.arange(-3, 4) * 0.5
    special = [0.0, -0.0, -0.3 * scale, 1e-40, -1e-40, 1e30, -1e30, np.inf, -np.inf, np.nan]
    return np.concatenate([rng.normal(size=500) * 100 * scale, ties, ends.ravel() * scale, special])


@pytest.mark.parametrize("elem", [F32, F64], ids=str)
@pytest.mark.parametrize(("storage", "qmin", "qmax", "zero_point"), FORMATS)
def test_every_bit_agrees(storage: Scalar, qmin: int, qmax: int, zero_point: int, elem: Scalar) -> None:
    rng = np.random.default_rng(qmax)
    for scale in (0.037, 1.0, 2.0**-7, 1e-25, float(rng.uniform(0.001, 0.1))):
        op = calibrated(storage, qmin, qmax, scale, zero_point)
        x = awkward_numbers(rng, float(np.float32(scale)), qmin, qmax, zero_point).astype(elem.dtype)
        (y,) = FloatSession(graph_of(op, (N,), elem)).run({"x": x})
        assert_same_bits(y, evaluate(op, x, elem))


@settings(max_examples=30, deadline=None)
@given(
    scale=st.floats(2.0**-20, 2.0**20, width=32),
    zero_point=st.integers(-128, 127),
    x=st.lists(st.floats(width=32), min_size=1, max_size=40),
)
def test_any_float_agrees(scale: float, zero_point: int, x: list[float]) -> None:
    op = calibrated(I8, -128, 127, scale, zero_point)
    data = np.array(x, np.float32)
    assert_same_bits(FloatSession(graph_of(op, (N,))).run({"x": data})[0], evaluate(op, data))


@pytest.mark.parametrize(
    ("shape", "blocks", "grid"),
    [
        ((N, 6), (N, 1), (1, 6)),
        ((N, 6), (N, 2), (1, 3)),
        ((N, 4, 6), (N, 2, 3), (1, 2, 2)),
        ((N, 2, 3, 4), (N, 2, 3, 1), (1, 1, 1, 4)),
    ],
)
@pytest.mark.parametrize("fixed", [False, True])
def test_blocks(shape: Shape, blocks: Shape, grid: tuple[int, ...], fixed: bool) -> None:
    rng = np.random.default_rng(len(grid))
    concrete = tuple(d if isinstance(d, int) else 3 for d in shape)
    x = rng.normal(size=concrete).astype(np.float32) * 5
    scale, zero_point = rng.uniform(0.01, 0.1, grid), rng.integers(-128, 127, grid)
    if fixed:
        op = calibrated(I8, -128, 127, scale, zero_point, tuple(b if isinstance(b, int) else 3 for b in blocks))
        graph = Graph()
        build = Builder(graph)
        graph.set_outputs([("y", build(op, build(Constant(ConstantArray(x)), elem=F32)))])
        (y,) = FloatSession(graph).run({})
    else:
        op = calibrated(I8, -128, 127, scale, zero_point, blocks)
        (y,) = FloatSession(graph_of(op, shape)).run({"x": x})
    assert_same_bits(y, evaluate(calibrated(I8, -128, 127, scale, zero_point, blocks), x))


def test_uncalibrated_is_the_identity() -> None:
    x = np.array([0.1, -0.0, np.nan], np.float32)
    assert_same_bits(FloatSession(graph_of(FakeQuant(I8, -128, 127), (N,))).run({"x": x})[0], x)


class Network:
    """conv -> fake_quant -> relu -> concat -> matmul -> fake_quant, channels last, with a quantized weight."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.graph = Graph()
        build = Builder(self.graph)
        self.x = self.graph.add_input("x", TensorType((N, 6, 5, 3), F32))
        self.weights = rng.normal(size=(4, 3, 3, 3)).astype(np.float32)
        scale = np.abs(self.weights).max((1, 2, 3), keepdims=True) / 127
        self.weight_op = calibrated(I8, -127, 127, scale, 0, (1, 3, 3, 3))
        constant = build(Constant(ConstantArray(self.weights)), elem=F32, origin=Original("w"))
        self.w = build(self.weight_op, constant, origin=Original("w"))
        self.conv = build(Conv2D(pads=(1, 1, 1, 1), layout="NHWC"), self.x, self.w, origin=Original("conv"))
        self.act_op = calibrated(I8, -128, 127, 0.3, -5)
        self.act = build(self.act_op, self.conv)
        joined = build(Concat(3), build(Relu(), self.act), self.act)
        self.matrix = ConstantArray(rng.normal(size=(8, 7)).astype(np.float32))
        product = build(Matmul(), joined, build(Constant(self.matrix), elem=F32))
        self.joined, self.product = joined, product
        self.end_op = calibrated(U8, 0, 255, 0.2, 128)
        self.end = build(self.end_op, product, origin=Original("end"))
        self.graph.set_outputs([("y", self.end)])
        self.feeds = {"x": rng.normal(size=(2, 6, 5, 3)).astype(np.float32)}

    def run(self, fetch: Sequence[Value], bypass: Bypass = Bypass(), bits: int | None = None) -> list[Array]:  # noqa: B008
        return FloatSession(self.graph, fetch, bypass=bypass, bits=bits).run(self.feeds)


@pytest.fixture
def network() -> Network:
    return Network(np.random.default_rng(5))


def test_agrees_inside_a_network(network: Network) -> None:
    conv, act, product, end, w = network.run([network.conv, network.act, network.product, network.end, network.w])
    assert_same_bits(act, evaluate(network.act_op, conv))
    assert_same_bits(end, evaluate(network.end_op, product))
    assert_same_bits(w, evaluate(network.weight_op, network.weights))


def test_scale_is_not_moved_into_the_next_product() -> None:
    # ONNX Runtime would multiply the product by the scale, rather than its operand, and round elsewhere.
    rng = np.random.default_rng(0)
    matrix = ConstantArray(rng.normal(size=(64, 16)).astype(np.float32))
    op = calibrated(I8, -128, 127, 0.037, 3)
    x = rng.normal(size=(32, 64)).astype(np.float32)

    def product(simulated: bool) -> Graph:
        graph = Graph()
        build = Builder(graph)
        value = graph.add_input("x", TensorType((N, 64), F32))
        operand = build(op, value) if simulated else value
        # Rank 3 in a batch of matrices: a MatMul, which the rewrite would take, not a Gemm.
        w = build(Constant(ConstantArray(matrix.array[None])), elem=F32)
        graph.set_outputs([("y", build(Matmul(), operand, w))])
        return graph

    whole = FloatSession(product(True)).run({"x": x})[0]
    assert_same_bits(whole, FloatSession(product(False)).run({"x": evaluate(op, x)})[0])


def test_bypass_of_weights(network: Network) -> None:
    w, conv, act = network.run([network.w, network.conv, network.act], Bypass(weights=True))
    assert_same_bits(w, network.weights)
    assert_same_bits(act, evaluate(network.act_op, conv))


def test_bypass_of_activations(network: Network) -> None:
    w, conv, act, product, end = network.run(
        [network.w, network.conv, network.act, network.product, network.end], Bypass(activations=True)
    )
    assert_same_bits(w, evaluate(network.weight_op, network.weights))
    assert_same_bits(act, conv)
    assert_same_bits(end, product)


@pytest.mark.parametrize("name", ["conv", "end"])
def test_bypass_by_name(network: Network, name: str) -> None:
    # "conv" names an operand's origin, "end" a result's.
    bypass = Bypass(names=frozenset([name]))
    conv, act, product, end = network.run([network.conv, network.act, network.product, network.end], bypass)
    assert_same_bits(act, conv if name == "conv" else evaluate(network.act_op, conv))
    assert_same_bits(end, product if name == "end" else evaluate(network.end_op, product))


def test_32_bits_are_accurate_to_float(network: Network) -> None:
    w, act, end = network.run([network.w, network.act, network.end], bits=32)
    conv, product = network.run([network.conv, network.product], Bypass(weights=True, activations=True))
    np.testing.assert_allclose(w, network.weights, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(act, conv, rtol=1e-6, atol=1e-5)
    # This range is exceeded: 32 bits refine the grid; its ends lie one coarse step of 0.2 farther out.
    assert np.abs(product).max() > 25.8
    np.testing.assert_allclose(end, np.clip(product, -25.8, 25.6), rtol=1e-6, atol=1e-4)


def test_32_bits_round_in_double() -> None:
    op = calibrated(I8, -128, 127, 0.05, 17)
    x = np.random.default_rng(1).uniform(-7.25, 5.5, 2000).astype(np.float32)
    (y,) = FloatSession(graph_of(op, (N,)), bits=32).run({"x": x})
    # Half a step of a 2**-32 grid over the range, and half a unit of float32.
    np.testing.assert_allclose(y, x, rtol=6e-8, atol=12.75 * 2.0**-33)


def test_32_bits_reach_one_coarse_step_beyond_the_range() -> None:
    op = calibrated(I8, -127, 127, 0.05, 0)
    x = np.array([-100, 100, 0, -0.0], np.float32)
    (y,) = FloatSession(graph_of(op, (N,)), bits=32).run({"x": x})
    np.testing.assert_allclose(y, [-6.4, 6.4, 0, 0], rtol=1e-6)
    assert y[2] == 0
    assert not np.signbit(y[3])


def test_fewer_bits_are_a_coarser_grid_over_the_same_range() -> None:
    # 255 steps of 0.0625 are 15 steps of 17 * 0.0625; 0 lies on both grids.
    fine, coarse = calibrated(I8, -128, 127, 0.0625, -128 + 17 * 7), calibrated(I4, -8, 7, 17 * 0.0625, -1)
    x = awkward_numbers(np.random.default_rng(2), 17 * 0.0625, -8, 7, -1).astype(np.float32)
    (y,) = FloatSession(graph_of(fine, (N,)), bits=4).run({"x": x})
    assert_same_bits(y, evaluate(coarse, x))


def test_same_bits_change_nothing() -> None:
    op = calibrated(I8, -128, 127, 0.037, 3)
    x = awkward_numbers(np.random.default_rng(3), float(np.float32(0.037)), -128, 127, 3).astype(np.float32)
    (y,) = FloatSession(graph_of(op, (N,)), bits=8).run({"x": x})
    assert_same_bits(y, evaluate(op, x))


@pytest.mark.parametrize("bits", [1, 33])
def test_impossible_width(bits: int) -> None:
    with pytest.raises(QCompilerError, match="2 to 32 bits"):
        FloatSession(graph_of(FakeQuant(I8, -128, 127), (N,)), bits=bits)


def test_layouts_do_not_touch_the_numbers() -> None:
    # Per-channel parameters on a channels-last value whose channels-first form exists.
    rng = np.random.default_rng(4)
    graph = Graph()
    build = Builder(graph)
    x = graph.add_input("x", TensorType((N, 5, 4, 2), F32))
    w = build(Constant(ConstantArray(rng.normal(size=(3, 1, 1, 2)).astype(np.float32))), elem=F32)
    conv = build(Conv2D(layout="NHWC"), x, w)
    scale, zero_point = rng.uniform(0.01, 0.1, (1, 1, 1, 3)), rng.integers(-99, 99, (1, 1, 1, 3))
    op = calibrated(I8, -128, 127, scale, zero_point, (N, 5, 4, 1))
    quantized = build(op, conv)
    shift = build(Constant(ConstantArray(rng.normal(size=3).astype(np.float32))), elem=F32)
    added = build(Add(), conv, shift)
    moved = build(Transpose((0, 3, 1, 2)), added)
    soft = build(Softmax(3), added)
    session = FloatSession(graph, [conv, quantized, added, moved, shift, soft])
    y, q, total, channels_first, shift_array, _ = session.run({"x": rng.normal(size=(2, 5, 4, 2)).astype(np.float32)})
    assert_same_bits(q, evaluate(op, y))
    assert_same_bits(total, y + shift_array)
    assert_same_bits(channels_first, total.transpose(0, 3, 1, 2))
