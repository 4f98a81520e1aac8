"""Zero points: taken off operands, added to results, without leaving the integers' width."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qcompiler.backends.tvm.lanes import Expr, convert
from qcompiler.backends.tvm.stages.rounding import NARROW, saturated_to_int32
from qcompiler.ir import TensorType
from qcompiler.ops.quantized import parameters

Array = NDArray[Any]


@dataclass(frozen=True)
class Centering:
    """``x - zero_point``.

    Attributes:
        present: whether there is a zero point to take off; it is then the next constant.
        wide: whether the difference needs 64 bits.
    """

    present: bool
    wide: bool

    def apply(self, x: Expr, constants: Iterator[Expr]) -> Expr:
        x = convert(x, "int64") if self.wide else x
        return x - next(constants) if self.present else x


class Centered(NamedTuple):
    """How an operand's zero point is taken off.

    Attributes:
        stage: the expression.
        constants: its numbers.
        bound: largest magnitude of the difference.
        dtype: its format.
    """

    stage: Centering
    constants: tuple[Array, ...]
    bound: int
    dtype: str


def centered(type: TensorType, always: bool = False) -> Centered:
    """How the zero point of stored integers of an affine type is taken off.

    Args:
        type: an affine type of static shape.
        always: take off zero points of 0 too, so that layers which differ in them share a kernel.
    """
    quantization = parameters(type)
    zero_points, bound = quantization.zero_point, quantization.largest_difference
    present = always or bool(zero_points.any())
    wide = type.storage.bits == 64 or (present and bound >= 1 << 31)
    dtype = "int64" if wide else "int32"
    constants = (zero_points.astype(dtype),) if present else ()
    return Centered(Centering(present, wide), constants, bound, dtype)


@dataclass(frozen=True)
class Offset:
    """``x + zero_point``; the zero point is the next constant.

    Attributes:
        wide: whether the sum is formed in 64 bits.
        saturates: whether it is then brought to 32 bits.
    """

    wide: bool
    saturates: bool

    def apply(self, x: Expr, constants: Iterator[Expr]) -> Expr:
        if not self.wide:
            return x + next(constants)
        total = convert(x, "int64") + next(constants)
        return saturated_to_int32(total) if self.saturates else total


class Result(NamedTuple):
    """How a scaled integer becomes the stored one.

    Attributes:
        stage: the expression.
        constants: its numbers.
        bounds: limits of the stored integers.
    """

    stage: Offset
    constants: tuple[Array, ...]
    bounds: tuple[int, int]


def offset(type: TensorType, bound: int) -> Result:
    """How scaled integers of at most ``bound`` become stored ones of an affine type."""
    quantization = parameters(type)
    zero_points = quantization.zero_point
    wide = type.storage.bits == 64 or bound > NARROW or int(np.abs(zero_points).max(initial=0)) > NARROW
    constants = (zero_points.astype("int64" if wide else "int32"),)
    return Result(Offset(wide, type.storage.bits < 64), constants, (quantization.qmin, quantization.qmax))


def take(constants: Iterator[Expr], count: int) -> list[Expr]:
    """The next ``count`` constants."""
    return list(islice(constants, count))
