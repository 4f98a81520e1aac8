"""Fixed-point multipliers and the 32-bit fixed-point functions of gemmlowp, in int64 numpy.

Source: gemmlowp ``fixedpoint/fixedpoint.h`` and LiteRT ``kernels/internal/common.h``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from qcompiler.numerics.rounding import Int64, round_half_away, shift_half_away

INT32_MIN, INT32_MAX = -(1 << 31), (1 << 31) - 1
INT64_MAX = (1 << 63) - 1


def quantize_multiplier(real: ArrayLike) -> tuple[Int64, Int64]:
    """A real number as ``multiplier * 2**(shift - 31)`` with a 31-bit multiplier.

    Args:
        real: non-negative float64 numbers.

    Returns:
        ``multiplier`` in [2**30, 2**31) and ``shift``, int64; both 0 for numbers below 2**-32, which LiteRT
        flushes to zero.
    """
    value = np.asarray(real, np.float64)
    fraction, exponent = np.frexp(value)
    multiplier = round_half_away(fraction * 2.0**31).astype(np.int64)
    shift = exponent.astype(np.int64)
    full = multiplier == 1 << 31
    multiplier = np.where(full, 1 << 30, multiplier)
    shift = shift + full
    vanishing = (shift < -31) | (multiplier == 0)
    return np.where(vanishing, 0, multiplier), np.where(vanishing, 0, shift)


def rounding_doubling_high_multiply(a: ArrayLike, b: ArrayLike) -> Int64:
    """``round(a * b / 2**31)``, ties toward plus infinity, saturated at 2**31 - 1 for -2**31 squared.

    Args:
        a, b: integers of 32 bits, as int64 arrays.
    """
    product = np.asarray(a, np.int64) * np.asarray(b, np.int64)
    high: Int64 = np.minimum((product + (1 << 30)) >> 31, INT32_MAX)
    return high


def saturate32(x: Int64) -> Int64:
    """``x`` clipped to the range of 32-bit integers, elementwise; the element type stays int64."""
    return np.clip(x, INT32_MIN, INT32_MAX)


def _scale_by_power_of_two(x: Int64, exponent: int) -> Int64:
    """``x * 2**exponent``: saturating to the left, rounding half away to the right."""
    return saturate32(x << exponent) if exponent > 0 else shift_half_away(x, -exponent)


def exp_of_non_positive(a: Int64, integer_bits: int) -> Int64:
    """``exp(a)`` for ``a <= 0`` in Q(integer_bits) format, as Q0.31 (gemmlowp ``exp_on_negative_values``)."""
    fraction_bits = 31 - integer_bits
    quarter = np.int64(1) << (fraction_bits - 2)
    remainder_of_quarter = (a & (quarter - 1)) - quarter
    result = _exp_between_minus_quarter_and_zero(_scale_by_power_of_two(remainder_of_quarter, integer_bits))
    remainder = remainder_of_quarter - a
    # exp(-2**exponent) as Q0.31, for each bit of the remainder.
    for exponent, factor in (
        (-2, 1672461947), (-1, 1302514674), (0, 790015084), (1, 290630308), (2, 39332535), (3, 720401), (4, 242),
    ):
        if integer_bits > exponent:
            bit_is_set = (remainder & (np.int64(1) << (fraction_bits + exponent))) != 0
            result = np.where(bit_is_set, rounding_doubling_high_multiply(result, factor), result)
    return np.where(a == 0, INT32_MAX, result)


def _exp_between_minus_quarter_and_zero(a: Int64) -> Int64:
    """``exp(a)`` for ``a`` in [-1/4, 0) as Q0.31: a fourth-degree Taylor polynomial around -1/8."""
    exp_of_minus_eighth, one_third = 1895147668, 715827883
    x = a + (1 << 28)
    x2 = rounding_doubling_high_multiply(x, x)
    x3 = rounding_doubling_high_multiply(x2, x)
    x4 = rounding_doubling_high_multiply(x2, x2)
    x4_over_4 = _scale_by_power_of_two(x4, -2)
    tail = _scale_by_power_of_two(rounding_doubling_high_multiply(x4_over_4 + x3, one_third) + x2, -1)
    return saturate32(exp_of_minus_eighth + rounding_doubling_high_multiply(exp_of_minus_eighth, x + tail))


def reciprocal_of_one_plus(a: Int64) -> Int64:
    """``1 / (1 + a)`` for ``a`` in [0, 1) as Q0.31, by three Newton-Raphson steps (gemmlowp)."""
    half_sum = a + INT32_MAX
    half_denominator = np.sign(half_sum) * ((np.abs(half_sum) + 1) // 2)
    # 48/17 and -32/17 in Q2.29.
    x = 1515870810 + rounding_doubling_high_multiply(half_denominator, -1010580540)
    for _ in range(3):
        error = (1 << 29) - rounding_doubling_high_multiply(half_denominator, x)
        x = x + saturate32(rounding_doubling_high_multiply(x, error) << 2)
    return saturate32(x << 1)


def leading_zeros32(x: Int64) -> Int64:
    """Leading zero bits of each positive 32-bit integer."""
    _, bit_length = np.frexp(x.astype(np.float64))
    return (32 - bit_length).astype(np.int64)
