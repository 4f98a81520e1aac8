"""How large the sums of a contraction can get: bounds from the actual weights, which some input reaches."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcompiler.errors import QCompilerError
from qcompiler.numerics.block_accumulator import FixedPointAccumulator, bits_for
from qcompiler.numerics.block_contraction import BlockOperand
from qcompiler.numerics.block_format import BlockFormat
from qcompiler.numerics.block_shift import LIMIT, shift_right
from qcompiler.numerics.rounding import Int64

Integers = NDArray[Any]


def growth_bounds(
    w: BlockOperand, length: int, x: BlockFormat, accumulator: FixedPointAccumulator, shared_exponent: bool = False
) -> tuple[list[int], list[int]]:
    """The smallest and largest sum of each output channel, over all operands x of the format, in any order of blocks.

    Where x has an exponent for each block, the worst operand makes all pairs of blocks meet at one exponent, so
    nothing is shifted out; it exists where the exponents of x span what those of the weights span. Where x has one
    exponent along the reduction, blocks of weights with small exponents count less, rounded as the contraction does.

    Partial sums stay within the bounds too, since all terms of the worst sum have one sign.

    Args:
        w: weights ``[K, N]`` with exponents ``[B or 1, N or 1]``.
        length: terms in a block of the reduction.
        x: format of the other operand.
        accumulator: its rounding and binary places; its width does not enter.
        shared_exponent: whether x has a single exponent along the reduction.

    Returns:
        For each of N channels the smallest and the largest sum, at the exponent of the contraction's result.

    Raises:
        QCompilerError: the weights have leading dimensions, or products too wide for a fixed-point accumulator.
    """
    if w.mantissas.ndim != 2:
        raise QCompilerError("growth is bounded for weights of two dimensions", found=str(list(w.mantissas.shape)))
    terms, channels = w.mantissas.shape
    # Python integers where sums of products could leave 64 bits.
    largest = int(np.abs(w.mantissas.astype(np.int64)).max(initial=0)) * max(-x.smallest, x.largest) * max(terms, 1)
    weights = w.mantissas.astype(np.int64 if largest < LIMIT else object)
    ends = weights * x.smallest, weights * x.largest
    step = length if w.exponents.shape[0] > 1 else max(terms, 1)
    parts = [slice(start, start + step) for start in range(0, terms, step)]
    exponents = np.broadcast_to(w.exponents, (len(parts), channels)).astype(np.int64)
    places = exponents.max(axis=0, keepdims=True) - exponents if shared_exponent and parts else 0 * exponents
    lowest, highest = ([pick(*ends)[part].sum(axis=0) for part in parts] for pick in (np.minimum, np.maximum))
    return _total(lowest, places, accumulator), _total(highest, places, accumulator)


def growth_bits(
    w: BlockOperand, length: int, x: BlockFormat, accumulator: FixedPointAccumulator, shared_exponent: bool = False
) -> int:
    """Bits of the narrowest accumulator that no operand x can overflow; see :func:`growth_bounds`."""
    lowest, highest = growth_bounds(w, length, x, accumulator, shared_exponent)
    return bits_for(min(lowest, default=0), max(highest, default=0))


def _total(dots: list[Integers], places: Int64, accumulator: FixedPointAccumulator) -> list[int]:
    """Sums over blocks of each channel's dots, moved to the result's exponent as the contraction does."""
    widest = max((abs(int(value)) for dot in dots for value in dot), default=0) << accumulator.fraction
    if widest >= LIMIT:
        raise QCompilerError(
            "the products of these mantissas are too wide for a fixed-point accumulator",
            expected="dots of a block below 2**62", found=f"up to {widest.bit_length()} bits",
            fix="accumulate in float32, or use narrower mantissas or shorter blocks",
        )
    total = np.zeros(places.shape[1:], object)
    for dot, shift in zip(dots, places, strict=True):
        scaled = dot.astype(np.int64) << accumulator.fraction
        total = total + shift_right(scaled, shift, accumulator.rounding).astype(object)
    return [int(t) for t in total]
