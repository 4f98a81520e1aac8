"""Integer arithmetic for scales that are powers of two: shifts and whole-number divisions, no multipliers.

Every result is the exact one, rounded once, unless two operands' scales are so far apart that the finer one loses
bits to ``guard``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from qcompiler.numerics.affine import Intermediate, Quantization
from qcompiler.numerics.elementwise import LitertMul, RescaledSum
from qcompiler.numerics.fixed_point import INT32_MAX
from qcompiler.numerics.registry import arithmetic, check_choice
from qcompiler.numerics.requantize_forms import Arrays, PowerOfTwo, RequantizeForm
from qcompiler.numerics.rounding import DIVISION_ROUNDINGS, Int64

_LARGEST_DIVIDEND = (1 << 30) - 1
"""Twice a remainder, and half a divisor more than a dividend, stay within 32 bits."""


class _ShiftSum(RescaledSum):
    guard: int = 16
    rounding: str = "half-up"
    shift = 0

    def __post_init__(self) -> None:
        PowerOfTwo(self.rounding)

    @property
    def form(self) -> RequantizeForm:
        return PowerOfTwo(self.rounding)

    def constants(self, inputs: Sequence[Quantization], output: Quantization) -> dict[str, NDArray[Any]]:
        first, second = (q.scale.astype(np.float64) for q in inputs)
        meeting = np.maximum(np.minimum(first, second), np.maximum(first, second) * 2.0**-self.guard)
        ratios = {
            "left": first / meeting, "right": second / meeting, "output": meeting / output.scale.astype(np.float64)
        }
        return {f"{side}_{key}": v for side, r in ratios.items() for key, v in self.form.from_ratio(r).items()}

    def intermediates(self, inputs: Sequence[Quantization], constants: Arrays) -> list[Intermediate]:
        aligned = [
            q.largest_difference << max(int(constants[f"{side}_shift"]), 0)
            for q, side in zip(inputs, ("left", "right"), strict=True)
        ]
        return [
            *(Intermediate("a shifted operand", bound, INT32_MAX) for bound in aligned),
            Intermediate("the sum", sum(aligned), INT32_MAX),
        ]


@arithmetic("add", "shift-add")
class ShiftAdd(_ShiftSum):
    """Both operands shifted left to the finer of their scales, added, shifted to the output scale with one rounding.

    Where the scales are more than 2**``guard`` apart, the finer operand is shifted right first. A shift to the left
    at the end saturates.
    """

    guard: int = 16
    rounding: str = "half-up"


@arithmetic("sub", "shift-add")
class ShiftSub(_ShiftSum):
    """As for add, with the second operand subtracted."""

    guard: int = 16
    rounding: str = "half-up"
    sign = -1


@arithmetic("mul", "shift-mul")
class ShiftMul(LitertMul):
    """Product of the operands less their zero points, shifted to the output scale with one rounding."""

    rounding: str = "half-up"

    def __post_init__(self) -> None:
        PowerOfTwo(self.rounding)

    @property
    def form(self) -> RequantizeForm:
        return PowerOfTwo(self.rounding)


class _ShiftReduction:
    """Base: the sum less the zero points, times a power of two, divided by a whole number, rounded once."""

    rounding: str = "half-up"
    needs_powers_of_two: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_choice("rounding", self.rounding, DIVISION_ROUNDINGS)

    def divisor(self, count: int) -> int:
        """By what a sum of ``count`` elements is divided, beside the power of two."""
        raise NotImplementedError

    def constants(self, count: int, source: Quantization, output: Quantization) -> dict[str, NDArray[Any]]:
        """``shift``: input scale / output scale = 2**shift.

        Raises:
            QCompilerError: the ratio is no power of two.
        """
        return PowerOfTwo().constants([source.scale], output.scale)

    def intermediates(self, count: int, source: Quantization, constants: Arrays) -> list[Intermediate]:
        """Every number that could overflow, for sums of ``count`` elements."""
        shift, total = int(constants["shift"]), count * source.largest_difference
        return [
            Intermediate("the sum", count * max(source.largest_magnitude, source.largest_difference), INT32_MAX),
            Intermediate("the dividend", total << max(shift, 0), _LARGEST_DIVIDEND),
            Intermediate("the divisor", self.divisor(count) << max(-shift, 0), _LARGEST_DIVIDEND),
        ]

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
        shift = int(constants["shift"])
        dividend = (sums - count * source.zero_point) << max(shift, 0)
        quotient = DIVISION_ROUNDINGS[self.rounding](dividend, self.divisor(count) << max(-shift, 0))
        return output.clamp(quotient + output.zero_point)


@arithmetic("mean", "shift-mean")
class ShiftMean(_ShiftReduction):
    """Sum less the zero points, brought to the output scale and divided by the count with one rounding."""

    rounding: str = "half-up"

    def divisor(self, count: int) -> int:
        return count


@arithmetic("reduce_sum", "shift-sum")
class ShiftReduceSum(_ShiftReduction):
    """Sum less the zero points, shifted to the output scale with one rounding."""

    rounding: str = "half-up"

    def divisor(self, count: int) -> int:
        return 1


@arithmetic("average_pool2d", "average")
class Average:
    """Sum of the stored integers divided by the count of cells with one rounding; scale and zero point stay."""

    rounding: str = "half-up"

    def __post_init__(self) -> None:
        check_choice("rounding", self.rounding, DIVISION_ROUNDINGS)

    def apply(self, sums: Int64, counts: Int64, output: Quantization) -> Int64:
        """Averages.

        Args:
            sums: sums of stored integers.
            counts: cells in each window, at least 1.
            output: parameters of operand and result.
        """
        return output.clamp(DIVISION_ROUNDINGS[self.rounding](sums, counts))

    def intermediates(self, count: int, source: Quantization) -> list[Intermediate]:
        """Every number that could overflow, for windows of at most ``count`` cells."""
        return [Intermediate("the sum", count * source.largest_magnitude, _LARGEST_DIVIDEND)]
