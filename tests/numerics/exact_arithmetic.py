"""The arithmetic's definition in Python integers and fractions, one number at a time.

Written from the published definitions (LiteRT's kernels, gemmlowp, TOSA's RESCALE) and sharing no code with
``qcompiler.numerics``. Floats enter as the exact fractions that they are; a float32 or float64 operation is
its exact result rounded by :func:`float32` or :func:`float64`.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from math import floor

Number = int | Fraction


def half_away(x: Number) -> int:
    return -floor(Fraction(1, 2) - x) if x < 0 else floor(x + Fraction(1, 2))


def half_up(x: Number) -> int:
    return floor(x + Fraction(1, 2))


def half_even(x: Number) -> int:
    whole = floor(x)
    rest = x - whole
    if rest == Fraction(1, 2):
        return whole + whole % 2
    return whole + (rest > Fraction(1, 2))


def toward_zero(x: Number) -> int:
    return -floor(-x) if x < 0 else floor(x)


ROUNDINGS: dict[str, Callable[[Number], int]] = {
    "half-up": half_up, "half-away": half_away, "half-even": half_even, "toward-zero": toward_zero, "floor": floor,
}


def binary_exponent(x: Fraction) -> int:
    """e of x = q * 2**e with 1/2 <= abs(q) < 1."""
    size, unit = abs(x.numerator), x.denominator
    exponent = size.bit_length() - unit.bit_length()
    # The quotient of the two lies in (2**(exponent - 1), 2**(exponent + 1)).
    reached = size >= unit << exponent if exponent >= 0 else size << -exponent >= unit
    return exponent + 1 if reached else exponent


def nearest_binary(x: Number, precision: int, lowest_exponent: int) -> Fraction:
    """``x`` rounded half to even to ``precision`` significant bits, fewer below the smallest normal number."""
    value = Fraction(x)
    if not value:
        return value
    unit = Fraction(2) ** max(binary_exponent(value) - precision, lowest_exponent)
    return half_even(value / unit) * unit


def float32(x: Number) -> Fraction:
    """``x`` rounded to float32; no overflow."""
    return nearest_binary(x, 24, -149)


def float64(x: Number) -> Fraction:
    """``x`` rounded to float64; no overflow."""
    return nearest_binary(x, 53, -1074)


def clamp(x: int, low: int, high: int) -> int:
    return max(low, min(x, high))


@lru_cache
def multiplier_of(real: Fraction) -> tuple[int, int]:
    """31-bit multiplier and exponent; both 0 for numbers too small."""
    if not real:
        return 0, 0
    exponent = binary_exponent(real)
    multiplier = half_away(real / Fraction(2) ** exponent * 2**31)
    if multiplier == 2**31:
        multiplier, exponent = 2**30, exponent + 1
    return (0, 0) if exponent < -31 else (multiplier, exponent)


@lru_cache(maxsize=1 << 18)
def high_product(x: int, multiplier: int) -> int:
    """gemmlowp's SaturatingRoundingDoublingHighMul: a nudge by sign, then a division that truncates."""
    if x == multiplier == -(2**31):
        return 2**31 - 1
    product = x * multiplier
    nudged = product + (2**30 if product >= 0 else 1 - 2**30)
    return nudged // 2**31 if nudged >= 0 else -(-nudged // 2**31)


@lru_cache(maxsize=1 << 18)
def divide_by_power(x: int, exponent: int) -> int:
    """gemmlowp's RoundingDivideByPOT: a mask, a remainder and a threshold."""
    mask = (1 << exponent) - 1
    remainder = x & mask
    threshold = (mask >> 1) + (x < 0)
    return (x >> exponent) + (remainder > threshold)


def double(x: int, real: Fraction) -> int:
    multiplier, exponent = multiplier_of(real)
    return scale_double(x, multiplier, exponent)


def scale_double(x: int, multiplier: int, exponent: int) -> int:
    return divide_by_power(high_product(x << max(exponent, 0), multiplier), max(-exponent, 0))


def ruy(x: int, real: Fraction) -> int:
    multiplier, exponent = multiplier_of(real)
    return half_up(Fraction(high_product(x << max(exponent, 0), multiplier), 2 ** max(-exponent, 0)))


def single(x: int, real: Fraction) -> int:
    multiplier, exponent = multiplier_of(real)
    return half_up(Fraction(x * multiplier) / Fraction(2) ** (31 - exponent))


def i64(x: int, real: Fraction) -> int:
    multiplier, exponent = multiplier_of(real)
    narrow = 0x7FFF if multiplier >= 0x7FFF0000 else half_up(Fraction(multiplier, 2**16))
    return half_up(Fraction(x * narrow) / Fraction(2) ** (15 - exponent))


def float_rne(x: int, real: Fraction) -> int:
    return half_even(float32(float32(x) * float32(real)))


def float64_away(x: int, real: Fraction) -> int:
    return half_away(float64(float64(x) * real))


def shift(x: int, real: Fraction) -> int:
    return half_up(x * real)


FORMS: dict[str, Callable[[int, Fraction], int]] = {
    "double": double, "double-f32-product": double, "ruy": ruy, "single": single, "i64": i64, "float-rne": float_rne,
    "float64-away": float64_away, "shift": shift,
}


def ratio_of(form: str, inputs: list[Fraction], output: Fraction) -> Fraction:
    """product(inputs) / output in the order and width of ``form``; the scales are float32 numbers."""
    narrow = form in ("float-rne", "double-f32-product")
    product = inputs[0]
    for scale in inputs[1:]:
        product = (float32 if narrow else float64)(product * scale)
    return (float32 if form == "float-rne" else float64)(product / output)
