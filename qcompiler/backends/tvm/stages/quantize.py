"""Between reals and integers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tvm import tirx

from qcompiler.backends.lowering import lowering
from qcompiler.backends.tvm.element import Element, Stage
from qcompiler.backends.tvm.kernel import named
from qcompiler.backends.tvm.lanes import Expr, call, convert, rounded_product
from qcompiler.backends.tvm.stages.rounding import FLOATS, NARROW, float_saturated, float_to_integer
from qcompiler.backends.tvm.stages.zero_points import Centering, Offset, centered, offset
from qcompiler.ir import Node
from qcompiler.ops.quantization import Quantize
from qcompiler.ops.quantized import parameters, resolve


@dataclass(frozen=True)
class QuantizeAffine(Stage):
    """``round(x / scale) + zero_point``. Operands: x in float32; constants: scale, zero point.

    Attributes:
        rounding: one of ``FLOATS``.
        offset: how the zero point is added.
    """

    rounding: str
    offset: Offset

    def expression(self, operands: Sequence[Expr]) -> Expr:
        x, scale, *rest = operands
        # Fenced, or the reciprocal of a loop-invariant scale could be multiplied instead.
        quotient = named(tirx.Div(x, scale))
        quotient = call("llvm.arithmetic.fence", str(quotient.ty), quotient)
        rounding = FLOATS[self.rounding]
        convert_ = float_to_integer if self.offset.wide else float_saturated
        return self.offset.apply(convert_(quotient, rounding, np.inf), iter(rest))


@lowering("tvm-element", "quantize", arithmetic="affine")
def quantize(node: Node) -> Element:
    """Operand: float32 numbers."""
    op, result = node.op, node.result.type
    assert isinstance(op, Quantize)
    # Numbers of 16 bits and fewer saturate alike whether the quotient is limited to 2**30 or 2**40.
    stored = offset(result, NARROW if result.storage.bits <= 16 else NARROW + 1)
    stage = QuantizeAffine(resolve(op, op.arithmetic).rounding, stored.stage)
    return Element(stage, (parameters(result).scale, *stored.constants), stored.bounds)


@dataclass(frozen=True)
class DequantizeAffine(Stage):
    """``scale * (x - zero_point)`` in float32. Operands: x; constants: the zero point where there is one, the scale.

    Attributes:
        centering: how the zero point is taken off.
        narrow: whether float32 holds the difference. Its product with the scale then rounds once in float32, as the
            exact product in float64 does on its way to float32.
    """

    centering: Centering
    narrow: bool

    def expression(self, operands: Sequence[Expr]) -> Expr:
        constants = iter(operands[1:])
        difference = self.centering.apply(operands[0], constants)
        dtype = "float32" if self.narrow else "float64"
        product = rounded_product(convert(difference, dtype), convert(next(constants), dtype))
        return convert(product, "float32")


@lowering("tvm-element", "dequantize")
def dequantize(node: Node) -> Element:
    """Operand: stored integers."""
    source = node.operands[0].type
    difference = centered(source)
    stage = DequantizeAffine(difference.stage, difference.bound <= 1 << 24)
    return Element(stage, (*difference.constants, parameters(source).scale))
