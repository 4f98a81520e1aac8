"""Integers moved to another exponent by any number of places, without overflow of 64 bits."""

from __future__ import annotations

import numpy as np

from qcompiler.numerics.rounding import SHIFT_ROUNDINGS, Int64

LIMIT = 1 << 62
"""Magnitudes stay below this, so that adding one half before a shift cannot overflow."""

_LONGEST_SHIFT = 62


def bit_length(x: Int64) -> Int64:
    """Bits of each non-negative integer; 0 has none."""
    below = x.copy()
    for places in (1, 2, 4, 8, 16, 32):
        below |= below >> places
    return np.bitwise_count(below).astype(np.int64)


def shift_right(x: Int64, places: Int64, rounding: str) -> Int64:
    """``x / 2**places`` of integers below 2**62 in magnitude, for any ``places`` >= 0."""
    if not places.any() and x.shape == np.broadcast_shapes(x.shape, places.shape):
        return x
    if places.size == 0 or int(places.max()) <= _LONGEST_SHIFT:
        return SHIFT_ROUNDINGS[rounding](x, places)
    # What lies below one half rounds as a quarter does.
    far = places > _LONGEST_SHIFT
    return SHIFT_ROUNDINGS[rounding](np.where(far, np.sign(x), x), np.where(far, 2, places))


def shift_left_saturating(x: Int64, places: Int64) -> Int64:
    """``x * 2**places`` for any ``places`` >= 0, limited to magnitudes of 2**62."""
    if places.size == 0 or not places.any():
        return x + np.zeros_like(places)
    within = np.abs(x) <= np.int64(LIMIT) >> np.minimum(places, _LONGEST_SHIFT + 1)
    return np.where(within, x << np.where(within, places, 0), np.sign(x) * np.int64(LIMIT))


def move(x: Int64, exponents: Int64, target: Int64, rounding: str) -> Int64:
    """Integers at ``exponents``, expressed at the exponents ``target``: rounded, or saturated at 2**62.

    Args:
        x: below 2**62 in magnitude.
        exponents, target: broadcastable with ``x``.
        rounding: a name in ``SHIFT_ROUNDINGS``.
    """
    places = target - exponents
    rounded = shift_right(x, np.maximum(places, 0), rounding)
    return shift_left_saturating(rounded, np.maximum(-places, 0))
