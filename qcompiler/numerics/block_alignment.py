"""Values whose exponents differ, brought to one exponent a block: the largest, so that nothing overflows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcompiler.numerics.block_conversion import block_grid_shape, spread
from qcompiler.numerics.block_shift import shift_right
from qcompiler.numerics.rounding import Int64

NO_EXPONENT = -(1 << 20)
"""Exponent of what is no value, such as padding: below every other, so that it never decides."""


def largest_exponents(exponents: NDArray[Any], shape: Sequence[int], blocks: Sequence[int]) -> Int64:
    """The largest exponent of each block, on the block grid.

    Args:
        exponents: of each value, broadcastable to ``shape``, of the same rank.
        shape: shape of the values.
        blocks: block length in each dimension.
    """
    found = exponents.astype(np.int64, copy=False)
    for axis, (size, length) in enumerate(zip(shape, blocks, strict=True)):
        if found.shape[axis] > 1 and length > 1:
            found = np.maximum.reduceat(found, range(0, size, length), axis)
    return np.broadcast_to(found, block_grid_shape(shape, blocks))


def align_to_blocks(
    x: Int64, exponents: NDArray[Any], blocks: Sequence[int], rounding: str
) -> tuple[Int64, NDArray[np.int32]]:
    """Integers with an exponent each, at one exponent a block.

    The exponent of a block is the largest of its values'. Values at smaller exponents are shifted right and rounded.

    Args:
        x: integers below 2**62 in magnitude.
        exponents: broadcastable to ``x``, of the same rank.
        blocks: block length in each dimension.
        rounding: a name in ``SHIFT_ROUNDINGS``.

    Returns:
        Integers of the shape of ``x``, and exponents on the block grid.
    """
    grid = largest_exponents(exponents, x.shape, blocks)
    return shift_to(x, exponents, spread(grid, x.shape, blocks), rounding), grid.astype(np.int32)


def shift_to(x: Int64, exponents: NDArray[Any], target: NDArray[Any], rounding: str) -> Int64:
    """Integers at ``exponents``, expressed at the exponents ``target``, none of which is smaller."""
    places = target.astype(np.int64) - exponents.astype(np.int64)
    return shift_right(x, places, rounding) if places.any() else x
