"""Simulated block floating point: what fake_block computes, when it is left out, and what runs in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from qcompiler.backends import reference
from qcompiler.backends.ort import Bypass, FloatSession, ops_without_onnx_form
from qcompiler.ir import BlockFloat, Builder, ConstantArray, Graph, Original, SymbolicDim, TensorType, Value
from qcompiler.ir.scalar import F32
from qcompiler.numerics.block_format import ELEMENTS, BlockFormat
from qcompiler.ops.activation import Relu
from qcompiler.ops.block_conversion import FakeBlock
from qcompiler.ops.constant import Constant
from qcompiler.ops.contraction import Conv2D, Matmul
from qcompiler.ops.shape import Reshape

Array = NDArray[Any]
N = SymbolicDim("N")
NARROW = BlockFormat(8, overflow="raise")
POINT = BlockFormat(16)


def mark(shape: tuple[Any, ...], block_format: BlockFormat, blocks: tuple[int, ...], **rest: Any) -> FakeBlock:
    return FakeBlock(TensorType(shape, BlockFloat(block_format, blocks)), **rest)


class Network:
    """conv -> mark -> relu -> reshape -> matmul -> mark -> fixed mark, with a marked weight."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.graph = Graph()
        build = Builder(self.graph)
        x = self.graph.add_input("x", TensorType((N, 6, 5, 3), F32))
        self.weights = rng.normal(size=(4, 3, 3, 3)).astype(np.float32)
        constant = build(Constant(ConstantArray(self.weights)), elem=F32, origin=Original("w"))
        self.weight_mark = mark((4, 3, 3, 3), NARROW, (1, 1, 1, 3))
        self.w = build(self.weight_mark, constant, origin=Original("w"))
        self.conv = build(Conv2D(pads=(1, 1, 1, 1), layout="NHWC"), x, self.w, origin=Original("conv"))
        self.act_mark = mark((N, 6, 5, 4), NARROW, (1, 1, 1, 4))
        self.act = build(self.act_mark, self.conv)
        flat = build(Reshape((N, 120)), build(Relu(), self.act))
        matrix = build(Constant(ConstantArray(rng.normal(size=(120, 7)).astype(np.float32))), elem=F32)
        self.product = build(Matmul(), flat, matrix)
        self.end_mark = mark((N, 7), NARROW, (1, 7))
        self.end = build(self.end_mark, self.product, origin=Original("end"))
        self.open_mark = mark((N, 7), POINT, (1, 7), is_fixed=True)
        self.last = build(self.open_mark, self.end, origin=Original("end"))
        self.graph.set_outputs([("y", self.last)])
        self.feeds = {"x": rng.normal(size=(2, 6, 5, 3)).astype(np.float32)}

    def run(self, fetch: Sequence[Value], bypass: Bypass = Bypass(), bits: int | None = None) -> list[Array]:  # noqa: B008
        return FloatSession(self.graph, fetch, bypass=bypass, bits=bits).run(self.feeds)


@pytest.fixture
def network() -> Network:
    return Network(np.random.default_rng())


@pytest.fixture
def _onnx_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numpy runs no program."""
    monkeypatch.setattr("qcompiler.backends.ort.FloatInterpreter", None)


def by_definition(op: FakeBlock, x: Array) -> Array:
    """The marked numbers, block by block: the largest magnitude gives the exponent, ties round to even."""
    elem = op.held.elem
    assert isinstance(elem, BlockFloat)
    found = np.empty_like(x)
    blocks = tuple(int(str(b)) for b in elem.blocks)
    for start in np.ndindex(*(-(-size // length) for size, length in zip(x.shape, blocks, strict=True))):
        part = tuple(slice(i * n, (i + 1) * n) for i, n in zip(start, blocks, strict=True))
        block = x[part].astype(np.float64)
        fixed = None if elem.exponents is None else int(elem.exponents.array.reshape(-1)[0])
        found[part] = rounded(block, elem.format, fixed)
    return found


def rounded(block: Array, block_format: BlockFormat, fixed: int | None) -> Array:
    largest = np.abs(block).max()
    leading = block_format.mantissa - 2
    exponent = int(np.floor(np.log2(largest))) - leading if fixed is None else fixed
    top = (1 << (leading + 1)) - 1
    q = np.rint(block / 2.0**exponent)
    if fixed is None and block_format.overflow == "raise" and (q.max() > top or q.min() < -top - 1):
        exponent += 1
        q = np.rint(block / 2.0**exponent)
    return np.clip(q, -top - 1, top) * 2.0**exponent


def test_marks_round_by_their_definition_inside_a_network(network: Network) -> None:
    conv, act, product, end, w, last = network.run(
        [network.conv, network.act, network.product, network.end, network.w, network.last]
    )
    np.testing.assert_array_equal(act, by_definition(network.act_mark, conv))
    np.testing.assert_array_equal(end, by_definition(network.end_mark, product))
    np.testing.assert_array_equal(w, by_definition(network.weight_mark, network.weights))
    # It has no exponent yet.
    np.testing.assert_array_equal(last, end)
    assert not np.array_equal(act, conv)


def test_a_simulation_equals_the_reference_interpreter(network: Network) -> None:
    (found,) = network.run([network.last])
    np.testing.assert_array_equal(found, reference.run(network.graph, network.feeds)["y"])


def test_samples_do_not_touch_each_other(network: Network) -> None:
    images = np.random.default_rng().normal(size=(5, 6, 5, 3)).astype(np.float32)
    images[1] *= 1000
    images[3] = 0
    session = FloatSession(network.graph)
    singles = np.concatenate([session.run({"x": images[i : i + 1]})[0] for i in range(5)])
    np.testing.assert_array_equal(session.run({"x": images})[0], singles)


def test_ties_and_overflow() -> None:
    # Steps of 1: 126.5 and 2.5 are ties, 127.5 rounds beyond the largest mantissa and raises the exponent.
    x = np.array([[64, 126.5, 2.5, -3.5], [127.5, 2, 3, -127.5], [0, 0, 0, 0]], np.float32)
    graph = Graph()
    value = Builder(graph)(mark((N, 4), NARROW, (1, 4)), graph.add_input("x", TensorType((N, 4), F32)))
    graph.set_outputs([("y", value)])
    (y,) = FloatSession(graph).run({"x": x})
    np.testing.assert_array_equal(y, [[64, 126, 2, -4], [128, 2, 4, -128], [0, 0, 0, 0]])


@pytest.mark.usefixtures("_onnx_only")
def test_bypassed_marks_run_in_onnx_runtime(network: Network) -> None:
    everything = Bypass(weights=True, activations=True)
    w, conv, act, product, end, last = network.run(
        [network.w, network.conv, network.act, network.product, network.end, network.last], everything
    )
    np.testing.assert_array_equal(w, network.weights)
    np.testing.assert_array_equal(act, conv)
    np.testing.assert_array_equal(end, product)
    np.testing.assert_array_equal(last, product)


@pytest.mark.usefixtures("_onnx_only")
def test_what_no_rounding_mark_leads_to_runs_in_onnx_runtime() -> None:
    graph = Graph()
    build = Builder(graph)
    x = graph.add_input("x", TensorType((N, 4), F32))
    waiting = build(Relu(), build(mark((N, 4), POINT, (1, 4), is_fixed=True), x))
    graph.set_outputs([("y", build(mark((N, 4), NARROW, (1, 4)), waiting))])
    data = np.array([[-0.3, 0.1, 1e30, -0.0]], np.float32)
    np.testing.assert_array_equal(FloatSession(graph, [waiting]).run({"x": data})[0], np.maximum(data, 0))


def test_bypass_of_weights_and_of_activations(network: Network) -> None:
    w, conv, act = network.run([network.w, network.conv, network.act], Bypass(weights=True))
    np.testing.assert_array_equal(w, network.weights)
    np.testing.assert_array_equal(act, by_definition(network.act_mark, conv))
    w, conv, act = network.run([network.w, network.conv, network.act], Bypass(activations=True))
    np.testing.assert_array_equal(w, by_definition(network.weight_mark, network.weights))
    np.testing.assert_array_equal(act, conv)


@pytest.mark.parametrize("name", ["conv", "end"])
def test_bypass_by_name(network: Network, name: str) -> None:
    conv, act, product, end = network.run(
        [network.conv, network.act, network.product, network.end], Bypass(names=frozenset([name]))
    )
    np.testing.assert_array_equal(act, conv if name == "conv" else by_definition(network.act_mark, conv))
    np.testing.assert_array_equal(end, product if name == "end" else by_definition(network.end_mark, product))


def test_32_bits_are_accurate_to_float(network: Network) -> None:
    (found,), (expected,) = network.run([network.last], bits=32), network.run([network.last], Bypass(True, True))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())
    (narrow,) = network.run([network.last])
    assert np.abs(narrow - expected).max() > 100 * np.abs(found - expected).max()


@settings(max_examples=20, deadline=None)
@given(
    bits=st.integers(2, 20), exponent=st.integers(-12, 4), element=st.sampled_from(["int8", *ELEMENTS]),
    fixed=st.booleans(), seed=st.integers(0, 1 << 30),
)
def test_other_widths_are_those_of_an_integer_format(
    bits: int, exponent: int, element: str, fixed: bool, seed: int
) -> None:
    """The same blocks; fixed exponents give way so that the range stays."""
    held = mark((N, 6), BlockFormat.mx(element), (1, 4), is_fixed=fixed)
    op = held.fixed_at(exponent) if fixed else held
    graph = Graph()
    graph.set_outputs([("y", Builder(graph)(op, graph.add_input("x", TensorType((N, 6), F32))))])
    rng = np.random.default_rng(seed)
    x = (rng.normal(size=(3, 6)) * 2.0 ** rng.integers(-4, 12)).astype(np.float32)
    (found,) = FloatSession(graph, bits=bits).run({"x": x})
    wide = BlockFormat(bits, 16, overflow="raise")
    leading = BlockFormat.mx(element).largest.bit_length() - 1
    exponents = ConstantArray(np.full((1, 1), exponent + leading - (bits - 2), np.int32)) if fixed else None
    expected = replace(op, held=TensorType((N, 6), BlockFloat(wide, (1, 4), exponents)))
    np.testing.assert_array_equal(found, by_definition(expected, x))
    if fixed:
        assert np.abs(found).max() <= 2.0 ** (leading + 1 + exponent)


def test_a_mark_counts_as_no_slow_op(network: Network) -> None:
    assert ops_without_onnx_form(network.graph) == []
