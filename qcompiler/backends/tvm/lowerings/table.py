"""Table lookup."""

from __future__ import annotations

from math import prod

from qcompiler.backends.lowering import lowering
from qcompiler.backends.tvm.kernel_program import ProgramBuilder
from qcompiler.backends.tvm.kernels.interpolated_table import InterpolatedLookup
from qcompiler.backends.tvm.kernels.table import TableLookup
from qcompiler.backends.tvm.lowerings.movement import dtype_of, shape_of
from qcompiler.backends.tvm.lowerings.tail import layers
from qcompiler.ir import Node
from qcompiler.ops.table import LookupTable, is_interpolated


@lowering("tvm", "lut")
def lower_lookup(node: Node, builder: ProgramBuilder) -> None:
    """One pass over the operand."""
    op, (source,) = node.op, node.operands
    assert isinstance(op, LookupTable)
    lookup = InterpolatedLookup if is_interpolated(source.type) else TableLookup
    kernel = lookup(prod(shape_of(source)), dtype_of(source), dtype_of(node.result))
    views = [builder.view(source), builder.constant(op.table.array), builder.result(node.result)]
    builder.call(kernel, views, layers(node))
