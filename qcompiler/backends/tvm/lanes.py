"""Expressions over one number or a vector of them: what kernels compute with.

TVM promises less than exact arithmetic needs, so every function here keeps to operations that LLVM leaves alone:
TVM's simplifier assumes that int32 never overflows, and LLVM's code generator, as TVM sets it up, fuses a float
product and a sum into one instruction with one rounding.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from tvm import tirx
from tvm.target.codegen import llvm_lookup_intrinsic_id

Expr = Any
"""A TIR expression; TVM's Python classes carry no types."""


@cache
def intrinsic(name: str) -> int:
    """LLVM's number of an intrinsic.

    Raises:
        ValueError: this LLVM has none of that name.
    """
    number: int = llvm_lookup_intrinsic_id(name)
    if not number:
        raise ValueError(f"LLVM has no intrinsic {name}")
    return number


def call(name: str, dtype: str, *operands: Expr) -> Expr:
    """An LLVM intrinsic without side effects."""
    return tirx.call_llvm_pure_intrin(dtype, intrinsic(name), *operands)


def vector(dtype: str, lanes: int) -> str:
    """The dtype of ``lanes`` numbers: ``int32x16``, or ``int32`` for one."""
    return dtype if lanes == 1 else f"{dtype}x{lanes}"


def element(expr: Expr) -> str:
    """The dtype of one lane of an expression."""
    return str(expr.ty).split("x")[0]


def lanes_of(expr: Expr) -> int:
    """How many numbers an expression holds."""
    _, _, lanes = str(expr.ty).partition("x")
    return int(lanes or 1)


def spread(expr: Expr, lanes: int) -> Expr:
    """One number in every lane."""
    return expr if lanes == 1 else tirx.Broadcast(expr, lanes)


def literal(value: int | float, dtype: str, lanes: int = 1) -> Expr:
    """A number known at compile time, in every lane."""
    return spread(tirx.const(value, dtype), lanes)


def literal_like(value: int | float, expr: Expr) -> Expr:
    """A number known at compile time, in the format and lanes of an expression."""
    return literal(value, element(expr), lanes_of(expr))


def convert(expr: Expr, dtype: str) -> Expr:
    """The same numbers in another format; floats must be whole and in range on their way to integers."""
    return expr if element(expr) == dtype else tirx.Cast(vector(dtype, lanes_of(expr)), expr)


def reinterpret(dtype: str, expr: Expr) -> Expr:
    """The same bits as another format of the same total width."""
    return tirx.reinterpret(dtype, expr)


def rounded_product(a: Expr, b: Expr) -> Expr:
    """A float product that is rounded before anything is added to it: never one half of a fused multiply-add."""
    product = a * b
    return call("llvm.arithmetic.fence", str(product.ty), product)


def part(expr: Expr, start: int, count: int) -> Expr:
    """``count`` lanes side by side, from lane ``start`` on."""
    if (start, count) == (0, lanes_of(expr)):
        return expr
    if count == 1:
        return tirx.Shuffle([expr], [tirx.const(start, "int32")])
    return tirx.Shuffle([expr], [tirx.const(start + i, "int32") for i in range(count)])
