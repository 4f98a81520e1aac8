"""Integer softmax. Source: LiteRT ``kernels/internal/reference/softmax.h`` with gemmlowp fixed point."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcompiler.errors import QCompilerError
from qcompiler.numerics.affine import Intermediate, Quantization
from qcompiler.numerics.fixed_point import (
    INT32_MAX,
    exp_of_non_positive,
    leading_zeros32,
    quantize_multiplier,
    reciprocal_of_one_plus,
    rounding_doubling_high_multiply,
)
from qcompiler.numerics.registry import arithmetic
from qcompiler.numerics.requantize_forms import Arrays
from qcompiler.numerics.rounding import Int64, shift_half_away

_INTEGER_BITS = 5
"""Differences to the maximum are Q5.26, so down to -32."""
_SUM_INTEGER_BITS = 12
"""Sums of exponentials are Q12.19: at most 4,095 terms of 1 fit."""


@arithmetic("softmax", "gemmlowp-softmax")
class GemmlowpSoftmax:
    """exp in Q5.26, sum in Q12.19, reciprocal by Newton; result scale 1/256, zero point -128 for int8."""

    def constants(self, source: Quantization, output: Quantization) -> dict[str, NDArray[Any]]:
        """Multiplier and left shift to Q5.26, and the smallest difference that still counts.

        Raises:
            QCompilerError: the output scale is not 1/256, or the input scale too small for the format.
        """
        if float(output.scale) != 1 / 256:
            raise QCompilerError(
                "gemmlowp-softmax has a fixed output scale", expected="1/256", found=repr(float(output.scale))
            )
        real = min(float(source.scale) * 2.0 ** (31 - _INTEGER_BITS), 2.0**31 - 1)
        # LiteRT's QuantizeMultiplierGreaterThanOne aborts otherwise.
        if real <= 1:
            raise QCompilerError(
                "gemmlowp-softmax cannot take so small an input scale", expected="above 2**-26",
                found=repr(float(source.scale)),
            )
        multiplier, shift = quantize_multiplier(real)
        radius = ((1 << _INTEGER_BITS) - 1) * 2.0 ** (31 - _INTEGER_BITS - int(shift))
        return {
            "multiplier": multiplier.astype(np.int32),
            "shift": shift.astype(np.int8),
            "difference_min": np.asarray(-np.floor(radius), np.int32),
        }

    def intermediates(self, length: int, source: Quantization, constants: Arrays) -> list[Intermediate]:
        """Every number that could overflow, for rows of ``length`` numbers."""
        return [Intermediate("the sum", length << (31 - _SUM_INTEGER_BITS), INT32_MAX)]

    def apply(self, x: Int64, output: Quantization, constants: Arrays) -> Int64:
        """Softmax over the last axis.

        Args:
            x: stored integers.
            output: parameters of the result.
            constants: what ``constants`` gave.
        """
        difference = x - x.max(-1, keepdims=True)
        exponentials, terms = self.exponentials(difference, constants)
        total = terms.sum(-1, keepdims=True)
        zeros = leading_zeros32(total)
        reciprocal = reciprocal_of_one_plus((total << zeros) - (1 << 31))
        product = rounding_doubling_high_multiply(reciprocal, exponentials)
        result = shift_half_away(product, _SUM_INTEGER_BITS - zeros + 31 - 8)
        return output.clamp(result + output.qmin)

    def exponentials(self, difference: Int64, constants: Arrays) -> tuple[Int64, Int64]:
        """What each number of a row contributes, from its difference to the row's largest; 0 where that is too large.

        Args:
            difference: at most 0.
            constants: what ``constants`` gave.

        Returns:
            exponentials in Q0.31, and the terms of the row's sum in Q12.19.
        """
        counts = difference >= constants["difference_min"]
        scaled = np.where(counts, difference, 0) << constants["shift"].astype(np.int64)
        exponentials = exp_of_non_positive(
            rounding_doubling_high_multiply(scaled, constants["multiplier"]), _INTEGER_BITS
        )
        return np.where(counts, exponentials, 0), np.where(
            counts, shift_half_away(exponentials, _SUM_INTEGER_BITS), 0
        )
