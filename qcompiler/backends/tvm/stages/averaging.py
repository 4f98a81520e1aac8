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
from qcompiler.backends.tvm.lanes import Expr, convert, literal_like
from qcompiler.backends.tvm.stages.rounding import negative
from qcompiler.ir import Node
from qcompiler.ir.dimension import static_shape
from qcompiler.ops.pooling import AveragePool2D
from qcompiler.ops.quantized import parameters


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
