"""Functions as tables."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qcompiler.ir.constant_array import ConstantArray
from qcompiler.ir.dimension import Shape
from qcompiler.ir.op import Array, Fact, Op, Tensor, op, require
from qcompiler.ir.types import Elem, TensorType
from qcompiler.ops.inference import operand_count
from qcompiler.ops.quantized import affine


@op("lut")
class LookupTable(Op):
    """``table[q - lowest stored integer]``: any function of one quantized number of at most 8 bits.

    The table is part of the program; ``function`` records what it was made from.
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
        require(elem.storage.bits <= 8, f"a table needs an operand of at most 8 bits, found {elem.storage}")
        entries = 1 << elem.storage.bits
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

    def evaluate(self, operands: Sequence[Tensor], results: Sequence[TensorType]) -> tuple[Array, ...]:
        lowest = operands[0].type.storage.minimum
        return (self.table.array[operands[0].data.astype(np.int64) - lowest],)
