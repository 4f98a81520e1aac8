"""Softmax of 16-bit numbers through two tables.

Source: LiteRT ``kernels/internal/reference/softmax.h`` (``SoftmaxInt16``) and ``kernels/activations.cc``
(``SoftmaxPrepare``).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcompiler.errors import QCompilerError
from qcompiler.numerics.affine import Intermediate, Quantization
from qcompiler.numerics.fixed_point import INT32_MAX, leading_zeros32, quantize_multiplier
from qcompiler.numerics.interpolated_table import interpolate, interpolated_entries
from qcompiler.numerics.registry import arithmetic
from qcompiler.numerics.requantize_forms import Arrays, requantize_form
from qcompiler.numerics.rounding import Int64, shift_half_up

_LOWEST, _HIGHEST, _RANGE = -(1 << 15), (1 << 15) - 1, (1 << 16) - 1
_SMALLEST_EXPONENT = -10.0
"""Differences to the largest number are limited to this: exp(-10) is below the results' step."""
_FRACTION_BITS = 15
"""Exponentials and reciprocals are Q0.15."""


@arithmetic("softmax", "table-softmax")
class TableSoftmax:
    """exp on [-10, 0] and 1 / (1 + x) on [0, 1] from tables of 513 entries in Q0.15, the sum in Q16.15.

    LiteRT's softmax of int16, for results at scale 1/32768 or 1/65536 whose zero point is 0.
    """

    def constants(self, source: Quantization, output: Quantization) -> dict[str, NDArray[Any]]:
        """Multiplier and shift from stored differences to the table's steps; the tables; the result's fraction bits.

        Raises:
            QCompilerError: the result's scale or zero point is another.
        """
        bits = {1 / 32768: 15, 1 / 65536: 16}.get(float(output.scale))
        if bits is None or int(output.zero_point) != 0:
            raise QCompilerError(
                "table-softmax has fixed output parameters", expected="scale 1/32768 or 1/65536, zero point 0",
                found=f"scale {float(output.scale)!r}, zero point {int(output.zero_point)}",
            )
        multiplier, shift = quantize_multiplier(float(source.scale) / (-_SMALLEST_EXPONENT / _RANGE))
        step, one = -_SMALLEST_EXPONENT / _RANGE, 1.0 / _RANGE
        return {
            "multiplier": multiplier.astype(np.int32),
            "shift": shift.astype(np.int8),
            "exponentials": _table(np.exp, step * (_LOWEST - _HIGHEST), 0.0),
            "reciprocals": _table(lambda x: 1 / (1 + x), 0.0, one * _RANGE),
            "fraction_bits": np.asarray(bits, np.int8),
        }

    def intermediates(self, length: int, source: Quantization, constants: Arrays) -> list[Intermediate]:
        """Every number that could overflow, for rows of ``length`` numbers."""
        form = requantize_form("double")
        scaling = {name: constants[name] for name in ("multiplier", "shift")}
        return [
            form.intermediate("a shifted difference", source.qmax - source.qmin, scaling),
            Intermediate("the sum", length * int(self.exponentials(np.zeros((), np.int64), constants)), INT32_MAX),
        ]

    def apply(self, x: Int64, output: Quantization, constants: Arrays) -> Int64:
        """Softmax over the last axis.

        Args:
            x: stored integers of at most 16 bits.
            output: parameters of the result.
            constants: what ``constants`` gave.
        """
        exponentials = self.exponentials(x - x.max(-1, keepdims=True), constants)
        total = exponentials.sum(-1, keepdims=True)
        headroom = leading_zeros32(total) - 1
        # The sum with its highest bit at 2**16: 1 + a in Q16.
        normalized = ((total << headroom) + (1 << 13)) >> 14
        reciprocal = interpolate(constants["reciprocals"], np.clip(normalized - (1 << 16), 0, _RANGE))
        shift = 2 * _FRACTION_BITS - headroom + _FRACTION_BITS - constants["fraction_bits"].astype(np.int64)
        return output.clamp(shift_half_up(exponentials * reciprocal, shift))

    def exponentials(self, difference: Int64, constants: Arrays) -> Int64:
        """What each number of a row contributes, in Q0.15, from its difference to the row's largest.

        Args:
            difference: at most 0.
            constants: what ``constants`` gave.
        """
        scaling = {name: constants[name] for name in ("multiplier", "shift")}
        scaled = requantize_form("double").scale(difference, scaling)
        return interpolate(constants["exponentials"], np.clip(scaled + _RANGE, 0, _RANGE))


def _table(function: Any, first: float, last: float) -> NDArray[np.int16]:
    entries = interpolated_entries(function, np.float64(first), np.float64(last), np.float64(1 << _FRACTION_BITS))
    return np.clip(entries, _LOWEST, _HIGHEST).astype(np.int16)
