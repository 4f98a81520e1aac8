"""Integer addition, subtraction and multiplication of tensors with different scales.

Source: LiteRT ``kernels/add.cc``, ``sub.cc``, ``mul.cc`` and ``kernels/internal/reference/integer_ops/add.h``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcompiler.numerics.affine import Intermediate, Quantization
from qcompiler.numerics.fixed_point import INT32_MAX
from qcompiler.numerics.registry import arithmetic
from qcompiler.numerics.requantize_forms import Arrays, RequantizeForm, requantize_form
from qcompiler.numerics.rounding import Int64


class BinaryArithmetic:
    """Base: constants from parameters, result from stored integers."""

    def constants(self, inputs: Sequence[Quantization], output: Quantization) -> dict[str, NDArray[Any]]:
        raise NotImplementedError

    def apply(
        self, a: Int64, b: Int64, inputs: Sequence[Quantization], output: Quantization, constants: Arrays
    ) -> Int64:
        """Stored integers of the result, within the output's bounds."""
        raise NotImplementedError

    def intermediates(self, inputs: Sequence[Quantization], constants: Arrays) -> list[Intermediate]:
        """Every number that could overflow."""
        raise NotImplementedError


class RescaledSum(BinaryArithmetic):
    """Base of sums whose operands are shifted left, brought to one scale, added and brought to the output scale."""

    shift: int = 20
    rounding: str = "double"
    sign = 1

    def __post_init__(self) -> None:
        requantize_form(self.rounding)

    @property
    def form(self) -> RequantizeForm:
        """How numbers are brought from one scale to another."""
        return requantize_form(self.rounding)

    def constants(self, inputs: Sequence[Quantization], output: Quantization) -> dict[str, NDArray[Any]]:
        form = self.form
        first, second = (q.scale for q in inputs)
        twice = (np.float32(2) * np.maximum(first, second)).astype(np.float64)
        ratios = {
            "left": first.astype(np.float64) / twice,
            "right": second.astype(np.float64) / twice,
            "output": twice / (np.float32(1 << self.shift) * output.scale).astype(np.float64),
        }
        return {f"{side}_{key}": v for side, r in ratios.items() for key, v in form.from_ratio(r).items()}

    def intermediates(self, inputs: Sequence[Quantization], constants: Arrays) -> list[Intermediate]:
        form = self.form
        shifted = [q.largest_difference << self.shift for q in inputs]
        # Each operand is brought to twice the larger scale, so at most half of it remains, rounded up.
        total = sum(bound // 2 + 1 for bound in shifted)
        return [
            *(Intermediate("a shifted operand", bound, INT32_MAX) for bound in shifted),
            form.intermediate("a shifted operand", shifted[0], _part(constants, "left_")),
            form.intermediate("a shifted operand", shifted[1], _part(constants, "right_")),
            form.intermediate("the sum", total, _part(constants, "output_")),
        ]

    def apply(
        self, a: Int64, b: Int64, inputs: Sequence[Quantization], output: Quantization, constants: Arrays
    ) -> Int64:
        form = self.form
        left = form.scale((a - inputs[0].zero_point) << self.shift, _part(constants, "left_"))
        right = form.scale((b - inputs[1].zero_point) << self.shift, _part(constants, "right_"))
        total = form.scale(left + self.sign * right, _part(constants, "output_"))
        return output.clamp(total + output.zero_point)


@arithmetic("add", "litert-add")
class LitertAdd(RescaledSum):
    """Both operands shifted left, brought to twice the larger scale, added, brought to the output scale.

    ``shift`` is 20 for 8-bit and 15 for 16-bit operands; ``rounding`` names a requantize form.
    """

    shift: int = 20
    rounding: str = "double"


@arithmetic("sub", "litert-add")
class LitertSub(RescaledSum):
    """As for add, with the second operand subtracted."""

    shift: int = 20
    rounding: str = "double"
    sign = -1


@arithmetic("mul", "litert-mul")
class LitertMul(BinaryArithmetic):
    """Product of the operands less their zero points, requantized; the ratio of scales is computed in float32."""

    rounding: str = "double"

    def __post_init__(self) -> None:
        requantize_form(self.rounding)

    @property
    def form(self) -> RequantizeForm:
        """How the product is brought to the output scale."""
        return requantize_form(self.rounding)

    def constants(self, inputs: Sequence[Quantization], output: Quantization) -> dict[str, NDArray[Any]]:
        product = (inputs[0].scale * inputs[1].scale).astype(np.float32)
        ratio = (product / output.scale).astype(np.float32)
        return self.form.from_ratio(ratio.astype(np.float64))

    def intermediates(self, inputs: Sequence[Quantization], constants: Arrays) -> list[Intermediate]:
        bound = inputs[0].largest_difference * inputs[1].largest_difference
        form = self.form
        return [
            Intermediate("the product", bound, form.operand_limit), form.intermediate("the product", bound, constants)
        ]

    def apply(
        self, a: Int64, b: Int64, inputs: Sequence[Quantization], output: Quantization, constants: Arrays
    ) -> Int64:
        product = (a - inputs[0].zero_point) * (b - inputs[1].zero_point)
        return output.clamp(self.form.scale(product, constants) + output.zero_point)


def _part(constants: Arrays, prefix: str) -> dict[str, NDArray[Any]]:
    return {key.removeprefix(prefix): value for key, value in constants.items() if key.startswith(prefix)}
