"""Mantissas moved to other exponents, and reals taken apart into mantissas and exponents, lane by lane.

The functions are those of :mod:`qcompiler.numerics.block_shift` and ``block_conversion``, on expressions.
"""

from __future__ import annotations

from tvm import tirx

from qcompiler.backends.tvm.kernel import held
from qcompiler.backends.tvm.lanes import (
    Expr,
    call,
    convert,
    element,
    lanes_of,
    literal_like,
    reinterpret,
    spread,
    vector,
)
from qcompiler.backends.tvm.stages.rounding import SHIFTS, negative

LIMITS = {"int32": 1 << 30, "int64": 1 << 62}
"""What shifts to the left saturate at, by format. Operands are smaller in magnitude."""

NARROW_BITS = 30
"""Mantissas of at most these many bits, sign included, are computed in int32, others in int64."""

_BITS = {"int32": 32, "int64": 64}


def domain_of(*bits: int) -> str:
    """The format in which mantissas of these widths are computed."""
    return "int32" if max(bits) <= NARROW_BITS else "int64"


def shift_right(x: Expr, places: Expr, rounding: str) -> Expr:
    """``x / 2**places``, rounded.

    Args:
        x: int32 below 2**30 or int64 below 2**62 in magnitude.
        places: int32, any number from 0 on; one for all lanes, or one for each.
        rounding: a name in ``SHIFT_ROUNDINGS``.
    """
    # A shift by one place less than the format's bits leaves less than one half, as every longer one does.
    limited = held(convert(tirx.min(places, literal_like(_BITS[element(x)] - 1, places)), element(x)))
    below = held(literal_like(-1, limited) ^ (literal_like(-1, limited) << limited))
    return held(SHIFTS[rounding](x, *(_over(operand, x) for operand in (limited, below))))


def shift_left(x: Expr, places: Expr) -> Expr:
    """``x * 2**places``, limited to the format's entry in ``LIMITS``.

    Args:
        x: within that limit.
        places: int32, any number from 0 on; one for all lanes, or one for each.
    """
    limit = LIMITS[element(x)]
    limited = held(convert(tirx.min(places, literal_like(limit.bit_length() - 1, places)), element(x)))
    most = _over(held(literal_like(limit, limited) >> limited), x)
    return held(held(tirx.max(tirx.min(x, most), literal_like(0, most) - most)) << _over(limited, x))


def move(x: Expr, exponents: Expr, target: Expr, rounding: str, precision: int | None = None) -> Expr:
    """Integers at ``exponents``, expressed at the exponents ``target``: rounded, or saturated.

    Args:
        x: int32 below 2**30 or int64 below 2**62 in magnitude.
        exponents, target: int32; one for all lanes, or one for each.
        rounding: a name in ``SHIFT_ROUNDINGS``.
        precision: significant bits of a floating-point element; None for integers.
    """
    lanes = max(lanes_of(exponents), lanes_of(target))
    exponents, target = (in_lanes(e, lanes) for e in (exponents, target))
    if precision is None:
        places = held(target - exponents)
        nothing = literal_like(0, places)
        return shift_left(
            shift_right(x, tirx.max(places, nothing), rounding), tirx.max(nothing - places, nothing)
        )
    # As numerics has it: an element's last bit lies above the step for large elements.
    leading = convert(bit_length(held(tirx.max(x, literal_like(0, x) - x))), "int32")
    at, step = (_over(e, leading) for e in (exponents, target))
    last = held(tirx.max(leading + at - literal_like(precision, leading), step))
    rounded = shift_right(x, tirx.max(last - at, literal_like(0, last)), rounding)
    return shift_left(rounded, tirx.max(last, at) - step)


def bit_length(x: Expr) -> Expr:
    """Bits of non-negative integers, int32; 0 has none."""
    zeros = call("llvm.ctlz", str(x.ty), x, tirx.const(False, "bool"))
    return held(convert(literal_like(_BITS[element(x)], x) - zeros, "int32"))


def significand(x: Expr) -> tuple[Expr, Expr]:
    """Finite float32 numbers as int32 below 2**24 in magnitude and the exponents of their last bits, int32."""
    bits = held(reinterpret(vector("int32", lanes_of(x)), x))
    fraction = bits & literal_like((1 << 23) - 1, bits)
    field = held((bits >> literal_like(23, bits)) & literal_like(255, bits))
    is_normal = field > literal_like(0, field)
    magnitude = held(tirx.Select(is_normal, fraction | literal_like(1 << 23, bits), fraction))
    # No comparison with 0: where LLVM 22 makes a mask of several of them, in registers from xmm16 on, its vmovmskps
    # reads another register.
    sign = negative(bits)
    return held((magnitude ^ sign) - sign), held(tirx.max(field, literal_like(1, field)) - literal_like(150, field))


def limited(x: Expr, smallest: int, largest: int) -> Expr:
    """``x`` within two bounds; those that no number of the format reaches are left out."""
    least, most = -LIMITS[element(x)], LIMITS[element(x)]
    bounded = x if smallest <= least else tirx.max(x, literal_like(smallest, x))
    return held(bounded if largest >= most else tirx.min(bounded, literal_like(largest, x)))


def in_lanes(expr: Expr, lanes: int) -> Expr:
    """One number in every lane; lanes as they are."""
    return expr if lanes_of(expr) == lanes else spread(expr, lanes)


def _over(expr: Expr, like: Expr) -> Expr:
    """One number in as many lanes as ``like`` has; lanes as they are."""
    return in_lanes(expr, lanes_of(like))
