"""Integer averages: pooling and means.

Source: LiteRT ``reference/integer_ops/pooling.h`` (average pool) and ``kernels/reduce.cc`` with
``reference/integer_ops/mean.h`` (mean).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcompiler.numerics.affine import Intermediate, Quantization
from qcompiler.numerics.fixed_point import INT32_MAX
from qcompiler.numerics.registry import arithmetic
from qcompiler.numerics.requantize_forms import Arrays, FixedPointForm, requantize_form
from qcompiler.numerics.rounding import Int64, divide_half_away


@arithmetic("average_pool2d", "average-half-away")
class AverageHalfAway:
    """Sum of the stored integers divided by the count of cells, ties away from zero; scale and zero point stay."""

    def apply(self, sums: Int64, counts: Int64, output: Quantization) -> Int64:
        """Averages.

        Args:
            sums: sums of stored integers.
            counts: cells in each window, at least 1.
            output: parameters of operand and result.
        """
        return output.clamp(divide_half_away(sums, counts))

    def intermediates(self, count: int, source: Quantization) -> list[Intermediate]:
        """Every number that could overflow, for windows of at most ``count`` cells; half of it is added to round."""
        return [Intermediate("the sum", count * source.largest_magnitude + count // 2, INT32_MAX)]


class _LitertReduction:
    rounding: str = "double"

    def __post_init__(self) -> None:
        requantize_form(self.rounding)

    def apply(
        self, sums: Int64, count: int, source: Quantization, output: Quantization, constants: Arrays
    ) -> Int64:
        """Result of a reduction.

        Args:
            sums: sums of ``count`` stored integers each.
            count: elements in each sum.
            source, output: parameters of operand and result.
            constants: what ``constants`` gave.
        """
        centered = sums - count * source.zero_point
        return output.clamp(requantize_form(self.rounding).scale(centered, constants) + output.zero_point)

    def intermediates(self, count: int, source: Quantization, constants: Arrays) -> list[Intermediate]:
        """Every number that could overflow, for sums of ``count`` elements."""
        form = requantize_form(self.rounding)
        return [
            Intermediate("the sum", count * max(source.largest_magnitude, source.largest_difference), INT32_MAX),
            form.intermediate("the sum", count * source.largest_difference, constants),
        ]


@arithmetic("mean", "litert-mean")
class LitertMean(_LitertReduction):
    """Sum less the zero points, times a multiplier into which the division by the count is folded."""

    rounding: str = "double"

    def constants(self, count: int, source: Quantization, output: Quantization) -> dict[str, NDArray[Any]]:
        """Multiplier and shift for a mean of ``count`` elements."""
        form = requantize_form(self.rounding)
        constants = form.constants([source.scale], output.scale)
        if not isinstance(form, FixedPointForm):
            return form.from_ratio(form.ratio([source.scale], output.scale) / count)
        multiplier, shift = constants["multiplier"].astype(np.int64), constants["shift"].astype(np.int64)
        headroom = np.minimum(np.minimum(count.bit_length() - 1, 32), 31 + shift)
        folded = (multiplier << headroom) // count
        return {"multiplier": folded.astype(np.int32), "shift": (shift - headroom).astype(np.int8)}


@arithmetic("reduce_sum", "litert-sum")
class LitertSum(_LitertReduction):
    """Sum less the zero points, requantized to the output scale."""

    rounding: str = "double"

    def constants(self, count: int, source: Quantization, output: Quantization) -> dict[str, NDArray[Any]]:
        """Multiplier and shift; the count does not enter."""
        return requantize_form(self.rounding).constants([source.scale], output.scale)
