"""Values known at compile time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qcompiler.ir.block_array import BlockArray
from qcompiler.ir.constant_array import ConstantArray
from qcompiler.ir.dimension import Shape, static_shape
from qcompiler.ir.op import Array, Op, OpTypeError, Stored, Tensor, op, require
from qcompiler.ir.types import Affine, BlockFloat, Elem, TensorType, block_float_grid
from qcompiler.ir.value import Value
from qcompiler.numerics.block_conversion import mantissas_at
from qcompiler.numerics.block_format import BlockFormat
from qcompiler.ops.inference import operand_count


@op("constant")
class Constant(Op):
    """The stored numbers ``value``; the result type says what they mean.

    Of block floating point ``value`` holds the mantissas, and ``exponents`` those of the blocks.
    """

    foldable = False
    value: ConstantArray
    exponents: ConstantArray | None = None

    @classmethod
    def of(cls, stored: Stored) -> Constant:
        """A constant of what an op computed; the caller gives up the right to write to it."""
        if isinstance(stored, BlockArray):
            return cls(ConstantArray.adopt(stored.mantissas), ConstantArray.adopt(stored.exponents))
        return cls(ConstantArray.adopt(stored))

    def infer_shapes(self, operands: Sequence[TensorType]) -> tuple[Shape, ...]:
        operand_count(operands, 0)
        return (self.value.shape,)

    def infer_elems(self, operands: Sequence[TensorType]) -> tuple[Elem | None, ...]:
        return (None,)

    def verify(self, operands: Sequence[TensorType], results: Sequence[TensorType]) -> None:
        storage = results[0].storage
        require(
            self.value.array.dtype == storage.dtype,
            f"holds {self.value.array.dtype} numbers, its type stores {storage}",
        )
        elem, array = results[0].elem, self.value.array
        if isinstance(elem, BlockFloat):
            self.check_blocks(results[0], elem)
            return
        require(self.exponents is None, "has exponents, but its type has none")
        if isinstance(elem, Affine) and array.size:
            low, high = int(array.min()), int(array.max())
            require(
                elem.qmin <= low and high <= elem.qmax,
                f"holds numbers from {low} to {high}, its type keeps within [{elem.qmin},{elem.qmax}]",
            )

    def check_blocks(self, type: TensorType, elem: BlockFloat) -> None:
        """Check mantissas and exponents against a block floating-point type.

        Raises:
            OpTypeError: they do not fit.
        """
        mantissas, (lowest, highest) = self.value.array, elem.format.exponent_range
        grid = static_shape(block_float_grid(type.shape, elem.blocks))
        if self.exponents is None or self.exponents.shape != grid:
            raise OpTypeError(f"needs exponents of shape {grid}")
        exponents = self.exponents.array
        require(exponents.dtype == np.int32, f"holds {exponents.dtype} exponents, not int32")
        if mantissas.size:
            require(
                elem.format.smallest <= int(mantissas.min()) and int(mantissas.max()) <= elem.format.largest,
                f"holds mantissas outside {elem.format.smallest} to {elem.format.largest}",
            )
            require(
                elem.format.element == "integer" or _are_elements(mantissas, elem.format),
                f"holds mantissas that are no numbers of {elem.format.element}",
            )
            require(
                lowest <= int(exponents.min()) and int(exponents.max()) <= highest,
                f"holds exponents outside {lowest} to {highest}",
            )
        fixed = elem.exponents is None or bool((np.broadcast_to(elem.exponents.array, grid) == exponents).all())
        require(fixed, "holds other exponents than its type fixes")

    def evaluate(self, operands: Sequence[Tensor], results: Sequence[TensorType]) -> tuple[Stored, ...]:
        return (self.value.array if self.exponents is None else BlockArray(self.value.array, self.exponents.array),)


def _are_elements(mantissas: Array, block_format: BlockFormat) -> bool:
    """Whether mantissas are numbers of a floating-point element: rounding to it changes none."""
    wide, zero = mantissas.astype(np.int64), np.zeros((), np.int64)
    return bool((mantissas_at(wide, zero, zero, block_format) == wide).all())


def constant_value(value: Value) -> Array | None:
    """The stored numbers that a value is at compile time, of blocks the mantissas; None for computed values."""
    producer = value.producer
    if producer is not None and isinstance(producer.op, Constant):
        return producer.op.value.array
    return None


def constant_tensor(value: Value) -> Tensor | None:
    """What a value is at compile time; None for computed values."""
    producer = value.producer
    if producer is not None and isinstance(producer.op, Constant):
        return Tensor.of(value.type, *producer.op.evaluate((), [value.type]))
    return None


def scalar_value(value: Value) -> float | None:
    """The only number in a constant of one element; None otherwise."""
    array = constant_value(value)
    return float(array.reshape(-1)[0]) if array is not None and array.size == 1 else None
