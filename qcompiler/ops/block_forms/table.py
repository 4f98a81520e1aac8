"""Tables on block floating point."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from qcompiler.ir.block_array import BlockArray
from qcompiler.ir.dimension import static_shape
from qcompiler.ir.op import BlockForm, Tensor, block_form, require
from qcompiler.ir.types import Elem, TensorType, block_float_grid
from qcompiler.numerics.block_table import look_up, table_entries
from qcompiler.ops.block_values import block_float, stored_blocks


@block_form("lut")
class Table(BlockForm):
    """A table of what stands at one fixed exponent; see :func:`~qcompiler.numerics.block_table.look_up`."""

    def infer_elems(self, op: Any, operands: Sequence[TensorType]) -> tuple[Elem | None, ...]:
        elem = block_float(operands[0])
        require(_has_one_exponent(elem.exponents), f"a table needs an operand with one fixed exponent, found {elem}")
        bits = elem.format.mantissa
        require(bits <= 16 and elem.format.element == "integer", f"a table takes at most 16 bits, found {elem}")
        entries = table_entries(bits)
        require(op.table.shape == (entries,), f"a table for {bits} bits has {entries} entries, found {op.table.shape}")
        return (None,)

    def verify(self, op: Any, operands: Sequence[TensorType], results: Sequence[TensorType]) -> None:
        elem = block_float(results[0])
        require(_has_one_exponent(elem.exponents), f"a table's result has one fixed exponent, found {elem}")
        table = op.table.array
        require(
            elem.format.smallest <= int(table.min()) and int(table.max()) <= elem.format.largest,
            f"table entries leave {elem.format.smallest} to {elem.format.largest}",
        )

    def evaluate(self, op: Any, operands: Sequence[Tensor], results: Sequence[TensorType]) -> tuple[BlockArray, ...]:
        (x,), (type,) = operands, results
        found = look_up(x.data, op.table.array, block_float(x.type).format.mantissa)
        elem = block_float(type)
        assert elem.exponents is not None
        grid = np.broadcast_to(
            elem.exponents.array.reshape(-1)[0], static_shape(block_float_grid(type.shape, elem.blocks))
        )
        return (stored_blocks(found, grid, type),)


def _has_one_exponent(exponents: Any) -> bool:
    return exponents is not None and exponents.array.size > 0 and bool(
        (exponents.array == exponents.array.reshape(-1)[0]).all()
    )
