"""Nodes: ops applied to values, linked in order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from qcompiler.ir.op import Op
from qcompiler.ir.value import Value

if TYPE_CHECKING:
    from qcompiler.ir.graph import Graph

Loc = tuple[str, ...]


class Node:
    """One op applied to values.

    Attributes:
        op: the op with its attributes.
        loc: names of the user's layers it stems from.
        on_host: whether it was placed on the host that drives the target; computes on plain numbers.
    """

    __slots__ = ("_operands", "_order", "graph", "loc", "next", "on_host", "op", "previous", "results")

    def __init__(self, op: Op, operands: Sequence[Value], loc: Loc, on_host: bool = False) -> None:
        self.op = op
        self.loc = loc
        self.on_host = on_host
        self.results: tuple[Value, ...] = ()
        self.graph: Graph | None = None
        self.previous: Node | None = None
        self.next: Node | None = None
        self._order = 0
        self._operands: list[Value] = list(operands)
        for index, value in enumerate(self._operands):
            value.uses[self, index] = None

    @property
    def operands(self) -> tuple[Value, ...]:
        return tuple(self._operands)

    def operand(self, index: int) -> Value | None:
        """Operand ``index`` in constant time; None where there is none."""
        return self._operands[index] if 0 <= index < len(self._operands) else None

    @property
    def result(self) -> Value:
        """The only result."""
        (value,) = self.results
        return value

    @property
    def layer(self) -> str:
        """The user's layer names, joined; empty where there are none."""
        return " + ".join(self.loc)

    def set_operand(self, index: int, value: Value) -> None:
        """Use ``value`` as operand ``index``."""
        before = self._operands[index]
        del before.uses[self, index]
        self._operands[index] = value
        value.uses[self, index] = None
        if self.graph is not None:
            self.graph.version += 1
            for listener in self.graph.listeners:
                listener.operand_changed(self, index, before)

    def set_op(self, op: Op) -> None:
        """Change the op or its attributes; result types stay as they are."""
        before, self.op = self.op, op
        if self.graph is not None:
            self.graph.version += 1
            for listener in self.graph.listeners:
                listener.op_changed(self, before)

    def drop_operands(self) -> None:
        for index, value in enumerate(self._operands):
            del value.uses[self, index]
        self._operands.clear()

    def absorb_layers(self, other: Node) -> None:
        """Record that this node now also does the work of ``other``'s layers."""
        self.loc = (*self.loc, *(name for name in other.loc if name not in self.loc))

    def is_before(self, other: Node) -> bool:
        """Whether this node stands before ``other`` in their graph. The terminator stands behind all nodes."""
        graph = self.graph
        if graph is None or graph is not other.graph:
            raise ValueError(f"{self!r} and {other!r} stand in no common graph")
        if other is graph.terminator or self is graph.terminator:
            return self is not other and other is graph.terminator
        graph.number_nodes()
        return self._order < other._order

    def __repr__(self) -> str:
        return f"<Node {self.op.name} {self.layer!r}>"


class ReturnOp(Op):
    """Marks the end of a graph; its operands are the graph's outputs."""

    name = "return"


def in_order(nodes: Iterable[Node]) -> list[Node]:
    """Nodes of one graph in the graph's order."""
    found = list(nodes)
    if found and found[0].graph is not None:
        found[0].graph.number_nodes()
    return sorted(found, key=lambda node: node._order)
