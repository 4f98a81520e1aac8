"""Functions as tables."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qcompiler.ir.constant_array import ConstantArray
from qcompiler.ir.dimension import Shape
from qcompiler.ir.op import Array, Fact, Op, Tensor, op, require
from qcompiler.ir.types import Elem, TensorType
from qcompiler.numerics.interpolated_table import (
    INTERPOLATED_ENTRIES,
    LARGEST_SLOPE,
    OFFSET_BITS,
    OPERAND_BITS,
    interpolate,
)
from qcompiler.ops.inference import operand_count
from qcompiler.ops.quantized import affine


@op("lut")
class LookupTable(Op):
    """Any function of one quantized number of at most 8 bits, or of 16.

    Up to 8 bits: ``table[q - lowest stored integer]``. 16 bits: 513 entries, 128 stored integers apart, with linear
    interpolation between them (:func:`qcompiler.numerics.interpolated_table.interpolate`). The table is part of the
    program; ``function`` records what it was made from.
    """

    facts = Fact.ELEMENTWISE
    table: ConstantArray
    function: str = ""

    def infer_shapes(self, operands: Sequence[TensorType]) -> tuple[Shape, ...]:
        operand_count(operands, 1)
        return (operands[0].shape,)

    def infer_elems(self, operands: Sequence[TensorType]) -> tuple[Elem | None, ...]:
        elem = affine(operands[0])
        require(elem.is_per_tensor, f"needs one scale for the whole tensor, found {elem}")
        bits = elem.storage.bits
        fits = bits <= 8 or bits == OPERAND_BITS
        require(fits, f"a table needs an operand of 16, or at most 8 bits, found {elem.storage}")
        entries = INTERPOLATED_ENTRIES if bits == OPERAND_BITS else 1 << bits
        require(self.table.shape == (entries,), f"a table for {elem.storage} has {entries} entries: {self.table.shape}")
        return (None,)

    def verify(self, operands: Sequence[TensorType], results: Sequence[TensorType]) -> None:
        elem = affine(results[0])
        table = self.table.array
        require(table.dtype == elem.storage.dtype, f"the table holds {table.dtype}, the result stores {elem.storage}")
        require(
            elem.qmin <= int(table.min()) and int(table.max()) <= elem.qmax,
            f"table entries leave [{elem.qmin},{elem.qmax}]",
        )
        if is_interpolated(operands[0]):
            slope = int(np.abs(np.diff(table.astype(np.int64))).max())
            require(slope <= LARGEST_SLOPE, f"neighbouring entries differ by {slope}, more than {LARGEST_SLOPE}")

    def entries_for(self, operand: TensorType, interval: tuple[int, int]) -> Array:
        """The entries from which operands between two stored integers, both included, take their results."""
        first, last = (q - operand.storage.minimum for q in interval)
        if is_interpolated(operand):
            return self.table.array[first >> OFFSET_BITS : (last >> OFFSET_BITS) + 2]
        return self.table.array[first : last + 1]

    def evaluate(self, operands: Sequence[Tensor], results: Sequence[TensorType]) -> tuple[Array, ...]:
        offset = operands[0].data.astype(np.int64) - operands[0].type.storage.minimum
        if is_interpolated(operands[0].type):
            return (interpolate(self.table.array, offset).astype(results[0].storage.dtype),)
        return (self.table.array[offset],)


def is_interpolated(operand: TensorType) -> bool:
    """Whether a table for this operand holds some of the function's values, and the others lie between them."""
    return operand.storage.bits == OPERAND_BITS
