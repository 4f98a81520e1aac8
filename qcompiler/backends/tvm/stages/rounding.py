"""Roundings of expressions: divisions by powers of two, and floats to integers.

Each is exact for every input in the stated range and never leaves 32 bits on the way.
"""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx

from qcompiler.backends.tvm.lanes import Expr, call, convert, element, lanes_of, literal, literal_like, vector


def negative(x: Expr) -> Expr:
    """-1 where an integer is negative, else 0."""
    bits = 64 if element(x) == "int64" else 32
    return x >> literal_like(bits - 1, x)


def shift_floor(x: Expr, shift: Expr, mask: Expr) -> Expr:
    """``x / 2**shift`` toward minus infinity.

    Args:
        x: int32 or int64.
        shift: non-negative and below the width of ``x``, in its format.
        mask: ``2**shift - 1``.
    """
    return x >> shift


def shift_half_up(x: Expr, shift: Expr, mask: Expr) -> Expr:
    """``x / 2**shift``, ties toward plus infinity."""
    return _nearest(x, shift, mask, lambda half, quotient: half)


def shift_half_away(x: Expr, shift: Expr, mask: Expr) -> Expr:
    """``x / 2**shift``, ties away from zero."""
    return _nearest(x, shift, mask, lambda half, quotient: half - negative(x))


def shift_half_even(x: Expr, shift: Expr, mask: Expr) -> Expr:
    """``x / 2**shift``, ties to the even neighbour."""
    return _nearest(
        x, shift, mask, lambda half, quotient: half + literal_like(1, x) - (quotient & literal_like(1, x))
    )


def shift_toward_zero(x: Expr, shift: Expr, mask: Expr) -> Expr:
    """``x / 2**shift`` toward zero."""
    # The floor of a negative number is one too small unless the division has no remainder.
    return _nearest(x, shift, mask, lambda half, quotient: mask + negative(x) * mask)


def _nearest(x: Expr, shift: Expr, mask: Expr, threshold: Callable[[Expr, Expr], Expr]) -> Expr:
    """The floor, plus one where the remainder exceeds a threshold; ``half`` is the largest remainder below one half."""
    quotient = x >> shift
    half = mask >> literal_like(1, mask)
    up = (x & mask) > threshold(half, quotient)
    return tirx.Select(up, quotient + literal_like(1, x), quotient)


SHIFTS: dict[str, Callable[[Expr, Expr, Expr], Expr]] = {
    "half-up": shift_half_up,
    "half-away": shift_half_away,
    "half-even": shift_half_even,
    "toward-zero": shift_toward_zero,
    "floor": shift_floor,
}
"""Roundings of a division by a power of two, by the names of :data:`qcompiler.numerics.rounding.SHIFT_ROUNDINGS`."""


def float_half_even(x: Expr, dtype: str) -> Expr:
    """Nearest integers of floats, ties to even.

    Args:
        x: floats whose nearest integers ``dtype`` holds.
        dtype: ``int32`` or ``int64``.
    """
    # One instruction where the processor has one. It follows the current rounding direction, which is to even unless
    # the program around changes it. lrint gives a C long, which is shorter than 64 bits on small processors.
    name = "llvm.lrint" if dtype == "int32" else "llvm.llrint"
    return call(name, vector(dtype, lanes_of(x)), x)


def float_half_away(x: Expr, dtype: str) -> Expr:
    """Nearest integers of floats, ties away from zero; see :func:`float_half_even`."""
    whole = convert(x, dtype)
    # Exact: a float less its own whole part.
    fraction = x - convert(whole, element(x))
    one, none = literal(1, dtype, lanes_of(x)), literal(0, dtype, lanes_of(x))
    up = tirx.Select(fraction >= literal_like(0.5, x), one, none)
    down = tirx.Select(fraction <= literal_like(-0.5, x), one, none)
    return whole + up - down


def float_half_up(x: Expr, dtype: str) -> Expr:
    """Nearest integers of floats, ties toward plus infinity; see :func:`float_half_even`."""
    whole = convert(x, dtype)
    # Exact: a float less its own whole part.
    fraction = x - convert(whole, element(x))
    one, none = literal(1, dtype, lanes_of(x)), literal(0, dtype, lanes_of(x))
    up = tirx.Select(fraction >= literal_like(0.5, x), one, none)
    down = tirx.Select(fraction < literal_like(-0.5, x), one, none)
    return whole + up - down


FLOATS: dict[str, Callable[[Expr, str], Expr]] = {
    "half-away": float_half_away, "half-even": float_half_even, "half-up": float_half_up,
}
"""Roundings of floats to integers, by the names of :data:`qcompiler.numerics.rounding.REAL_ROUNDINGS`."""

NARROW = 1 << 30
"""Results of at most this magnitude stay in 32 bits, with room for a zero point."""

_WIDE = 1 << 40
"""The bound that numerics gives floats before their conversion, and 64-bit results get here."""


def float_to_integer(x: Expr, rounding: Callable[[Expr, str], Expr], bound: float) -> Expr:
    """Any floats as integers: int32 where a bound on their magnitude proves that enough, else int64 within 2**40.

    Args:
        x: floats, infinities included.
        rounding: one of ``FLOATS``.
        bound: largest magnitude.
    """
    if bound <= NARROW:
        return rounding(x, "int32")
    return rounding(limited(x, _WIDE), "int64")


def float_saturated(x: Expr, rounding: Callable[[Expr, str], Expr], bound: float) -> Expr:
    """Any floats as int32, within 2**30: for results that are limited to fewer bits afterwards."""
    return rounding(x if bound <= NARROW else limited(x, NARROW), "int32")


def limited(x: Expr, magnitude: int) -> Expr:
    """``x`` within [-magnitude, magnitude]."""
    return tirx.max(tirx.min(x, literal_like(magnitude, x)), literal_like(-magnitude, x))


def saturated_to_int32(x: Expr) -> Expr:
    """int32 or int64 numbers as int32, the nearest where one does not fit."""
    if element(x) == "int32":
        return x
    low, high = -(1 << 31), (1 << 31) - 1
    return convert(tirx.max(tirx.min(x, literal_like(high, x)), literal_like(low, x)), "int32")
