"""The requantize forms of :mod:`qcompiler.numerics.requantize_forms` as expressions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qcompiler.backends.tvm.kernel import named
from qcompiler.backends.tvm.lanes import Expr, convert, rounded_product
from qcompiler.backends.tvm.stages.fixed_point import (
    rounding_doubling_high_multiply,
    wide_rounding_doubling_high_multiply,
)
from qcompiler.backends.tvm.stages.rounding import FLOATS, NARROW, SHIFTS, float_to_integer
from qcompiler.errors import QCompilerError
from qcompiler.numerics import requantize_forms as forms

Array = NDArray[Any]


@dataclass(frozen=True)
class Form(ABC):
    """One way to compute ``x * ratio``: number in, number out. Its numbers are further operands.

    Attributes:
        operands: how many numbers it takes beside ``x``.
    """

    operands: int

    @abstractmethod
    def scale(self, x: Expr, constants: Sequence[Expr]) -> Expr:
        """int32 where the bound that the form was made for proves it enough, else int64.

        Args:
            x: int32 or int64.
            constants: the form's numbers.
        """


class Scaling(NamedTuple):
    """A form for given ratios and operands.

    Attributes:
        form: the expression.
        constants: its numbers, shaped as the ratios are.
        bound: largest magnitude of the result.
    """

    form: Form
    constants: tuple[Array, ...]
    bound: int


@dataclass(frozen=True)
class HighProduct(Form):
    """``double`` and ``ruy``: a doubling high product, then a shift.

    Attributes:
        rounding: how the shift rounds.
        left: whether operands are shifted left first.
        wide: whether that, or the operand, needs 64 bits.
        narrows: whether the result fits in 32 bits.
    """

    rounding: str
    left: bool
    wide: bool
    narrows: bool

    def scale(self, x: Expr, constants: Sequence[Expr]) -> Expr:
        multiplier, shift, mask, *left = constants
        if self.wide:
            x = convert(x, "int64")
            x = x << left[0] if self.left else x
            high = named(wide_rounding_doubling_high_multiply(x, multiplier))
        else:
            x = named(x << left[0]) if self.left else x
            high = rounding_doubling_high_multiply(x, multiplier)
        result = SHIFTS[self.rounding](high, shift, mask)
        return convert(result, "int32") if self.narrows else result


@dataclass(frozen=True)
class WideProduct(Form):
    """``single`` and ``i64``: a product in 64 bits, then one shift with ties upward.

    Attributes:
        narrows: whether the result fits in 32 bits.
    """

    narrows: bool

    def scale(self, x: Expr, constants: Sequence[Expr]) -> Expr:
        multiplier, shift, mask = constants
        product = named(convert(x, "int64") * convert(multiplier, "int64"))
        result = SHIFTS["half-up"](product, shift, mask)
        return convert(result, "int32") if self.narrows else result


@dataclass(frozen=True)
class Shift(Form):
    """``shift``: a power of two.

    Attributes:
        rounding: how right shifts round.
        left: whether operands are shifted left first.
        wide: whether 64 bits are needed on the way.
        narrows: whether the result fits in 32 bits.
    """

    rounding: str
    left: bool
    wide: bool
    narrows: bool

    def scale(self, x: Expr, constants: Sequence[Expr]) -> Expr:
        shift, mask, *left = constants
        x = convert(x, "int64") if self.wide else x
        x = named(x << left[0]) if self.left else x
        result = SHIFTS[self.rounding](x, shift, mask)
        return convert(result, "int32") if self.narrows else result


@dataclass(frozen=True)
class FloatProduct(Form):
    """``float-rne`` and ``float64-away``: a float product, rounded to an integer.

    Attributes:
        dtype: the product's format.
        rounding: ``half-even`` or ``half-away``.
        narrows: whether the result fits in 32 bits.
    """

    dtype: str
    rounding: str
    narrows: bool

    def scale(self, x: Expr, constants: Sequence[Expr]) -> Expr:
        (ratio,) = constants
        # Fenced: rounding half away subtracts from the product.
        product = named(rounded_product(convert(x, self.dtype), ratio))
        return float_to_integer(product, FLOATS[self.rounding], 0 if self.narrows else np.inf)


def scaling(form: Any, constants: Mapping[str, Array], bound: int, operand: str = "int32") -> Scaling:
    """The expression of a requantize form.

    Args:
        form: an arithmetic of ``requantize``.
        constants: what its ``from_ratio`` gave.
        bound: largest magnitude of the operand.
        operand: its format, ``int32`` or ``int64``.

    Raises:
        QCompilerError: the form has no expression.
    """
    if isinstance(form, forms.FixedPointForm):
        return _fixed_point(form, constants, bound, operand)
    ratio = float(np.max(form.to_ratio(constants), initial=0.0))
    # Half a step of rounding, and the rounding of float products.
    largest = int(bound * ratio * (1 + 2.0**-20)) + 1
    narrows = largest <= NARROW
    if isinstance(form, forms.PowerOfTwo):
        return _power_of_two(form.rounding, constants["shift"], bound, operand, largest)
    if isinstance(form, forms.FloatHalfEven):
        return Scaling(FloatProduct(1, "float32", "half-even", narrows), (constants["ratio"],), largest)
    if isinstance(form, forms.Float64HalfAway):
        return Scaling(FloatProduct(1, "float64", "half-away", narrows), (constants["ratio"],), largest)
    raise QCompilerError(
        f"the native backend has no code for the requantize arithmetic {type(form).__name__}",
        fix="choose another one in the target's descriptor, or register a lowering for it",
    )


def _fixed_point(form: Any, constants: Mapping[str, Array], bound: int, operand: str) -> Scaling:
    multiplier, shift = constants["multiplier"].astype(np.int64), constants["shift"].astype(np.int64)
    ratio = float(np.max(form.to_ratio(constants), initial=0.0))
    largest = int(bound * ratio * (1 + 2.0**-10)) + 2
    narrows = largest <= NARROW
    if isinstance(form, forms.Single):
        return _wide_product(multiplier, 31 - shift, narrows, largest)
    if isinstance(form, forms.Int64Accumulator):
        narrow = np.where(multiplier < 0x7FFF0000, (multiplier + (1 << 15)) >> 16, 0x7FFF)
        return _wide_product(narrow, 15 - shift, narrows, largest)
    if not isinstance(form, forms.Double | forms.Ruy):
        raise QCompilerError(f"the native backend has no code for the requantize arithmetic {type(form).__name__}")
    left, right = np.maximum(shift, 0), np.maximum(-shift, 0)
    shifts_left = bool(left.any())
    wide = operand == "int64" or (shifts_left and bound << int(left.max()) >= 1 << 31)
    dtype = np.int64 if wide else np.int32
    arrays = [multiplier, right, (1 << right) - 1, *([left] if shifts_left else [])]
    rounding = "half-up" if isinstance(form, forms.Ruy) else "half-away"
    expression = HighProduct(len(arrays), rounding, shifts_left, wide, narrows or not wide)
    return Scaling(expression, tuple(a.astype(dtype) for a in arrays), largest)


def _wide_product(multiplier: Array, shift: Array, narrows: bool, largest: int) -> Scaling:
    # Processors multiply numbers of 32 bits to one of 64 faster than numbers of 64 bits.
    arrays = (multiplier.astype(np.int32), shift.astype(np.int64), _mask(shift).astype(np.int64))
    return Scaling(WideProduct(3, narrows), arrays, largest)


def _power_of_two(rounding: str, shift: Array, bound: int, operand: str, largest: int) -> Scaling:
    left, right = np.maximum(shift.astype(np.int64), 0), np.maximum(-shift.astype(np.int64), 0)
    shifts_left = bool(left.any())
    left_overflows = shifts_left and bound << int(left.max()) >= 1 << 31
    wide = operand == "int64" or left_overflows or int(right.max(initial=0)) > 31
    dtype = np.int64 if wide else np.int32
    # Shifted further, every number of 64 bits is what a shift by 62 leaves of it, or its sign.
    right = np.minimum(right, 62)
    arrays = [right, _mask(right), *([left] if shifts_left else [])]
    expression = Shift(len(arrays), rounding, shifts_left, wide, largest <= NARROW or not wide)
    return Scaling(expression, tuple(a.astype(dtype) for a in arrays), largest)


def _mask(shift: Array) -> Array:
    return np.asarray((np.int64(1) << shift) - 1)
