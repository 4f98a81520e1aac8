"""Requantize, and the reductions that end in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qcompiler.analysis.accumulators import accumulator_bounds
from qcompiler.backends.lowering import lowering
from qcompiler.backends.tvm.element import Element, Stage
from qcompiler.backends.tvm.lanes import Expr
from qcompiler.backends.tvm.stages.forms import Form, scaling
from qcompiler.backends.tvm.stages.zero_points import Centering, Offset, centered, offset, take
from qcompiler.ir import Node, Value
from qcompiler.ir.dimension import static_shape
from qcompiler.ir.types import spread_blocks
from qcompiler.numerics import requantize_form
from qcompiler.ops.contraction import Contraction
from qcompiler.ops.quantization import Requantize
from qcompiler.ops.quantized import parameters, resolve
from qcompiler.ops.reduction import SummingReduction


@dataclass(frozen=True)
class Rescale(Stage):
    """``form(x - zero point of x) + zero point of the result``.

    Operands: x, and as constants the zero point of x where it has one, the form's, the result's zero point.
    """

    centering: Centering
    form: Form
    offset: Offset

    def expression(self, operands: Sequence[Expr]) -> Expr:
        constants = iter(operands[1:])
        x = self.centering.apply(operands[0], constants)
        return self.offset.apply(self.form.scale(x, take(constants, self.form.operands)), constants)


@lowering("tvm-element", "requantize")
def requantize(node: Node) -> Element:
    """Operand: the integers to rescale."""
    op, result = node.op, node.result.type
    assert isinstance(op, Requantize)
    shape = static_shape(result.shape)
    constants = {name: spread_blocks(a, shape) for name, a in op.constants.arrays().items()}
    source = centered(node.operands[0].type)
    scaled = scaling(op.form(), constants, min(source.bound, _largest_sum(node.operands[0])), source.dtype)
    stored = offset(result, scaled.bound)
    return Element(
        Rescale(source.stage, scaled.form, stored.stage), (*source.constants, *scaled.constants, *stored.constants),
        stored.bounds,
    )


def _largest_sum(value: Value) -> int:
    """The largest magnitude that a value can reach as the sum of products that it is; no limit for others."""
    if value.producer is None or not isinstance(value.producer.op, Contraction):
        return (1 << 63) - 1
    return int(accumulator_bounds(value.producer).max(initial=0))


@lowering("tvm-sums", "mean", arithmetic="litert-mean")
@lowering("tvm-sums", "reduce_sum", arithmetic="litert-sum")
def reduction(node: Node) -> Element:
    """Operand: the sums of the stored integers, in int32."""
    op, source, result = node.op, node.operands[0].type, node.result.type
    assert isinstance(op, SummingReduction)
    assert op.arithmetic is not None
    count = op.count(source.shape)
    quantization = parameters(source)
    bound = count * quantization.largest_difference
    zero_points = np.asarray(count * quantization.zero_point)
    wide = bound >= 1 << 31 or int(abs(zero_points)) >= 1 << 31
    dtype = "int64" if wide else "int32"
    form = requantize_form(resolve(op, op.arithmetic).rounding)
    scaled = scaling(form, op.constants.arrays(), bound, dtype)
    stored = offset(result, scaled.bound)
    return Element(
        Rescale(Centering(True, wide), scaled.form, stored.stage),
        (zero_points.astype(dtype), *scaled.constants, *stored.constants), stored.bounds,
    )
