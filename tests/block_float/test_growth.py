"""Worst-case growth of what ops compute: no operands leave the bounds, and constructed ones reach those of sums."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from block_float.block_tensors import FORMATS, citing, roundings, run, tensors, wide
from qcompiler.analysis.block_growth import missing_bits, result_bounds
from qcompiler.errors import QCompilerError
from qcompiler.ir import BlockArray, BlockFloat, Builder, Graph, Node, TensorType
from qcompiler.ir.dimension import static_shape
from qcompiler.ir.op import Op, Tensor
from qcompiler.numerics.block_accumulator import bits_for
from qcompiler.numerics.block_format import BlockFormat
from qcompiler.ops.binary import Add, Mul, Sub
from qcompiler.ops.constant import Constant
from qcompiler.ops.contraction import Conv2D, ConvTranspose2D, Matmul
from qcompiler.ops.pooling import AveragePool2D
from qcompiler.ops.reduction import Mean, ReduceSum

KINDS = ("dense", "padded", "grouped", "depthwise", "transposed", "matmul", "matmul transposed")


def node_of(op: Op, x: TensorType, constants: list[Tensor], elem: BlockFloat) -> Node:
    """A node whose operands behind the first are constants."""
    graph = Graph()
    build = Builder(graph)
    operands = [graph.add_input("x", x)]
    for constant in constants:
        assert constant.exponents is not None
        stored = BlockArray(constant.data, constant.exponents)
        operands.append(build(Constant.of(stored), elem=constant.type.elem))
    return build.create(op, operands, elem=elem)


def bounds_of(node: Node) -> tuple[int, int]:
    bounds = result_bounds(node, {})
    assert bounds is not None
    return bounds


@st.composite
def sums(draw: st.DrawFn, kind: str, shared: bool) -> tuple[Any, TensorType, list[Tensor], BlockFloat]:
    """A sum of products with constant weights and perhaps a bias: op, type of x, constants, type of the result.

    Where x does not have one exponent, its blocks follow those of the weights: none spans groups.
    """
    fraction, rounding = draw(st.integers(0, 3)), draw(roundings)
    groups = {"grouped": 2, "depthwise": 3}.get(kind, 1)
    channels = 1 if kind == "depthwise" else draw(st.integers(1, 6))
    outputs = groups * draw(st.integers(1, 2))
    if kind.startswith("matmul"):
        op: Any = Matmul(kind == "matmul transposed")
        x_shape: tuple[int, ...] = (1, channels)
        w_shape: tuple[int, ...] = (outputs, channels) if op.transpose_b else (channels, outputs)
        axis = -1 if op.transpose_b else -2
    else:
        make: Any = ConvTranspose2D if kind == "transposed" else Conv2D
        pads = (1, 0, 1, 1) if kind == "padded" else (0, 0, 0, 0)
        op = make(groups=groups, layout="NHWC", pads=pads)
        x_shape, w_shape, axis = (1, 3, 2, channels * groups), (outputs, 3, 2, channels), -1
    op = citing(op, f"fixed-point{{fraction={fraction}}}")
    x_format = draw(st.sampled_from([FORMATS["amd"], FORMATS["dsp16"], FORMATS["mx-int8"]]))
    lengths = [n for n in range(1, 7) if groups == 1 or channels % n == 0]
    length = draw(st.sampled_from(lengths))
    x_blocks = (*[1] * (len(x_shape) - 1), length)
    if shared:
        x_blocks = (*x_shape[:-1], -(-x_shape[-1] // length) * length)
        length = x_blocks[-1] if groups == 1 else int(np.gcd(x_blocks[-1], channels))
    w_blocks = [1] * len(w_shape)
    w_blocks[axis] = length
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    weights = draw(tensors(w_shape, FORMATS["amd"], w_blocks))
    assert weights.exponents is not None
    around = rng.integers(-6, 7, weights.exponents.shape).astype(np.int32)
    constants = [Tensor(weights.type, weights.data, around)]
    if draw(st.booleans()):
        bias = rng.integers(-5000, 5000, outputs)
        type = TensorType((outputs,), BlockFloat(BlockFormat(24, 12), (outputs,)))
        constants.append(Tensor(type, bias.astype(np.int32), np.array([0], np.int32)))
    result = op.infer_shapes([TensorType(x_shape, BlockFloat(x_format, x_blocks)), *(c.type for c in constants)])[0]
    elem = BlockFloat(wide(60, rounding, 14), (1,) * len(result))
    return op, TensorType(x_shape, BlockFloat(x_format, x_blocks)), constants, elem


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=20, deadline=None)
@given(st.data())
def test_no_operand_leaves_the_bounds_of_a_sum(kind: str, shared: bool, data: st.DataObject) -> None:
    op, type, constants, elem = data.draw(sums(kind, shared))
    low, high = bounds_of(node_of(op, type, constants, elem))
    assert isinstance(type.elem, BlockFloat)
    shape, blocks = static_shape(type.shape), static_shape(type.elem.blocks)
    for _ in range(3):
        x = data.draw(tensors(shape, type.elem.format, blocks))
        (found,) = run(op, [x, *constants], elem)
        assert low <= found.data.min()
        assert found.data.max() <= high


def reaching(op: Any, type: TensorType, w: Tensor, channel: int, upper: bool, at: int) -> Tensor:
    """The operand that brings one channel to its bound: each value at the end of its format that suits its weight.

    Every pair of blocks meets at the exponent ``at``; where x has one exponent, its largest pairs do.
    """
    assert isinstance(type.elem, BlockFloat)
    assert isinstance(w.type.elem, BlockFloat)
    assert w.exponents is not None
    shape, blocks, of_w = map(static_shape, (type.shape, type.elem.blocks, w.type.elem.blocks))
    each = w.exponents
    for axis, length in enumerate(of_w):
        each = np.repeat(each, length, axis).take(range(w.data.shape[axis]), axis)
    signs, exponents = np.ones(shape, np.int64), np.full(shape, -99)
    if op.name == "matmul":
        row = (channel, slice(None)) if op.transpose_b else (slice(None), channel)
        signs[0], exponents[0] = w.data[row], each[row]
    else:
        # A kernel as large as the operand: one result sees every value, turned round where transposed.
        turn = (slice(None, None, -1),) * 2 if op.name == "conv_transpose2d" else (slice(None),) * 2
        channels = w.data.shape[3]
        first = channel // (w.data.shape[0] // op.groups) * channels
        signs[..., first : first + channels] = w.data[channel][turn]
        exponents[..., first : first + channels] = each[channel][turn]
    ends = np.where((signs >= 0) == upper, type.elem.format.largest, type.elem.format.smallest)
    for axis, length in enumerate(blocks):
        exponents = np.maximum.reduceat(exponents, range(0, shape[axis], length), axis)
    grid = np.where(exponents == -99, 0, at - exponents)
    return Tensor(type, ends.astype(type.elem.format.mantissa_dtype), grid.astype(np.int32))


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("upper", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=15, deadline=None)
@given(st.data())
def test_a_constructed_operand_reaches_the_bound(kind: str, upper: bool, shared: bool, data: st.DataObject) -> None:
    op, type, constants, elem = data.draw(sums(kind, shared))
    if kind in ("transposed", "padded") and shared:
        # At borders weights of the largest exponent may be missing, so that with several the bound is none to reach.
        constants[0] = Tensor(constants[0].type, constants[0].data, np.zeros_like(constants[0].exponents))
    bound = bounds_of(node_of(op, type, constants, elem))[upper]
    outputs = constants[0].data.shape[-1] if kind == "matmul" else len(constants[0].data)
    biases = constants[1].data.tolist() if len(constants) == 2 else [0] * outputs
    found = []
    for channel in range(outputs):
        # Sums stand ``fraction`` places below the exponent of their pairs, a bias at exponent 0.
        fraction = dict(op.arithmetic.options)["fraction"]
        x = reaching(op, type, constants[0], channel, upper, at=fraction)
        (result,) = run(op, [x, *constants], elem)
        picked = result.data[..., channel]
        value = int(picked.max() if upper else picked.min())
        # A bias of the other sign is not part of the bound.
        found.append(value - (min(biases[channel], 0) if upper else max(biases[channel], 0)))
    assert (max(found) if upper else min(found)) == bound


def test_computed_operands_are_bounded_by_their_formats() -> None:
    graph = Graph()
    elem = BlockFloat(FORMATS["dsp16"], (1, 4))
    x = graph.add_input("x", TensorType((1, 4), elem))
    w = graph.add_input("w", TensorType((3, 4), BlockFloat(FORMATS["dsp16"], (3, 4))))
    node = Builder(graph).create(citing(Matmul(True), "fixed-point"), [x, w], elem=BlockFloat(wide(), (1, 3)))
    assert bounds_of(node) == (-4 * 32768 * 32767, 4 * 2**30)
    assert missing_bits(bounds_of(node), TensorType((1, 3), BlockFloat(wide(33), (1, 3)))) == 1
    ends = np.full((1, 4), -32768, np.int16)
    operands = [
        Tensor(v.type, np.broadcast_to(ends, static_shape(v.type.shape)), np.zeros((1, 1), np.int32)) for v in (x, w)
    ]
    assert set(run(node.op, operands, node.result.type.elem)[0].data.reshape(-1).tolist()) == {4 * 2**30}


REDUCTIONS: list[tuple[Any, str]] = [
    (Mean((1, 2)), "reciprocal"), (Mean((3,)), "reciprocal{bits=8}"), (ReduceSum((1, 3)), "align-larger"),
    (AveragePool2D((2, 3), (1, 2), (1, 1, 0, 2), "NHWC"), "reciprocal"),
    (AveragePool2D((3, 3), (2, 1), (1, 1, 1, 1), "NHWC"), "reciprocal{bits=8}"),
]


@pytest.mark.parametrize(("op", "arithmetic"), REDUCTIONS)
@settings(max_examples=20, deadline=None)
@given(st.data())
def test_no_operand_leaves_the_bounds_of_a_reduction(op: Any, arithmetic: str, data: st.DataObject) -> None:
    op = citing(op, arithmetic)
    x = data.draw(tensors((2, 4, 5, 3), FORMATS["amd"]))
    (shape,) = op.infer_shapes([x.type])
    elem = BlockFloat(wide(), (1,) * len(shape))
    low, high = bounds_of(node_of(op, x.type, [], elem))
    # The ends themselves, too.
    for mantissas in (x.data, np.full_like(x.data, -128), np.full_like(x.data, 127)):
        (found,) = run(op, [Tensor(x.type, mantissas, x.exponents)], elem)
        assert low <= found.data.min()
        assert found.data.max() <= high


def test_windows_at_a_border_may_give_the_largest_number() -> None:
    """7 times the reciprocal of 7, which is rounded up, is more than 8 times that of 8."""
    op = citing(AveragePool2D((1, 8), pads=(0, 1, 0, 1), layout="NHWC"), "reciprocal")
    type = TensorType((1, 1, 9, 1), BlockFloat(FORMATS["amd"], (1, 1, 1, 1)))
    x = Tensor(type, np.full((1, 1, 9, 1), -128, np.int8), np.zeros((1, 1, 9, 1), np.int32))
    elem = BlockFloat(wide(), (1, 1, 1, 1))
    (found,) = run(op, [x], elem)
    low, _ = bounds_of(node_of(op, type, [], elem))
    assert found.data.reshape(-1).tolist() == [-128 * 131075, -128 * 131072, -128 * 131072, -128 * 131075]
    assert low == -128 * 131075


@pytest.mark.parametrize(
    ("op", "arithmetic", "bounds"),
    [
        (Add(), "align-larger", (-256, 254)), (Sub(), "align-larger", (-255, 255)),
        (Mul(), "exact-product", (-128 * 127, 128 * 128)),
    ],
)
def test_bounds_of_pairs_are_those_of_all_pairs(op: Any, arithmetic: str, bounds: tuple[int, int]) -> None:
    every = np.arange(-128, 128, dtype=np.int8)
    op, elem = citing(op, arithmetic), BlockFloat(wide(), (1, 1))
    a, b = (
        Tensor(TensorType(s, BlockFloat(FORMATS["amd"], s)), every.reshape(s), np.zeros((1, 1), np.int32))
        for s in ((256, 1), (1, 256))
    )
    (found,) = run(op, [a, b], elem)
    graph = Graph()
    node = Builder(graph).create(op, [graph.add_input("a", a.type), graph.add_input("b", b.type)], elem=elem)
    assert bounds_of(node) == bounds == (found.data.min(), found.data.max())


@pytest.mark.parametrize("bits", [20, 24, 33, 40, 62])
@settings(max_examples=25, deadline=None)
@given(st.data())
def test_accumulators_of_enough_bits_never_overflow(bits: int, data: st.DataObject) -> None:
    """An accumulator overflows only where ``missing_bits`` says that it may: operands stand at their ends."""
    op, type, constants, elem = data.draw(sums(data.draw(st.sampled_from(KINDS)), False))
    elem = BlockFloat(wide(bits, elem.format.rounding, 14), elem.blocks)
    node = node_of(op, type, constants, elem)
    bounds = bounds_of(node)
    assert missing_bits(bounds, node.result.type) == bits_for(*bounds) - bits
    assert isinstance(type.elem, BlockFloat)
    shape, blocks = static_shape(type.shape), static_shape(type.elem.blocks)
    x = data.draw(tensors(shape, type.elem.format, blocks, 1))
    ends = np.where(x.data < 0, type.elem.format.smallest, type.elem.format.largest).astype(x.data.dtype)
    try:
        run(op, [Tensor(x.type, ends, x.exponents), *constants], elem)
    except QCompilerError:
        assert missing_bits(bounds, node.result.type) > 0
