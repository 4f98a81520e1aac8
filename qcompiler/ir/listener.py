"""What a graph tells those who watch it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qcompiler.ir.node import Node
    from qcompiler.ir.op import Op
    from qcompiler.ir.value import Value


@dataclass(frozen=True)
class Remark:
    """What a rule made of a node.

    Attributes:
        rule: the rule's name.
        node: the node that the rule looked at.
        applied: whether it rewrote the node.
        text: what it did, or why it declined.
    """

    rule: str
    node: Node
    applied: bool
    text: str


class GraphListener:
    """Told of every change to the nodes of a graph, when it is made. All methods do nothing by default.

    A listener that changes the graph itself is told of its own changes too.
    """

    def node_inserted(self, node: Node) -> None:
        """``node`` was linked into the graph."""

    def node_erased(self, node: Node) -> None:
        """``node`` is about to be removed; its operands are still there."""

    def operand_changed(self, node: Node, index: int, before: Value) -> None:
        """Operand ``index`` of ``node`` was ``before``."""

    def op_changed(self, node: Node, before: Op) -> None:
        """The op of ``node``, or an attribute of it, was another: ``before``."""

    def wants_remarks_on(self, node: Node) -> bool:
        """Whether rules should say what they make of ``node``. Reasons are worked out only where somebody asks."""
        return False

    def remark(self, remark: Remark) -> None:
        """A rule looked at a node that this listener wants remarks on."""
