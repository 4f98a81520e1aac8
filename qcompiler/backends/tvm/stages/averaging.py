"""Averages of windows of integers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from tvm import tirx

from qcompiler.backends.lowering import lowering
from qcompiler.backends.tvm.element import Element, Stage
from qcompiler.backends.tvm.kernel import named
from qcompiler.backends.tvm.lanes import Expr, convert, literal_like
from qcompiler.backends.tvm.stages.rounding import negative
from qcompiler.backends.tvm.stages.zero_points import Offset, offset
from qcompiler.ir import Node
from qcompiler.ir.dimension import static_shape
from qcompiler.ops.pooling import AveragePool2D
from qcompiler.ops.quantized import parameters, resolve
from qcompiler.ops.reduction import SummingReduction


@dataclass(frozen=True)
class AverageHalfAway(Stage):
    """A sum divided by a count, ties away from zero. Operands: the sum and, as constant, the count, both int32.

    Attributes:
        dtype: format of the division. Quotients of whole numbers below 2**24 in float32, or 2**31 in float64, lie
            farther from the next whole number than their rounding error unless they are whole.
    """

    dtype: str

    def expression(self, operands: Sequence[Expr]) -> Expr:
        total, count = operands
        magnitude = tirx.Select(total < literal_like(0, total), -total, total) + (count >> literal_like(1, count))
        # Truncation and division by a number below one: both are exact here.
        quotient = convert(tirx.Div(convert(magnitude, self.dtype), convert(count, self.dtype)), "int32")
        sign = negative(total)
        return (quotient ^ sign) - sign


@dataclass(frozen=True)
class Quotient(Stage):
    """``round((sum - zero points) * 2**shift / divisor) + zero point``, with one rounding.

    Operands: the sum, and as constants the zero points in it, the shift to the left, the divisor, the result's zero
    point, all int32.

    Attributes:
        rounding: what happens to ties; one of :data:`qcompiler.numerics.rounding.DIVISION_ROUNDINGS`.
        offset: how the result's zero point is added.
    """

    rounding: str
    offset: Offset

    def expression(self, operands: Sequence[Expr]) -> Expr:
        total, zero_points, shift, divisor, *rest = operands
        dividend = named((total - zero_points) << shift)
        sign = negative(dividend)
        magnitude = named((dividend ^ sign) - sign)
        # Quotients of whole numbers below 2**31 lie farther from the next whole number than float64's rounding error,
        # unless they are whole.
        ratio = tirx.Div(convert(magnitude, "float64"), convert(divisor, "float64"))
        whole = named(convert(ratio, "int32"))
        one, none = literal_like(1, whole), literal_like(0, whole)
        # Above one half the magnitude goes up, and on ties where that is the way the rounding goes.
        on_tie = {"half-away": one, "half-up": one + sign, "half-even": whole & one}[self.rounding]
        twice = (magnitude - whole * divisor) << one
        up = tirx.Select(twice + on_tie > divisor, one, none)
        return self.offset.apply(((whole + up) ^ sign) - sign, iter(rest))


@lowering("tvm-sums", "average_pool2d", arithmetic="average")
def rounded_average(node: Node) -> Element:
    """Operand: the sums of the stored integers within each window, in int32."""
    op, source, result = node.op, node.operands[0].type, node.result.type
    assert isinstance(op, AveragePool2D)
    counts = window_counts(op, static_shape(source.shape)).astype(np.int32)
    quantization, none = parameters(result), np.zeros((), np.int32)
    stored = offset(result, quantization.largest_magnitude)
    stage = Quotient(resolve(op, op.arithmetic).rounding, stored.stage)
    # The stored integers are averaged as they are: their zero point stays where it is.
    untouched = tuple(np.zeros_like(c) for c in stored.constants)
    return Element(stage, (none, none, counts, *untouched), (quantization.qmin, quantization.qmax))


@lowering("tvm-sums", "mean", arithmetic="shift-mean")
@lowering("tvm-sums", "reduce_sum", arithmetic="shift-sum")
def rounded_reduction(node: Node) -> Element:
    """Operand: the sums of the stored integers, in int32."""
    op, source, result = node.op, node.operands[0].type, node.result.type
    assert isinstance(op, SummingReduction)
    rule, count, quantization = resolve(op, op.arithmetic), op.count(source.shape), parameters(source)
    shift = int(op.constants.arrays()["shift"])
    left, divisor = max(shift, 0), rule.divisor(count) << max(-shift, 0)
    bound = ((count * quantization.largest_difference) << left) // divisor + 1
    stored = offset(result, bound)
    constants = np.array([count * int(quantization.zero_point), left, divisor], np.int32)
    return Element(Quotient(rule.rounding, stored.stage), (*constants, *stored.constants), stored.bounds)


@lowering("tvm-sums", "average_pool2d", arithmetic="average-half-away")
def average_pool(node: Node) -> Element:
    """Operand: the sums of the stored integers within each window, in int32."""
    op, source, result = node.op, node.operands[0].type, node.result.type
    assert isinstance(op, AveragePool2D)
    counts = window_counts(op, static_shape(source.shape))
    quantization = parameters(result)
    largest = int(counts.max()) * quantization.largest_magnitude + int(counts.max()) // 2
    stage = AverageHalfAway("float32" if largest < 1 << 24 else "float64")
    return Element(stage, (counts.astype(np.int32),), (quantization.qmin, quantization.qmax))


def window_counts(op: AveragePool2D, shape: tuple[int, ...]) -> NDArray[np.int64]:
    """How many cells of each window lie inside the input; broadcastable to the result, 0-d where all agree."""
    first = 1 if op.layout == "NHWC" else 2
    along = []
    for i in (0, 1):
        cells = np.pad(np.ones(shape[first + i], np.int64), (op.pads[i], op.pads[i + 2]))
        spread = (op.kernel[i] - 1) * op.dilations[i] + 1
        along.append(sliding_window_view(cells, spread)[:: op.strides[i], :: op.dilations[i]].sum(-1))
    counts: NDArray[np.int64] = np.outer(*along)
    if (counts == counts.flat[0]).all():
        return np.asarray(counts.flat[0])
    return counts[None, :, :, None] if op.layout == "NHWC" else counts[None, None]
