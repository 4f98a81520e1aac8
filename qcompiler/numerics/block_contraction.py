"""Sums of products of block floating-point operands: the exact reference.

The reduction axis is cut into blocks of ``length`` terms. Within a block both operands have one exponent, so the dot
product of its mantissas is an integer, exact, at the sum of the two exponents. The dots of the blocks then go, in
the order of the blocks,

- into a fixed-point accumulator (:func:`contract`): each is shifted to the accumulator's exponent, the largest of
  its pairs of blocks, and added; or
- into float32 (:func:`contract_float32`): each is rounded to float32 once, and added in float32 without a fused step.

Operands: x ``[..., M, K]`` with exponents ``[..., M, B]``, w ``[..., K, N]`` with exponents ``[..., B, N]``, where
B = ceil(K / length). Any axis of the exponents may have length 1: ``[..., 1, 1]`` is one exponent for all values.
Where neither operand's exponent changes along the reduction, the whole sum is one dot.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcompiler.errors import QCompilerError
from qcompiler.numerics.block_accumulator import FixedPointAccumulator
from qcompiler.numerics.block_shift import LIMIT, bit_length, move
from qcompiler.numerics.rounding import Int64

Integers = NDArray[Any]
Float32 = NDArray[np.float32]

_FLOAT32_EXACT = 1 << 24
_FLOAT64_EXACT = 1 << 53
_WIDEST_OPERAND = 33
"""Bits of the widest mantissa that is multiplied: that of e5m2 elements."""
_HALF_BITS = 17
_HALF_MASK = (1 << _HALF_BITS) - 1
_WIDE_PLACES = 2 * _HALF_BITS
_LONGEST_WIDE_BLOCK = _FLOAT64_EXACT >> 2 * _HALF_BITS


@dataclass(frozen=True)
class BlockOperand:
    """Mantissas of one operand of a contraction with the exponents of its blocks.

    Attributes:
        mantissas: x as ``[..., M, K]``, or w as ``[..., K, N]``.
        exponents: x as ``[..., M, B]``, or w as ``[..., B, N]``; each axis may have length 1 instead.
    """

    mantissas: Integers
    exponents: Integers


def contract(
    x: BlockOperand, w: BlockOperand, length: int, accumulator: FixedPointAccumulator, at_least: Integers | None = None
) -> tuple[Int64, Int64]:
    """Sums of products in a fixed-point accumulator.

    Each result has an exponent: the largest sum of exponents over its pairs of blocks, less the accumulator's
    ``fraction``. Dots of smaller pairs are shifted right and rounded. Overflow is looked at after each block's dot is
    added, in the order of the blocks; a dot itself is exact, so a contraction of one block overflows at its end or
    not at all.

    Args:
        x, w: the operands.
        length: terms in a block of the reduction; the last block may be shorter.
        accumulator: its width, overflow and rounding.
        at_least: exponents below which no result goes, broadcastable with the results; None for no limit. A bias that
            can be shifted left by s places without overflow asks for its exponent less s.

    Returns:
        Sums ``[..., M, N]``, and their exponents, which broadcast against the sums: an axis along which neither
        operand's exponents change has length 1.

    Raises:
        QCompilerError: shapes do not fit, or a sum overflows an accumulator in which overflow is forbidden.
    """
    dots = _BlockDots(x, w, length)
    target = dots.exponents(0)
    for block in range(1, dots.count):
        target = np.maximum(target, dots.exponents(block))
    target = target - accumulator.fraction
    if at_least is not None:
        target = np.maximum(target, at_least)
    dots.check_width(accumulator.fraction)

    def aligned(block: int) -> Int64:
        return move(dots.integers(block), dots.exponents(block), target, accumulator.rounding)

    total = accumulator.store(aligned(0))
    for block in range(1, dots.count):
        total = accumulator.add(total, aligned(block))
    return total, target


def contract_float32(x: BlockOperand, w: BlockOperand, length: int, order: str = "sequential") -> Float32:
    """Sums of products, accumulated in float32.

    Args:
        x, w: the operands.
        length: terms in a block of the reduction; the last block may be shorter.
        order: ``sequential`` adds the dots from the first block to the last; ``pairwise`` adds neighbours, then
            neighbouring sums, until one is left, and carries an odd one over.

    Returns:
        Sums ``[..., M, N]``.

    Raises:
        QCompilerError: shapes do not fit, there is no such order, or a sum is beyond float32.
    """
    if order not in SUMMATION_ORDERS:
        raise QCompilerError(f"unknown order of summation {order!r}", expected="one of " + ", ".join(SUMMATION_ORDERS))
    dots = _BlockDots(x, w, length)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        result = SUMMATION_ORDERS[order](dots.float32, 0, dots.count)
    if not np.isfinite(result).all():
        raise QCompilerError(
            "a sum of products is beyond the range of float32", fix="limit the range of the operands' exponents"
        )
    return result


def _sequential(dot: Callable[[int], Float32], start: int, stop: int) -> Float32:
    total = dot(start)
    for block in range(start + 1, stop):
        total = total + dot(block)
    return total


def _pairwise(dot: Callable[[int], Float32], start: int, stop: int) -> Float32:
    if stop - start == 1:
        return dot(start)
    # Neighbours of each round are those of a tree whose left part is the largest power of two.
    middle = start + (1 << (stop - start - 1).bit_length() - 1)
    return _pairwise(dot, start, middle) + _pairwise(dot, middle, stop)


SUMMATION_ORDERS: dict[str, Callable[[Callable[[int], Float32], int, int], Float32]] = {
    "sequential": _sequential, "pairwise": _pairwise,
}
"""Orders in which float32 accumulators add the dots of blocks, by name."""


class _BlockDots:
    """Dot products of the mantissas of one pair of blocks at a time."""

    def __init__(self, x: BlockOperand, w: BlockOperand, length: int) -> None:
        self.x, self.w = x, w
        self.terms: int = x.mantissas.shape[-1]
        full = _checked_block_count(x, w, length)
        along = max(x.exponents.shape[-1], w.exponents.shape[-2])
        self.count = full if along > 1 else 1
        self.length: int = length if along > 1 else max(self.terms, 1)
        left, right = _magnitude(x.mantissas), _magnitude(w.mantissas)
        # Factors are within the bound too, even where the others are all zero.
        self.bound = max(left * right * min(self.length, self.terms), left, right, 1)
        self.exact = self.bound < _FLOAT64_EXACT
        if not self.exact:
            _check_wide(max(left, right), self.length)
        carrier = np.float32 if self.bound < _FLOAT32_EXACT else np.float64
        if self.exact:
            self.left = x.mantissas.astype(carrier)
            self.right = w.mantissas.astype(carrier)

    def exponents(self, block: int) -> Int64:
        """Sum of the exponents of this pair of blocks: ``[..., M or 1, N or 1]``."""
        left, right = self.x.exponents, self.w.exponents
        column = left[..., block if left.shape[-1] > 1 else 0].astype(np.int64)
        row = right[..., block if right.shape[-2] > 1 else 0, :].astype(np.int64)
        return column[..., :, None] + row[..., None, :]

    @cached_property
    def scaled(self) -> tuple[Integers, Integers] | None:
        """Both operands times the powers of two of their blocks; None where float64 does not hold all of that.

        Products of a pair of blocks are multiples of one power of two, so that their sum is exact like that of the
        mantissas, where no factor and no product is subnormal, and none and no sum overflows.
        """
        spans = [_exponent_span(operand) for operand in (self.x, self.w)]
        spans.append((spans[0][0] + spans[1][0], spans[0][1] + spans[1][1]))
        low, high = min(s[0] for s in spans), max(s[1] for s in spans)
        if self.bound < _FLOAT32_EXACT and low >= -126 and high + 24 <= 127:
            carrier: type[np.floating[Any]] = np.float32
        elif low >= -1022 and high + 53 <= 1023:
            carrier = np.float64
        else:
            return None
        return (
            np.ldexp(self.x.mantissas.astype(carrier), self._each(self.x.exponents, -1)),
            np.ldexp(self.w.mantissas.astype(carrier), self._each(self.w.exponents, -2)),
        )

    def _each(self, exponents: Integers, axis: int) -> Integers:
        """Exponents of blocks as those of values along the reduction."""
        if exponents.shape[axis] == 1:
            return exponents
        return np.repeat(exponents, self.length, axis).take(range(self.terms), axis)

    def check_width(self, fraction: int) -> None:
        """Refuse dots that do not fit 62 bits with this many places below them."""
        if self.bound << fraction >= LIMIT:
            raise QCompilerError(
                "the products of these mantissas are too wide for a fixed-point accumulator",
                expected="dots of a block below 2**62", found=f"up to {(self.bound << fraction).bit_length()} bits",
                fix="accumulate in float32, or use narrower mantissas or shorter blocks",
            )

    def integers(self, block: int) -> Int64:
        """The dots, exact."""
        if self.exact:
            return self._multiply(self.left, self.right, block).astype(np.int64)
        high, low = self._wide(block)
        return (high << _WIDE_PLACES) + low

    def float32(self, block: int) -> Float32:
        """The dots with their exponents, rounded to float32 once, half to even."""
        if self.exact and self.scaled is not None:
            scaled: Float32 = self._multiply(*self.scaled, block).astype(np.float32, copy=False)
            return scaled
        if self.exact:
            wide = self._multiply(self.left, self.right, block).astype(np.float64)
            direct: Float32 = np.ldexp(wide, self.exponents(block)).astype(np.float32)
            return direct
        high, low = self._wide(block)
        # At most 52 bits are kept, so that float64 is exact; the last one is set where something is left out, which
        # decides ties as the exact dot does.
        kept_places = np.clip(52 - bit_length(np.abs(high)), 0, _WIDE_PLACES)
        dropped = _WIDE_PLACES - kept_places
        kept = (high << kept_places) + (low >> dropped) | ((low & ((np.int64(1) << dropped) - 1)) != 0)
        rounded: Float32 = np.ldexp(kept.astype(np.float64), self.exponents(block) + dropped).astype(np.float32)
        return rounded

    def _wide(self, block: int) -> tuple[Int64, Int64]:
        """The dots as ``high * 2**34 + low`` with 0 <= low < 2**34, from products of halves of mantissas."""
        (a_high, a_low), (b_high, b_low) = _halves(self.x.mantissas), _halves(self.w.mantissas)

        def dot(a: Integers, b: Integers) -> Int64:
            return self._multiply(a, b, block).astype(np.int64)

        lowest = dot(a_low, b_low)
        middle = dot(a_high, b_low) + dot(a_low, b_high) + (lowest >> _HALF_BITS)
        low = ((middle & _HALF_MASK) << _HALF_BITS) + (lowest & _HALF_MASK)
        return dot(a_high, b_high) + (middle >> _HALF_BITS), low

    def _multiply(self, a: Integers, b: Integers, block: int) -> Integers:
        part = slice(block * self.length, (block + 1) * self.length)
        product: Integers = a[..., part] @ b[..., part, :]
        return product


def _exponent_span(operand: BlockOperand) -> tuple[int, int]:
    """Smallest and largest exponent; that of padding, which is far below every other, does not count."""
    known = operand.exponents[operand.exponents > -(1 << 16)]
    return (int(known.min()), int(known.max())) if known.size else (0, 0)


def _halves(mantissas: Integers) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mantissas of up to 33 bits as ``high * 2**17 + low`` with 0 <= low < 2**17."""
    wide = mantissas.astype(np.int64)
    return (wide >> _HALF_BITS).astype(np.float64), (wide & _HALF_MASK).astype(np.float64)


def _check_wide(magnitude: int, length: int) -> None:
    """Refuse what products of halves cannot hold."""
    if magnitude > 1 << (_WIDEST_OPERAND - 1) or length >= _LONGEST_WIDE_BLOCK:
        raise QCompilerError(
            "the products of these mantissas are too wide to sum up exactly",
            expected=f"mantissas of {_WIDEST_OPERAND} bits, fewer than {_LONGEST_WIDE_BLOCK} terms in a block",
            found=f"{magnitude.bit_length() + 1} bits, {length} terms",
        )


def _magnitude(array: Integers) -> int:
    return max(abs(int(array.min())), abs(int(array.max()))) if array.size else 0


def _checked_block_count(x: BlockOperand, w: BlockOperand, length: int) -> int:
    """Blocks along the reduction.

    Raises:
        QCompilerError: operands, exponents and block length do not fit each other.
    """
    terms: int = x.mantissas.shape[-1]
    if w.mantissas.shape[-2] != terms:
        raise QCompilerError(
            "the operands of a contraction do not line up", expected=f"{terms} terms, as in x",
            found=f"{w.mantissas.shape[-2]} in w",
        )
    if length < 1:
        raise QCompilerError("a block has at least one term", found=f"length {length}")
    count: int = max(-(-terms // length), 1)
    for name, operand, along in (("x", x, -1), ("w", w, -2)):
        shape, grid = operand.mantissas.shape, operand.exponents.shape
        expected = [*shape]
        expected[along] = count
        if len(grid) != len(shape) or any(g not in (1, e) for g, e in zip(grid, expected, strict=True)):
            raise QCompilerError(
                f"the exponents of {name} do not fit its mantissas and blocks of {length}",
                expected=f"shape {expected}, or 1 in place of any", found=f"shape {list(grid)}",
            )
    return count
