"""Rounding within the epilogues that tests hand to kernels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qcompiler.backends.tvm.element import Stage
from qcompiler.backends.tvm.lanes import Expr, call, convert, lanes_of, rounded_product, vector


def round_to_int32(x: Expr) -> Expr:
    """The nearest int32 of each float, ties to even; floats must be in range."""
    return call("llvm.lrint", vector("int32", lanes_of(x)), x)


@dataclass(frozen=True)
class FloatRequantize(Stage):
    """rint(f32(accumulator) * ratio) + zero point."""

    def expression(self, operands: Sequence[Expr]) -> Expr:
        accumulator, ratio, zero_point = operands
        return round_to_int32(rounded_product(convert(accumulator, "float32"), ratio)) + zero_point
