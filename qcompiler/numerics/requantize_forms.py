"""Requantization: integers at one scale become integers at another.

Each form is a way to compute ``x * ratio`` in integers, where ratio = product(input scales) / output scale. A form
fixes the order and width of the scale products, the width of the multiplier, and every rounding. The zero point is
added afterwards, by :func:`requantize`.

Sources: LiteRT ``kernels/internal/common.cc`` and ``quantization_util.cc`` (double, single, i64), ruy
``apply_multiplier.cc`` (ruy), TOSA 1.1 ``RESCALE`` (double, single), ONNX Runtime MLAS ``quantize.cpp`` (float-rne),
LiteRT ``reference_integer_ops/fully_connected.h`` (float64-away).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from qcompiler.errors import QCompilerError
from qcompiler.numerics.affine import Intermediate, Quantization
from qcompiler.numerics.fixed_point import INT32_MAX, INT64_MAX, quantize_multiplier, rounding_doubling_high_multiply
from qcompiler.numerics.registry import arithmetic, check_choice, resolve
from qcompiler.numerics.rounding import SHIFT_ROUNDINGS, Int64, round_half_away, shift_half_away, shift_half_up

_BLOCK_ELEMENTS = 1 << 14
_LARGEST_SHIFTED = (1 << 61) - 1
"""What ``shift`` may shift an operand to: 64 bits then hold every sum on the way to rounding."""

Scales = Sequence[NDArray[np.float32]]
Arrays = Mapping[str, NDArray[Any]]


class RequantizeForm:
    """Base of the forms: constants from scales, and the scaling itself."""

    def ratio(self, inputs: Scales, output: NDArray[np.float32]) -> NDArray[np.float64]:
        """product(inputs) / output, in the form's own order and width."""
        product = np.asarray(inputs[0], np.float64)
        for scale in inputs[1:]:
            product = product * scale.astype(np.float64)
        return product / output.astype(np.float64)

    def constants(self, inputs: Scales, output: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        """Multipliers and shifts for given scales (float32)."""
        return self.from_ratio(self.ratio(inputs, output))

    def from_ratio(self, ratio: NDArray[np.float64]) -> dict[str, NDArray[Any]]:
        """Multipliers and shifts for a given ratio."""
        raise NotImplementedError

    def to_ratio(self, constants: Arrays) -> NDArray[np.float64]:
        """The ratio that constants stand for."""
        raise NotImplementedError

    operand_limit: ClassVar[int] = INT32_MAX
    """The largest magnitude that the register of an operand holds."""
    needs_powers_of_two: ClassVar[bool] = False
    """Whether it can only scale by powers of two."""

    def largest_operand(self, constants: Arrays) -> Int64 | None:
        """The largest magnitude that hardware of this form takes without overflow; None where any accumulator fits."""
        return None

    def intermediate(self, what: str, bound: int, constants: Arrays) -> Intermediate:
        """An operand of this form with a known bound; the limit is that of the strictest constants."""
        largest = self.largest_operand(constants)
        return Intermediate(what, bound, INT64_MAX if largest is None else int(largest.min()))

    def scale(self, x: Int64, constants: Arrays) -> Int64:
        """``x * ratio`` as the form rounds it."""
        raise NotImplementedError


class FixedPointForm(RequantizeForm):
    """A 31-bit ``multiplier`` (int32) and a ``shift`` (int8): ratio = multiplier * 2**(shift - 31)."""

    def from_ratio(self, ratio: NDArray[np.float64]) -> dict[str, NDArray[Any]]:
        multiplier, shift = quantize_multiplier(ratio)
        return {"multiplier": multiplier.astype(np.int32), "shift": shift.astype(np.int8)}

    def to_ratio(self, constants: Arrays) -> NDArray[np.float64]:
        return np.ldexp(constants["multiplier"].astype(np.float64), constants["shift"].astype(np.int64) - 31)

    def first_stage(self, x: Int64, constants: Arrays) -> tuple[Int64, Int64]:
        """The doubling high product, and the right shift that remains."""
        shift = constants["shift"].astype(np.int64)
        high = rounding_doubling_high_multiply(x << np.maximum(shift, 0), constants["multiplier"])
        return high, np.maximum(-shift, 0)


def _shifted_in_32_bits(constants: Arrays) -> Int64:
    """What can be shifted left by a positive ``shift`` within 32 bits."""
    return np.int64(INT32_MAX) >> np.maximum(constants["shift"].astype(np.int64), 0)


@arithmetic("requantize", "double")
class Double(FixedPointForm):
    """Doubling high multiply with ties upward, then a right shift with ties away from zero.

    LiteRT's reference kernels, CMSIS-NN's default, TOSA DOUBLE_ROUND.
    """

    def largest_operand(self, constants: Arrays) -> Int64 | None:
        return _shifted_in_32_bits(constants)

    def scale(self, x: Int64, constants: Arrays) -> Int64:
        return shift_half_away(*self.first_stage(x, constants))


@arithmetic("requantize", "double-f32-product")
class DoubleFloat32Product(Double):
    """As ``double``, but the product of the input scales is rounded to float32 first: LiteRT's BATCH_MATMUL."""

    def ratio(self, inputs: Scales, output: NDArray[np.float32]) -> NDArray[np.float64]:
        product = inputs[0]
        for scale in inputs[1:]:
            product = (product * scale).astype(np.float32)
        return product.astype(np.float64) / output.astype(np.float64)


@arithmetic("requantize", "ruy")
class Ruy(FixedPointForm):
    """Doubling high multiply, then a right shift, both with ties upward: LiteRT's optimized kernels (ruy)."""

    def largest_operand(self, constants: Arrays) -> Int64 | None:
        return _shifted_in_32_bits(constants)

    def scale(self, x: Int64, constants: Arrays) -> Int64:
        return shift_half_up(*self.first_stage(x, constants))


@arithmetic("requantize", "single")
class Single(FixedPointForm):
    """One 64-bit product, one right shift with ties upward: TOSA SINGLE_ROUND, single-rounding builds of LiteRT."""

    def largest_operand(self, constants: Arrays) -> Int64 | None:
        # Of a ratio of 2**31 or more, nothing would be left to shift.
        return np.where(constants["shift"] > 31, 0, np.int64(self.operand_limit))

    def scale(self, x: Int64, constants: Arrays) -> Int64:
        return shift_half_up(x * constants["multiplier"].astype(np.int64), 31 - constants["shift"].astype(np.int64))


@arithmetic("requantize", "i64")
class Int64Accumulator(FixedPointForm):
    """A 15-bit multiplier on a 48-bit accumulator, ties upward: LiteRT's 16x8 kernels."""

    operand_limit: ClassVar[int] = (1 << 47) - 1

    def largest_operand(self, constants: Arrays) -> Int64 | None:
        # Of a ratio of 2**15 or more, nothing would be left to shift.
        return np.where(constants["shift"] > 15, 0, np.int64(self.operand_limit))

    def scale(self, x: Int64, constants: Arrays) -> Int64:
        wide = constants["multiplier"].astype(np.int64)
        narrow = np.where(wide < 0x7FFF0000, (wide + (1 << 15)) >> 16, 0x7FFF)
        return shift_half_up(x * narrow, 15 - constants["shift"].astype(np.int64))


@arithmetic("requantize", "float-rne")
class FloatHalfEven(RequantizeForm):
    """float32 product of accumulator and float32 ratio, rounded half to even: ONNX Runtime, XNNPACK."""

    def ratio(self, inputs: Scales, output: NDArray[np.float32]) -> NDArray[np.float64]:
        product = inputs[0]
        for scale in inputs[1:]:
            product = (product * scale).astype(np.float32)
        return (product / output).astype(np.float32).astype(np.float64)

    def from_ratio(self, ratio: NDArray[np.float64]) -> dict[str, NDArray[Any]]:
        return {"ratio": ratio.astype(np.float32)}

    def to_ratio(self, constants: Arrays) -> NDArray[np.float64]:
        return constants["ratio"].astype(np.float64)

    def scale(self, x: Int64, constants: Arrays) -> Int64:
        return np.rint(x.astype(np.float32) * constants["ratio"]).astype(np.int64)


@arithmetic("requantize", "float64-away")
class Float64HalfAway(RequantizeForm):
    """float64 product, rounded half away from zero: LiteRT's reference FULLY_CONNECTED."""

    def from_ratio(self, ratio: NDArray[np.float64]) -> dict[str, NDArray[Any]]:
        return {"ratio": ratio}

    def to_ratio(self, constants: Arrays) -> NDArray[np.float64]:
        return constants["ratio"].astype(np.float64)

    def scale(self, x: Int64, constants: Arrays) -> Int64:
        return round_half_away(x.astype(np.float64) * constants["ratio"]).astype(np.int64)


@arithmetic("requantize", "shift")
class PowerOfTwo(RequantizeForm):
    """A shift alone, for scales whose ratio is a power of two; ``rounding`` names how right shifts round."""

    rounding: str = "half-up"
    needs_powers_of_two: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_choice("rounding", self.rounding, SHIFT_ROUNDINGS)

    def from_ratio(self, ratio: NDArray[np.float64]) -> dict[str, NDArray[Any]]:
        fraction, exponent = np.frexp(ratio)
        if (fraction != 0.5).any():
            raise QCompilerError(
                "arithmetic 'shift' needs scales whose ratio is a power of two",
                found=f"ratio {float(ratio[fraction != 0.5][0])!r}", fix="take scales that are powers of two",
            )
        # Beyond 8 bits every operand becomes 0 or -1, or is refused as too large.
        return {"shift": np.clip(exponent - 1, -128, 127).astype(np.int8)}

    def to_ratio(self, constants: Arrays) -> NDArray[np.float64]:
        return np.ldexp(1.0, constants["shift"].astype(np.int64))

    def largest_operand(self, constants: Arrays) -> Int64 | None:
        return np.int64(_LARGEST_SHIFTED) >> np.maximum(constants["shift"].astype(np.int64), 0)

    def scale(self, x: Int64, constants: Arrays) -> Int64:
        shift = constants["shift"].astype(np.int64)
        # Shifted right by 62 or more, an operand below 2**61 leaves nothing but its sign.
        return SHIFT_ROUNDINGS[self.rounding](x << np.maximum(shift, 0), np.minimum(np.maximum(-shift, 0), 62))


def requantize_form(name: str) -> RequantizeForm:
    """The form of this name, with default parameters.

    Raises:
        QCompilerError: there is none.
    """
    form = resolve("requantize", name)
    assert isinstance(form, RequantizeForm)
    return form


def requantize(
    form: RequantizeForm, x: NDArray[Any], constants: Arrays, source: Quantization, output: Quantization
) -> NDArray[Any]:
    """``clamp(form(x - source.zero_point) + output.zero_point)``.

    Args:
        form: which rounding.
        x: stored integers of the input.
        constants: the form's constants, broadcastable to ``x``.
        source, output: parameters of input and result; scales are not used.
    """
    if x.ndim < 2 or x.size <= _BLOCK_ELEMENTS or any(np.prod(a.shape[:-1]) > 1 for a in constants.values()):
        centered = x.astype(np.int64) - source.zero_point
        return output.clamp(form.scale(centered, constants) + output.zero_point)
    # Constants vary along the last axis at most: rows go through in blocks that stay in the processor's cache.
    rows = x.reshape(-1, x.shape[-1])
    flat = {name: a.reshape(a.shape[-1:]) for name, a in constants.items()}
    source_zero = source.zero_point.reshape(-1)
    result = np.empty(rows.shape, np.int32 if output.qmax < 1 << 31 else np.int64)
    step = max(_BLOCK_ELEMENTS // rows.shape[1], 1)
    for start in range(0, len(rows), step):
        block = rows[start : start + step].astype(np.int64)
        result[start : start + step] = output.clamp(form.scale(block - source_zero, flat) + output.zero_point)
    return result.reshape(x.shape)
