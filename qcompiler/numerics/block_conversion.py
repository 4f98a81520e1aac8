"""Conversion into, out of and between block formats.

Reals are taken apart into integers and exponents first, exactly. From there on every path is the same integer code:
pick an exponent for each block, move each value to it, mend overflow. Blocks are given as lengths in each dimension,
the last block of a dimension may be shorter; ``()`` is one block of all values.

The rules are those of :class:`~qcompiler.numerics.block_format.BlockFormat`. Exponents on a block grid have one entry
for each block; ``()`` has a grid without dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcompiler.errors import QCompilerError
from qcompiler.numerics.block_format import BlockFormat
from qcompiler.numerics.block_shift import LIMIT, bit_length, move, shift_left_saturating, shift_right
from qcompiler.numerics.rounding import Int64

Integers = NDArray[Any]
Blocks = Sequence[int]

_NOTHING = -(1 << 40)
"""Position of the leading bit of zero: below every exponent."""


def block_grid_shape(shape: Sequence[int], blocks: Blocks) -> tuple[int, ...]:
    """How many blocks stand along each dimension; the last may be shorter.

    Raises:
        QCompilerError: not one positive length for each dimension.
    """
    if not blocks:
        return ()
    if len(blocks) != len(shape) or any(length < 1 for length in blocks):
        raise QCompilerError(
            f"blocks {list(blocks)} do not fit shape {list(shape)}", expected="one positive length for each dimension"
        )
    return tuple(-(-size // length) for size, length in zip(shape, blocks, strict=True))


def spread(grid: Integers, shape: Sequence[int], blocks: Blocks) -> Int64:
    """Entries of a block grid, repeated so that they broadcast against values of ``shape``.

    Raises:
        QCompilerError: ``grid`` does not have the shape of the block grid.
    """
    expected = block_grid_shape(shape, blocks)
    if grid.shape != expected:
        raise QCompilerError(
            f"exponents do not stand on the grid of blocks {list(blocks)}",
            expected=f"shape {list(expected)}", found=f"shape {list(grid.shape)}",
        )
    result = grid.astype(np.int64, copy=False)
    for axis, (count, length) in enumerate(zip(expected, blocks, strict=True)):
        if count > 1 and length > 1:
            result = np.repeat(result, length, axis).take(range(shape[axis]), axis)
    return result


def to_block(
    x: NDArray[Any], format: BlockFormat, blocks: Blocks, exponents: Integers | None = None
) -> tuple[Integers, NDArray[np.int32]]:
    """Reals as mantissas and exponents.

    Args:
        x: float32 or float64.
        format: what to write.
        blocks: block length in each dimension; ``()`` for one block.
        exponents: exponents fixed in advance, on the block grid; found from the values where None. Mantissas that
            do not fit are clamped.

    Returns:
        Mantissas in ``format.mantissa_dtype`` and exponents on the block grid.

    Raises:
        QCompilerError: an infinity or NaN, another type, blocks that do not fit, or an exponent out of range.
    """
    if x.dtype not in (np.float32, np.float64):
        raise QCompilerError("only float32 and float64 become block floating point", found=str(x.dtype))
    if not np.isfinite(x).all():
        raise QCompilerError(
            "block floating point has no infinity and no NaN", found=str(x[~np.isfinite(x)].flat[0]),
            fix="look at the values before this one: what made them infinite?",
        )
    fraction, exponent = np.frexp(x.astype(np.float64))
    significands = np.ldexp(fraction, 53).astype(np.int64)
    return _write(significands, exponent.astype(np.int64) - 53, format, blocks, exponents)


def from_block(
    mantissas: Integers, exponents: Integers, blocks: Blocks, dtype: type[np.float32] | type[np.float64] = np.float64
) -> NDArray[Any]:
    """The exact reals that mantissas and exponents stand for.

    Raises:
        QCompilerError: ``dtype`` cannot hold a value exactly, or the exponents do not fit the blocks.
    """
    steps = spread(exponents, mantissas.shape, blocks)
    wide = mantissas.astype(np.float64)
    with np.errstate(over="ignore", under="ignore"):
        result = np.ldexp(wide, steps).astype(dtype)
        returned = np.ldexp(result.astype(np.float64), -steps)
    exact = (wide.astype(np.int64) == mantissas) & np.isfinite(result) & (returned == wide)
    if not exact.all():
        where = tuple(int(i[0]) for i in np.nonzero(~exact))
        exponent = np.broadcast_to(steps, mantissas.shape)[where]
        raise QCompilerError(
            f"{np.dtype(dtype)} does not hold a block floating-point value exactly",
            found=f"{mantissas[where]} * 2**{exponent}",
            fix="narrow the exponent's range" if dtype is np.float64 else "convert to float64",
        )
    return result


def normalize(
    mantissas: Integers, exponents: Integers, blocks: Blocks, format: BlockFormat, fixed: Integers | None = None
) -> tuple[Integers, NDArray[np.int32]]:
    """Wide mantissas, such as sums, in another format on the same blocks. Integers only.

    Args:
        mantissas: below 2**62 in magnitude.
        exponents: of any size, on the block grid.
        blocks: block length in each dimension.
        format: what to write.
        fixed: exponents fixed in advance, on the block grid; found from the values where None.

    Raises:
        QCompilerError: as for :func:`reblock`.
    """
    return reblock(mantissas, exponents, blocks, format, blocks, fixed)


def reblock(
    mantissas: Integers, exponents: Integers, blocks: Blocks, format: BlockFormat, target: Blocks,
    fixed: Integers | None = None,
) -> tuple[Integers, NDArray[np.int32]]:
    """The same values on another grid of blocks, in the given format. Integers only.

    Each value is rounded once, from its exact value. A value that fits the new format exactly is kept.

    Args:
        mantissas: below 2**62 in magnitude.
        exponents: of any size, on the grid of ``blocks``.
        blocks: block lengths of the operand.
        format: what to write.
        target: block lengths of the result.
        fixed: exponents fixed in advance, on the grid of ``target``; found from the values where None.

    Raises:
        QCompilerError: mantissas are no integers or too large, or exponents do not fit.
    """
    return _write(
        checked_mantissas(mantissas), spread(exponents, mantissas.shape, blocks), format, target, fixed
    )


def align(
    a: Integers, a_exponents: Integers, b: Integers, b_exponents: Integers, rounding: str = "half-even"
) -> tuple[Int64, Int64, Int64]:
    """Two operands at the larger of their exponents. Integers only.

    The operand at the smaller exponent is shifted right and rounded, so nothing can overflow; the other is kept. An
    all-zero block has the smallest exponent, so it costs the other operand nothing.

    Args:
        a, b: mantissas below 2**62 in magnitude, broadcastable with each other.
        a_exponents, b_exponents: broadcastable with the mantissas, see :func:`spread`.
        rounding: a name in ``SHIFT_ROUNDINGS``.

    Returns:
        Mantissas of a, mantissas of b, and the exponents of both, with the broadcast shape of the exponents.

    Raises:
        QCompilerError: mantissas are no integers or too large.
    """
    left, right = a_exponents.astype(np.int64), b_exponents.astype(np.int64)
    larger = np.maximum(left, right)
    return (
        shift_right(checked_mantissas(a), larger - left, rounding),
        shift_right(checked_mantissas(b), larger - right, rounding),
        larger,
    )


def checked_mantissas(mantissas: Integers) -> Int64:
    """Mantissas as int64.

    Raises:
        QCompilerError: they are no integers, or some reach 2**62 in magnitude.
    """
    if mantissas.dtype.kind not in "iu":
        raise QCompilerError("mantissas are integers", found=str(mantissas.dtype))
    if mantissas.size and (int(mantissas.max()) >= LIMIT or int(mantissas.min()) <= -LIMIT):
        raise QCompilerError("a mantissa is too wide", expected="less than 2**62 in magnitude")
    return mantissas.astype(np.int64, copy=False)


def _write(
    x: Int64, exponents: Int64, format: BlockFormat, blocks: Blocks, fixed: Integers | None
) -> tuple[Integers, NDArray[np.int32]]:
    """``x * 2**exponents`` as mantissas and exponents; ``exponents`` broadcast against ``x``."""
    if fixed is not None:
        grid = _checked_exponents(fixed, format)
        mantissas = mantissas_at(x, exponents, spread(grid, x.shape, blocks), format)
    else:
        grid = _choose_exponents(x, exponents, format, blocks)
        mantissas = mantissas_at(x, exponents, spread(grid, x.shape, blocks), format)
        overflow = _beyond(mantissas, format)
        if overflow.any():
            raised = grid + _largest_of_block(overflow.astype(np.int64), blocks, 0)
            grid = np.minimum(raised, format.exponent_range[1])
            mantissas = mantissas_at(x, exponents, spread(grid, x.shape, blocks), format)
    clamped = np.clip(mantissas, format.smallest, format.largest)
    return clamped.astype(format.mantissa_dtype), grid.astype(np.int32)


def _choose_exponents(x: Int64, exponents: Int64, format: BlockFormat, blocks: Blocks) -> Int64:
    """Exponents on the block grid by the scale rule, as they are before rounding overflows."""
    # In two's complement -2**k has as many redundant sign bits as 2**k - 1.
    magnitude = np.where(x < 0, ~x, x) if format.scale == "headroom" else np.abs(x)
    bits = np.where(x != 0, bit_length(magnitude) + exponents, _NOTHING)
    largest = _largest_of_block(bits, blocks, _NOTHING)
    return np.clip(largest - 1 - format.leading_bit + format.guard, *format.exponent_range)


def mantissas_at(x: Int64, exponents: Int64, target: Int64, format: BlockFormat) -> Int64:
    """``x * 2**exponents`` as mantissas of a format at the exponents ``target``, not clamped.

    Args:
        x: below 2**62 in magnitude.
        exponents, target: broadcastable with ``x``.
        format: its rounding and its element; what is beyond 2**62 is saturated there.
    """
    if format.precision is None:
        return move(x, exponents, target, format.rounding)
    # A floating-point element keeps its leading bits: its last one lies above the step for large elements.
    last = np.maximum(bit_length(np.abs(x)) + exponents - format.precision, target)
    rounded = shift_right(x, np.maximum(last - exponents, 0), format.rounding)
    return shift_left_saturating(rounded, np.maximum(last, exponents) - target)


def _beyond(mantissas: Int64, format: BlockFormat) -> NDArray[np.bool_]:
    """Which mantissas ask for a larger exponent."""
    if format.scale == "no-overflow":
        return np.abs(mantissas) > format.largest
    if format.overflow == "raise":
        return (mantissas > format.largest) | (mantissas < format.smallest)
    return np.zeros((), np.bool_)


def _largest_of_block(values: Int64, blocks: Blocks, empty: int) -> Int64:
    """The largest value of each block, on the block grid; ``empty`` where there is none."""
    block_grid_shape(values.shape, blocks)
    if not blocks:
        return np.asarray(values.max(initial=empty))
    for axis, length in enumerate(blocks):
        size = values.shape[axis]
        if length == 1 or size == 0:
            continue
        if size % length == 0:
            split = (*values.shape[:axis], size // length, length, *values.shape[axis + 1 :])
            values = values.reshape(split).max(axis + 1, initial=empty)
        else:
            values = np.maximum.reduceat(values, range(0, size, length), axis)
    return values


def _checked_exponents(exponents: Integers, format: BlockFormat) -> Int64:
    lowest, highest = format.exponent_range
    if exponents.dtype.kind not in "iu":
        raise QCompilerError("exponents are integers", found=str(exponents.dtype))
    if exponents.size and (exponents.min() < lowest or exponents.max() > highest):
        raise QCompilerError(
            "an exponent is outside the range of its block format", expected=f"{lowest} to {highest}",
            found=f"{exponents.min()} to {exponents.max()}",
        )
    return exponents.astype(np.int64)
