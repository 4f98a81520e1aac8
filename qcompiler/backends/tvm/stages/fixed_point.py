"""32-bit fixed-point products of expressions. Source: gemmlowp ``fixedpoint/fixedpoint.h``."""

from __future__ import annotations

from tvm import tirx

from qcompiler.backends.tvm.kernel import named
from qcompiler.backends.tvm.lanes import Expr, convert, lanes_of, literal, literal_like, reinterpret


def rounding_doubling_high_multiply(a: Expr, b: Expr) -> Expr:
    """``round(a * b / 2**31)``, ties toward plus infinity.

    Args:
        a: int32.
        b: int32; not both -2**31.
    """
    lanes = lanes_of(a)
    if lanes == 1:
        product = convert(a, "int64") * convert(b, "int64")
        return convert((product + literal_like(1 << 30, product)) >> literal_like(31, product), "int32")
    # Even and odd lanes as pairs in 64 bits: vector units multiply 32-bit numbers there, and nothing moves between
    # lanes. Processors that run this are little-endian.
    def constant(value: int) -> Expr:
        return literal(value, "int64", lanes // 2)

    pairs_a, pairs_b = (reinterpret(f"int64x{lanes // 2}", v) for v in (a, b))
    word, half = constant(32), constant(1 << 30)
    even = named(((pairs_a << word) >> word) * ((pairs_b << word) >> word) + half)
    odd = named((pairs_a >> word) * (pairs_b >> word) + half)
    low = (even >> constant(31)) & constant((1 << 32) - 1)
    high = (odd << constant(1)) & constant(-(1 << 32))
    return named(reinterpret(f"int32x{lanes}", low | high))


def wide_rounding_doubling_high_multiply(a: Expr, b: Expr) -> Expr:
    """The same for int64 operands whose product fits in 64 bits, saturated at 2**31 - 1."""
    product = a * b
    high = (product + literal_like(1 << 30, product)) >> literal_like(31, product)
    return tirx.min(high, literal_like((1 << 31) - 1, high))
