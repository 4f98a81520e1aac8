"""Clamp, maximum and minimum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tvm import tirx

from qcompiler.backends.lowering import lowering
from qcompiler.backends.tvm.element import Element, Stage
from qcompiler.backends.tvm.lanes import Expr
from qcompiler.ir import Node
from qcompiler.ops.quantization import Clamp


@dataclass(frozen=True)
class Identity(Stage):
    """The operand itself."""

    def expression(self, operands: Sequence[Expr]) -> Expr:
        return operands[0]


@dataclass(frozen=True)
class Larger(Stage):
    """The larger of two numbers."""

    def expression(self, operands: Sequence[Expr]) -> Expr:
        return tirx.max(operands[0], operands[1])


@dataclass(frozen=True)
class Smaller(Stage):
    """The smaller of two numbers."""

    def expression(self, operands: Sequence[Expr]) -> Expr:
        return tirx.min(operands[0], operands[1])


@lowering("tvm-element", "clamp")
def clamp(node: Node) -> Element:
    """Operand: stored integers."""
    assert isinstance(node.op, Clamp)
    return Element(Identity(), bounds=(node.op.minimum, node.op.maximum))


@lowering("tvm-element", "maximum")
def maximum(node: Node) -> Element:
    """Operands: two tensors of one type."""
    return Element(Larger())


@lowering("tvm-element", "minimum")
def minimum(node: Node) -> Element:
    """Operands: two tensors of one type."""
    return Element(Smaller())
