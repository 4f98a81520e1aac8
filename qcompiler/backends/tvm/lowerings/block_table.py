"""Tables on block floating point."""

from __future__ import annotations

from math import prod

from qcompiler.backends.lowering import lowering
from qcompiler.backends.tvm.block_regions import label_of
from qcompiler.backends.tvm.kernel_program import ProgramBuilder
from qcompiler.backends.tvm.kernels.mantissa_table import MantissaTable
from qcompiler.ir import Node
from qcompiler.ir.dimension import static_shape
from qcompiler.ops.block_values import block_float
from qcompiler.ops.table import LookupTable


@lowering("tvm-block", "lut")
def lower_lookup(node: Node, builder: ProgramBuilder) -> None:
    """One pass over the mantissas; the exponents are those that the result's type fixes."""
    op, (source,) = node.op, node.operands
    assert isinstance(op, LookupTable)
    operand, table = block_float(source.type), op.table.array
    kernel = MantissaTable(
        prod(static_shape(source.type.shape)), operand.format.mantissa, len(table), str(operand.storage.dtype),
        str(table.dtype), str(node.result.type.storage.dtype),
    )
    views = [builder.view(source), builder.constant(table), builder.result(node.result)]
    builder.call(kernel, views, label_of([node]))
