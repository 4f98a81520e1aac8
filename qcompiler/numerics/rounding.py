"""Rounding of integers divided by powers of two, and of reals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Int64 = NDArray[np.int64]


def shift_half_up(x: Int64, shift: Int64 | int) -> Int64:
    """``x / 2**shift``, ties toward plus infinity. ``shift`` >= 0."""
    return (x + _half(shift)) >> shift


def shift_half_away(x: Int64, shift: Int64 | int) -> Int64:
    """``x / 2**shift``, ties away from zero. ``shift`` >= 0."""
    return (x + _half(shift) - ((x < 0) & (np.asarray(shift) > 0))) >> shift


def shift_half_even(x: Int64, shift: Int64 | int) -> Int64:
    """``x / 2**shift``, ties to the even neighbour. ``shift`` >= 0."""
    odd = (x >> shift) & 1
    return np.where(np.asarray(shift) > 0, (x + _half(shift) - 1 + odd) >> shift, x)


def shift_truncate(x: Int64, shift: Int64 | int) -> Int64:
    """``x / 2**shift``, rounded toward zero. ``shift`` >= 0."""
    magnitude: Int64 = np.abs(x) >> shift
    return np.sign(x) * magnitude


def shift_floor(x: Int64, shift: Int64 | int) -> Int64:
    """``x / 2**shift``, rounded toward minus infinity. ``shift`` >= 0."""
    return x >> shift


SHIFT_ROUNDINGS: dict[str, Callable[[Int64, Int64 | int], Int64]] = {
    "half-up": shift_half_up,
    "half-away": shift_half_away,
    "half-even": shift_half_even,
    "toward-zero": shift_truncate,
    "floor": shift_floor,
}
"""Roundings of a division by a power of two, by the name that a descriptor cites."""


def divide_half_away(x: Int64, divisor: Int64 | int) -> Int64:
    """``x / divisor``, ties away from zero, for a positive divisor."""
    half = np.asarray(divisor) // 2
    magnitude: Int64 = (np.abs(x) + half) // divisor
    return np.sign(x) * magnitude


def divide_half_up(x: Int64, divisor: Int64 | int) -> Int64:
    """``x / divisor``, ties toward plus infinity, for a positive divisor."""
    quotient: Int64 = (2 * x + divisor) // (2 * np.asarray(divisor))
    return quotient


def divide_half_even(x: Int64, divisor: Int64 | int) -> Int64:
    """``x / divisor``, ties to the even neighbour, for a positive divisor."""
    quotient, remainder = np.divmod(x, divisor)
    # Twice the remainder exceeds the divisor, or equals it at an odd quotient.
    up: Int64 = quotient + (2 * remainder + (quotient & 1) > divisor)
    return up


DIVISION_ROUNDINGS: dict[str, Callable[[Int64, Int64 | int], Int64]] = {
    "half-up": divide_half_up,
    "half-away": divide_half_away,
    "half-even": divide_half_even,
}
"""Roundings of a division by a whole number, by the name that a descriptor cites."""


def round_half_up(x: NDArray[Any]) -> NDArray[Any]:
    """Nearest whole number of each real, ties toward plus infinity, in the float format of ``x``."""
    # The fraction is exact near one half, where it decides; floor(x + 0.5) is not.
    whole: NDArray[Any] = np.floor(x)
    rounded: NDArray[Any] = whole + (x - whole >= 0.5)
    return rounded


def round_half_away(x: NDArray[Any]) -> NDArray[Any]:
    """Nearest whole number of each real, ties away from zero, in the float format of ``x``.

    Truncation and the fraction are exact in floating point, unlike ``floor(x + 0.5)``, which turns the largest
    number below one half into 1.
    """
    whole: NDArray[Any] = np.trunc(x)
    step = np.where(np.abs(x - whole) >= 0.5, np.copysign(np.ones_like(x), x), np.zeros_like(x))
    return whole + step


REAL_ROUNDINGS: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    "half-away": round_half_away, "half-even": np.rint, "half-up": round_half_up,
}
"""Roundings of a real to a whole number, by the name that a descriptor cites."""


def _half(shift: Int64 | int) -> Int64:
    return (np.int64(1) << np.asarray(shift, np.int64)) >> 1
