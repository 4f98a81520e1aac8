"""Integers moved to another exponent and rounded, lane by lane."""

from __future__ import annotations

from tvm import tirx

from qcompiler.backends.tvm.kernel import named
from qcompiler.backends.tvm.lanes import Expr, convert, element, lanes_of, literal_like, reinterpret, vector
from qcompiler.backends.tvm.stages.rounding import SHIFTS, float_half_even

_LONGEST_SHIFTS = {"int32": 30, "int64": 62}
"""Of numbers below half of 2**places, all of these many places leave the same."""
LARGEST_ALIGNED = 1 << 61
"""Numbers to be aligned, with their binary places, stay below this."""
_EXACT_IN_FLOAT32 = 1 << 24
_BIAS, _FRACTION_BITS = 127, 23
"""Of a float32's exponent."""


def aligned(numbers: Expr, places: Expr, fraction: int, bound: int, rounding: str) -> Expr:
    """``numbers / 2**places``, rounded.

    Args:
        numbers: int32, at most ``bound`` in magnitude.
        places: int32, at least ``-fraction``: negative ones shift to the left.
        fraction: at least 0; ``bound << fraction`` is below ``LARGEST_ALIGNED``.
        bound: at least 1.
        rounding: a name in ``SHIFT_ROUNDINGS``.

    Returns:
        int32 if ``bound << fraction`` is below 2**29, else int32 or int64.
    """
    if rounding == "half-even" and bound <= _EXACT_IN_FLOAT32 and bound << fraction < 1 << 31:
        # The product is exact: a normal float, or 0 where the power is taken for 0 because it is below 2**-126.
        exponent = tirx.max(literal_like(_BIAS, places) - places, literal_like(0, places))
        power = reinterpret(vector("float32", lanes_of(places)), exponent << literal_like(_FRACTION_BITS, places))
        return named(float_half_even(convert(numbers, "float32") * power, "int32"))
    wide = "int32" if bound << fraction < 1 << 29 else "int64"
    numbers, places = convert(numbers, wide), convert(places, wide)
    up = literal_like(fraction, numbers)
    return shift_right(named(numbers << up), named(places + up), rounding)


def with_bias(total: Expr, bias: Expr, places: Expr, bits: int, rounding: str) -> Expr:
    """``total + bias / 2**places``, the second term rounded.

    Args:
        total: int32 or int64.
        bias: int32, at most ``2**bits`` in magnitude.
        places: int32, any; negative ones count as 0.
        bits: 0 to 31; 0 for no bias.
        rounding: a name in ``SHIFT_ROUNDINGS``.
    """
    if not bits:
        return total
    moved = aligned(bias, named(tirx.max(places, literal_like(0, places))), 0, 1 << bits, rounding)
    return named(total + convert(moved, element(total)))


def sum_format(bound: int, count: int, accumulator: str) -> str:
    """The format to add ``count`` integers of this magnitude in: int32 wherever it is proved to hold all sums."""
    return "int32" if bound * count < 1 << 31 else accumulator


def shift_right(numbers: Expr, places: Expr, rounding: str) -> Expr:
    """``numbers / 2**places``, rounded.

    Args:
        numbers: int32 below 2**29 or int64 below 2**61 in magnitude.
        places: at least 0, any more of them; in the format of ``numbers``.
        rounding: a name in ``SHIFT_ROUNDINGS``.
    """
    places = named(tirx.min(places, literal_like(_LONGEST_SHIFTS[element(numbers)], places)))
    one = literal_like(1, places)
    mask = named((one << places) - one)
    return named(SHIFTS[rounding](numbers, places, mask))
