"""Ops that move numbers without changing them."""

from __future__ import annotations

from qcompiler.backends.lowering import lowering
from qcompiler.backends.tvm.kernel_program import ProgramBuilder
from qcompiler.ir import Node


@lowering("tvm", "reshape")
def lower_reshape(node: Node, builder: ProgramBuilder) -> None:
    """The same numbers in the same place."""
    builder.place(node.result, builder.view(node.operands[0]))
