"""Convolutions and matrix products of block floating point against exact rational arithmetic."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numerics.block_definition import Overflow

from block_float import contraction_definition as sums
from block_float.block_tensors import FORMATS, NARROW, blocks_for, citing, formats, roundings, run, tensors, wide
from block_float.op_definitions import Numbers, numbers_of, written
from qcompiler.errors import QCompilerError
from qcompiler.ir import BlockFloat, TensorType
from qcompiler.ir.op import OpTypeError, Tensor
from qcompiler.ir.scalar import F32
from qcompiler.numerics.block_accumulator import FixedPointAccumulator
from qcompiler.numerics.block_format import BlockFormat
from qcompiler.ops.contraction import Conv2D, ConvTranspose2D, Matmul

CONVOLUTIONS = ("dense", "grouped", "depthwise", "transposed")


@st.composite
def convolutions(draw: st.DrawFn, kind: str, names: tuple[str, ...]) -> tuple[Any, Tensor, Tensor]:
    """A convolution with operands whose blocks line up along the channels."""
    groups = {"dense": 1, "grouped": 2, "depthwise": 3, "transposed": draw(st.sampled_from([1, 2]))}[kind]
    channels = 1 if kind == "depthwise" else draw(st.integers(1, 5))
    outputs = draw(st.integers(1, 2)) * groups
    kernel = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    pads: Any = tuple(draw(st.integers(0, 1)) for _ in range(4))
    steps: dict[str, Any] = {
        "strides": (draw(st.integers(1, 2)), draw(st.integers(1, 2))),
        "dilations": (draw(st.integers(1, 2)), draw(st.integers(1, 2))),
    }
    op: Any = (
        ConvTranspose2D(**steps, pads=pads, groups=groups, layout="NHWC", output_padding=(draw(st.integers(0, 1)), 0))
        if kind == "transposed" else Conv2D(**steps, pads=pads, groups=groups, layout="NHWC")
    )
    size = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    x_shape = (draw(st.integers(1, 2)), *size, channels * groups)
    w_shape = (outputs, *kernel, channels)
    assume(all(op.spatial_result(i, size[i], kernel[i]) > 0 for i in (0, 1)))
    whole = draw(st.booleans())
    if whole:
        x_blocks, w_blocks = (1, *x_shape[1:]), w_shape
    else:
        length = draw(st.integers(1, channels * groups + 1))
        x_blocks = (1, draw(st.integers(1, 2)), draw(st.integers(1, 2)), length)
        part = np.gcd(length, channels) if groups > 1 else length
        w_blocks = (draw(st.integers(1, 2)), draw(st.integers(1, 3)), 1, int(part))
    x = draw(tensors(x_shape, draw(formats(*names)), x_blocks))
    return op, x, draw(tensors(w_shape, draw(formats(*names)), w_blocks))


@st.composite
def matmuls(draw: st.DrawFn, names: tuple[str, ...]) -> tuple[Any, Tensor, Tensor]:
    """A matrix product with a constant or with a computed operand 1, whose leading axes broadcast."""
    terms, outputs, rows = draw(st.integers(1, 9)), draw(st.integers(1, 3)), draw(st.integers(1, 4))
    x_leading, w_leading = draw(st.sampled_from([((), ()), ((2,), ()), ((2,), (2,)), ((), (1,)), ((3, 1), (2,))]))
    op = Matmul(draw(st.booleans()))
    x_shape = (*x_leading, rows, terms)
    w_shape = (*w_leading, *((outputs, terms) if op.transpose_b else (terms, outputs)))
    length = draw(st.sampled_from([1, 2, 3, terms, 8, 32]))
    x_blocks, w_blocks = [list(draw(blocks_for(s))) for s in (x_shape, w_shape)]
    x_blocks[-1] = w_blocks[-1 if op.transpose_b else -2] = length
    x = draw(tensors(x_shape, draw(formats(*names)), x_blocks))
    return op, x, draw(tensors(w_shape, draw(formats(*names)), w_blocks))


def cases(kind: str, names: tuple[str, ...] = ()) -> st.SearchStrategy[tuple[Any, Tensor, Tensor]]:
    return matmuls(names) if kind == "matmul" else convolutions(kind, names)


Dots = dict[tuple[int, ...], list[sums.Pair]]
"""The pairs of blocks of every result."""


def dots(op: Any, x: Tensor, w: Tensor, shape: tuple[int, ...]) -> Dots:
    a, b, length = numbers_of(x), numbers_of(w), sums.dot_length(op, x, w)
    return {at: sums.pairs_of(op)(op, a, b, length, at) for at in np.ndindex(shape)}


def fixed_point_dots(op: Any, x: Tensor, w: Tensor, shape: tuple[int, ...]) -> Dots:
    """One pair for each result where each sample of x has one exponent, and the whole of w."""
    found = dots(op, x, w, shape)
    if not has_one_exponent(x, w):
        return found
    a, b = numbers_of(x).exponents, numbers_of(w).exponents
    # A matrix product broadcasts leading axes; where x has several samples, they are rows of the result.
    samples = np.broadcast_to(a[..., :1], (*shape[:-2], *a.shape[-2:-1], 1)) if op.name == "matmul" else a
    return {
        at: sums.joined(pairs, samples[(*at[:-1], 0) if op.name == "matmul" else (at[0], 0, 0, 0)] + b.flat[0])
        for at, pairs in found.items()
    }


def has_one_exponent(x: Tensor, w: Tensor) -> bool:
    """Whether each sample of x has one, and the whole of w."""
    assert x.exponents is not None
    assert w.exponents is not None
    return w.exponents.size == 1 and all(count == 1 for count in x.exponents.shape[1:])


@st.composite
def biases(draw: st.DrawFn, outputs: int, near: int) -> Tensor | None:
    """No bias, or one around an exponent."""
    if not draw(st.booleans()):
        return None
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    exponent = near + draw(st.sampled_from([-60, -3, -1, 0, 1, 4]))
    type = TensorType((outputs,), BlockFloat(BlockFormat(24, 12), (outputs,)))
    top = draw(st.sampled_from([3, 300, 2**23 - 1]))
    return Tensor(type, rng.integers(-top, top + 1, outputs).astype(np.int32), np.array([exponent], np.int32))


def bias_of(bias: Tensor | None, channel: int) -> tuple[int, int] | None:
    """Mantissa and exponent of a channel's bias."""
    if bias is None or bias.exponents is None:
        return None
    return int(bias.data[channel]), int(bias.exponents[0])


@pytest.mark.parametrize("overflow", ["forbidden", "saturate", "wrap"])
@pytest.mark.parametrize("kind", [*CONVOLUTIONS, "matmul"])
@settings(max_examples=20, deadline=None)
@given(st.data())
def test_fixed_point_sums_are_exact(kind: str, overflow: str, data: st.DataObject) -> None:
    op, x, w = data.draw(cases(kind, NARROW))
    fraction, bits = data.draw(st.integers(0, 3)), data.draw(st.sampled_from([62, 62, 20, 12]))
    rounding = data.draw(roundings)
    op = citing(op, f"fixed-point{{overflow={overflow} fraction={fraction}}}")
    accumulator = FixedPointAccumulator(bits, overflow, rounding, fraction)
    (shape,) = op.infer_shapes([x.type, w.type])
    elem = BlockFloat(wide(bits, rounding, 14), data.draw(blocks_for(shape)))
    assert x.exponents is not None
    assert w.exponents is not None
    bias = data.draw(biases(shape[-1], int(x.exponents.max()) + int(w.exponents.max())))
    operands = [x, w] if bias is None else [x, w, bias]
    mantissas, exponents = (np.empty(shape, object) for _ in range(2))
    try:
        for at, pairs in fixed_point_dots(op, x, w, shape).items():
            mantissas[at], exponents[at] = sums.fixed_point(pairs, accumulator, bias_of(bias, at[-1]))
        expected = written(Numbers(mantissas, exponents), elem)
    except Overflow:
        with pytest.raises(QCompilerError, match="overflow"):
            run(op, operands, elem)
        return
    (result,) = run(op, operands, elem)
    assert result.exponents is not None
    assert (result.data.tolist(), result.exponents.tolist()) == expected
    assert result.data.dtype == elem.format.mantissa_dtype


@pytest.mark.parametrize("order", ["sequential", "pairwise"])
@pytest.mark.parametrize("kind", [*CONVOLUTIONS, "matmul"])
@settings(max_examples=20, deadline=None)
@given(st.data())
def test_float32_sums_follow_their_order(kind: str, order: str, data: st.DataObject) -> None:
    op, x, w = data.draw(cases(kind))
    op = citing(op, f"float32{{order={order}}}")
    (shape,) = op.infer_shapes([x.type, w.type])
    bias = None
    if data.draw(st.booleans()):
        rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
        values = rng.normal(0, 1, shape[-1]).astype(np.float32) * np.float32(2.0 ** data.draw(st.integers(-30, 30)))
        bias = Tensor(TensorType((shape[-1],), F32), values)
    expected = np.empty(shape, np.float32)
    with np.errstate(all="ignore"):
        for at, pairs in dots(op, x, w, shape).items():
            of_channel = None if bias is None else bias.data[at[-1]]
            try:
                expected[at] = sums.float32_sum(pairs, order, of_channel)
            except OverflowError:
                expected[at] = np.inf
    operands = [x, w] if bias is None else [x, w, bias]
    if not np.isfinite(expected).all():
        with pytest.raises(QCompilerError, match="beyond the range of float32"):
            run(op, operands)
        return
    (result,) = run(op, operands)
    np.testing.assert_array_equal(result.data, expected, strict=True)


def test_orders_of_float32_sums_differ() -> None:
    """Rounding is hit on purpose: one large term swallows small ones unless they are added first."""
    elem = BlockFloat(BlockFormat(8), (1, 1))
    x = Tensor(TensorType((1, 4), elem), np.ones((1, 4), np.int8), np.array([[0, -24, -24, -24]], np.int32))
    w = Tensor(TensorType((4, 1), elem), np.ones((4, 1), np.int8), np.zeros((4, 1), np.int32))
    for order, expected in (("sequential", 1.0), ("pairwise", 1.0 + 2.0**-23)):
        (found,) = run(citing(Matmul(), f"float32{{order={order}}}"), [x, w])
        assert found.data.item() == expected


def test_rows_of_several_samples_in_one_dimension() -> None:
    """Two rows a sample, as a reshape to ``[2*N, 3]`` leaves them: one exponent for both."""
    x = Tensor(
        TensorType((4, 3), BlockFloat(FORMATS["dsp16"], (2, 3))), np.arange(12, dtype=np.int16).reshape(4, 3),
        np.array([[-3], [5]], np.int32),
    )
    of_w = TensorType((3, 1), BlockFloat(FORMATS["dsp16"], (3, 1)))
    w = Tensor(of_w, np.ones((3, 1), np.int16), np.array([[2]], np.int32))
    (found,) = run(citing(Matmul(), "fixed-point"), [x, w], BlockFloat(wide(), (2, 1)))
    assert found.exponents is not None
    assert found.data.tolist() == [[3], [12], [21], [30]]
    assert found.exponents.tolist() == [[-1], [7]]


def test_exponents_that_float32_factors_do_not_hold() -> None:
    """Sums are within float32 where one factor, or a factor times its mantissa, is not."""
    for x_exponent, w_exponent in ((-103, 124), (-1200, 1200), (1020, -1040), (-140, 140)):
        elem = BlockFloat(BlockFormat(16, 12), (1, 1))
        x, w = (
            Tensor(TensorType((1, 1), elem), np.array([[m]], np.int16), np.array([[e]], np.int32))
            for m, e in ((22978, x_exponent), (89, w_exponent))
        )
        (found,) = run(citing(Matmul(), "float32"), [x, w])
        assert found.data.item() == 22978 * 89 * 2.0 ** (x_exponent + w_exponent)


def test_a_window_outside_of_the_operand_has_no_exponent() -> None:
    """It does not raise the exponent of the block that it stands in."""
    elem = BlockFloat(BlockFormat(8), (1, 1, 1, 1))
    x = Tensor(TensorType((1, 1, 1, 1), elem), np.full((1, 1, 1, 1), 3, np.int8), np.full((1, 1, 1, 1), -7, np.int32))
    w = Tensor(TensorType((1, 1, 1, 1), elem), np.full((1, 1, 1, 1), 5, np.int8), np.full((1, 1, 1, 1), 9, np.int32))
    op = citing(Conv2D(pads=(0, 1, 0, 1), layout="NHWC"), "fixed-point")
    w = dataclasses.replace(w, type=TensorType((2, 1, 1, 1), elem), data=np.repeat(w.data, 2, 0),
                            exponents=np.array([9, 8], np.int32).reshape(2, 1, 1, 1))
    (found,) = run(op, [x, w], BlockFloat(wide(), (1, 1, 1, 1)))
    assert found.exponents is not None
    low = wide().exponent_range[0]
    assert found.data.tolist() == [[[[0, 0], [15, 15], [0, 0]]]]
    assert found.exponents.tolist() == [[[[low, low], [2, 1], [low, low]]]]


@pytest.mark.parametrize(
    ("x_blocks", "w_blocks", "problem"),
    [
        ((1, 4), (3, 1), "must line up: operand 0 has 4 terms, operand 1 has 3"),
        ((1, 4), (9, 1), "must line up"),
        ((1, 3), (9, 1), "must line up"),
        ((1, 9), (9, 1), None),
        ((1, 32), (8, 1), None),
        ((1, 4), (4, 1), None),
    ],
)
def test_blocks_line_up_along_the_reduction(
    x_blocks: tuple[int, int], w_blocks: tuple[int, int], problem: str | None
) -> None:
    x, w = (TensorType(s, BlockFloat(FORMATS["amd"], b)) for s, b in (((2, 8), x_blocks), ((8, 3), w_blocks)))
    op = citing(Matmul(), "fixed-point")
    if problem is None:
        assert op.result_elems([x, w]) == (None,)
        return
    with pytest.raises(OpTypeError, match=problem):
        op.result_elems([x, w])


def test_types_that_sums_do_not_take() -> None:
    elem = BlockFloat(FORMATS["amd"], (1, 8))
    x, w = TensorType((2, 8), elem), TensorType((8, 3), BlockFloat(FORMATS["amd"], (8, 1)))
    result = TensorType((2, 3), BlockFloat(wide(), (1, 3)))
    with pytest.raises(OpTypeError, match="needs block floating point"):
        citing(Matmul(), "fixed-point").result_elems([x, TensorType((8, 3), F32)])
    with pytest.raises(OpTypeError, match="a float32 sum takes a float32 bias"):
        citing(Matmul(), "float32").check([x, w, TensorType((3,), BlockFloat(wide(), (3,)))], [TensorType((2, 3), F32)])
    with pytest.raises(OpTypeError, match="a bias has one exponent"):
        citing(Matmul(), "fixed-point").check([x, w, TensorType((3,), BlockFloat(wide(), (1,)))], [result])
    image = TensorType((1, 8, 2, 2), BlockFloat(FORMATS["amd"], (1, 8, 1, 1)))
    with pytest.raises(OpTypeError, match="channels-last"):
        citing(Conv2D(), "fixed-point").result_elems([image, image])
