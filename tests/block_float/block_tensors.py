"""Random values of block floating-point types, and how an op runs on them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numerics import block_definition as definition
from numpy.typing import NDArray

from qcompiler.ir import Arithmetic, BlockFloat, Op, Shape, TensorType
from qcompiler.ir.dimension import static_shape
from qcompiler.ir.op import Tensor
from qcompiler.ir.types import Elem, block_float_grid
from qcompiler.numerics.block_format import ELEMENTS, BlockFormat
from qcompiler.numerics.rounding import SHIFT_ROUNDINGS

Array = NDArray[Any]

FORMATS = {
    "dsp16": BlockFormat(16, scale="headroom", overflow="raise"), "dsp8": BlockFormat(8, scale="headroom"),
    "amd": BlockFormat(8, overflow="raise"), "mx-int8": BlockFormat.mx("int8"),
    "guarded": BlockFormat(8, scale="headroom", guard=2, overflow="raise"),
    **{f"mx-{element}": BlockFormat.mx(element) for element in ELEMENTS},
}

NARROW = tuple(name for name in FORMATS if name != "mx-e5m2")
"""Those whose products fit an accumulator in fixed point."""

roundings = st.sampled_from(sorted(SHIFT_ROUNDINGS))


@st.composite
def formats(draw: st.DrawFn, *names: str) -> BlockFormat:
    """One of the named formats, or of all, with any rounding."""
    return dataclasses.replace(FORMATS[draw(st.sampled_from(names or tuple(FORMATS)))], rounding=draw(roundings))


def wide(bits: int = 40, rounding: str = "half-even", exponent: int = 12) -> BlockFormat:
    """What sums and products are kept in."""
    return BlockFormat(bits, exponent, rounding=rounding)


@st.composite
def blocks_for(draw: st.DrawFn, shape: Shape) -> tuple[int, ...]:
    """One block a sample, single values, blocks of 8, 16 or 32 along an axis, or lengths that leave ragged blocks."""
    shape, kind = static_shape(shape), draw(st.sampled_from(["sample", "element", "axis", "any"]))
    if kind == "sample" and shape:
        return (1, *shape[1:])
    if kind == "any":
        return tuple(draw(st.integers(1, size + 1)) for size in shape)
    blocks = [1] * len(shape)
    if kind == "axis" and shape:
        blocks[draw(st.sampled_from(range(len(shape))))] = draw(st.sampled_from([2, 3, 8, 16, 32]))
    return tuple(blocks)


@cache
def mantissas_of(block_format: BlockFormat) -> Array:
    """All mantissas of a format of at most 16 bits, or of floating-point elements."""
    if block_format.element != "integer":
        # Each is a number of few leading bits, moved up.
        significands = range(1 << (block_format.precision or 0))
        places = range(block_format.largest.bit_length())
        positive = {s << p for s in significands for p in places if s << p <= block_format.largest}
        return np.array(sorted({-m for m in positive} | positive))
    return np.arange(block_format.smallest, block_format.largest + 1)


@st.composite
def tensors(
    draw: st.DrawFn, shape: Sequence[int], block_format: BlockFormat | None = None,
    blocks: Sequence[int] | None = None, spread: int | None = None,
) -> Tensor:
    """A value that any program could hold.

    Exponents lie anywhere in their range: blocks as small as subnormal numbers, huge ones, blocks of zeros, and
    at times one block far above the others.
    """
    block_format = block_format or draw(formats())
    blocks = tuple(blocks if blocks is not None else draw(blocks_for(tuple(shape))))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    grid = tuple(int(str(n)) for n in block_float_grid(tuple(shape), blocks))
    low, high = block_format.exponent_range
    middle = draw(st.sampled_from([low, low + 3, -12, 0, high - 3]))
    reach = spread if spread is not None else draw(st.sampled_from([0, 1, 3, 40]))
    exponents = middle + rng.integers(-reach, reach + 1, grid)
    if draw(st.booleans()) and exponents.size:
        exponents.flat[int(rng.integers(exponents.size))] += 25
    exponents = np.clip(exponents, low, high)
    known = mantissas_of(block_format)
    mantissas = rng.choice(known, shape)
    ends = rng.choice([block_format.smallest, block_format.largest, 0, 1, -1], shape)
    small = rng.choice(known[np.abs(known) <= 9], shape)
    mantissas = np.choose(rng.choice(3, shape, p=[0.5, 0.25, 0.25]), [mantissas, ends, small])
    empty = rng.random(grid) < draw(st.sampled_from([0.0, 0.3]))
    exponents[empty] = low
    for place, part in definition.slices(shape, blocks):
        if empty[place]:
            mantissas[part] = 0
    type = TensorType(tuple(shape), BlockFloat(block_format, blocks))
    return Tensor(type, mantissas.astype(block_format.mantissa_dtype), exponents.astype(np.int32))


def citing(op: Any, text: str) -> Any:
    """The op with this arithmetic."""
    return op.replace(arithmetic=Arithmetic.parse(text))


def run(op: Op, operands: Sequence[Tensor], *elems: Elem) -> list[Tensor]:
    """Results of an op on types that the verifier accepts.

    Args:
        op: the op.
        operands: its operands.
        elems: element types for results that the operands leave open.
    """
    types = [t.type for t in operands]
    inferred = op.result_elems(types)
    assert all(e is None for e in inferred) or not elems
    given = elems or inferred
    results = [TensorType(s, e) for s, e in zip(op.infer_shapes(types), given, strict=True) if e is not None]
    op.check(types, results)
    return [Tensor.of(t, s) for t, s in zip(results, op.compute(operands, results), strict=True)]
