"""The program: a linked, ordered list of nodes in SSA form."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from qcompiler.ir.listener import GraphListener, Remark
from qcompiler.ir.node import Node, ReturnOp
from qcompiler.ir.types import TensorType
from qcompiler.ir.value import Origin, Untraced, Value

_ORDER_STRIDE = 1 << 40
"""Distance between the order numbers of neighbours, so that many nodes fit between two before all are renumbered."""


@dataclass(frozen=True)
class Output:
    """A graph output: its name and the value returned under it."""

    name: str
    value: Value


class Graph:
    """A program with named inputs and outputs.

    Attributes:
        name: the program's name.
        target: name of the target the program was compiled for; empty before.
        pipeline: the passes it went through, as pipeline text.
        version: grows with every change; cached views compare it.
        listeners: told of every change to the nodes.
    """

    def __init__(self, name: str = "main", target: str = "", pipeline: str = "") -> None:
        self.name = name
        self.target = target
        self.pipeline = pipeline
        self.version = 0
        self.listeners: list[GraphListener] = []
        self.inputs: list[Value] = []
        self.output_names: list[str] = []
        self._first: Node | None = None
        self._last: Node | None = None
        self._count = 0
        self._is_numbered = True
        self._return = Node(ReturnOp(), (), ())
        self._return.graph = self

    # Inputs and outputs

    def add_input(self, name: str, type: TensorType, origin: Origin | None = None) -> Value:
        value = Value(type, origin or Untraced("graph input"), name=name)
        self.inputs.append(value)
        self.version += 1
        return value

    @property
    def outputs(self) -> tuple[Output, ...]:
        pairs = zip(self.output_names, self._return.operands, strict=True)
        return tuple(Output(name, value) for name, value in pairs)

    def set_outputs(self, outputs: Iterable[tuple[str, Value]]) -> None:
        """Return these values under these names."""
        pairs = list(outputs)
        self._return.drop_operands()
        self._return = Node(ReturnOp(), [value for _, value in pairs], ())
        self.output_names = [name for name, _ in pairs]
        self._return.graph = self
        self.version += 1

    @property
    def terminator(self) -> Node:
        """The node whose operands are the graph's outputs; it is not among ``nodes``."""
        return self._return

    # Nodes

    def __len__(self) -> int:
        return self._count

    @property
    def nodes(self) -> Iterator[Node]:
        """All nodes in order. The current node may be erased, and nodes inserted, while iterating."""
        node = self._first
        while node is not None:
            following = node.next
            yield node
            node = following if node.graph is None else node.next

    @property
    def reversed_nodes(self) -> Iterator[Node]:
        """All nodes, last first; the current node may be erased while iterating."""
        node = self._last
        while node is not None:
            preceding = node.previous
            yield node
            node = preceding if node.graph is None else node.previous

    def append(self, node: Node) -> Node:
        """Put ``node`` at the end."""
        return self._link(node, self._last, None)

    def insert_before(self, anchor: Node, node: Node) -> Node:
        """Put ``node`` directly before ``anchor``, which may be the terminator."""
        if anchor is self._return:
            return self.append(node)
        return self._link(node, anchor.previous, anchor)

    def insert_after(self, anchor: Node, node: Node) -> Node:
        """Put ``node`` directly after ``anchor``."""
        return self._link(node, anchor, anchor.next)

    def prepend(self, node: Node) -> Node:
        """Put ``node`` at the beginning."""
        return self._link(node, None, self._first)

    def erase(self, node: Node) -> None:
        """Remove ``node``.

        Raises:
            ValueError: a result is still used, or the node does not stand in this graph.
        """
        if node.graph is not self or node is self._return:
            raise ValueError(f"{node!r} does not stand in this graph")
        if any(value.uses for value in node.results):
            raise ValueError(f"{node!r} is still used")
        for listener in self.listeners:
            listener.node_erased(node)
        node.drop_operands()
        if node.previous:
            node.previous.next = node.next
        else:
            self._first = node.next
        if node.next:
            node.next.previous = node.previous
        else:
            self._last = node.previous
        node.graph = None
        self._count -= 1
        self.version += 1

    def _link(self, node: Node, previous: Node | None, following: Node | None) -> Node:
        if node.graph is not None:
            raise ValueError(f"{node!r} already stands in a graph")
        node.graph, node.previous, node.next = self, previous, following
        if previous:
            previous.next = node
        else:
            self._first = node
        if following:
            following.previous = node
        else:
            self._last = node
        self._count += 1
        self.version += 1
        self._number(node)
        for listener in self.listeners:
            listener.node_inserted(node)
        return node

    def _number(self, node: Node) -> None:
        """Give a new node an order number between those of its neighbours, if there is one."""
        previous, following = node.previous, node.next
        if following is None:
            node._order = previous._order + _ORDER_STRIDE if previous else 0
        elif previous is None:
            node._order = following._order - _ORDER_STRIDE
        else:
            node._order = (previous._order + following._order) // 2
            self._is_numbered = self._is_numbered and node._order != previous._order

    def number_nodes(self) -> None:
        """Renew the nodes' order numbers, if they are spent. :meth:`Node.is_before` calls it."""
        if not self._is_numbered:
            for index, node in enumerate(self.nodes):
                node._order = index * _ORDER_STRIDE
            self._is_numbered = True

    # Listeners

    @contextmanager
    def watched_by(self, listener: GraphListener) -> Iterator[None]:
        """Tell ``listener`` of every change to the nodes inside a ``with`` block."""
        self.listeners.append(listener)
        try:
            yield
        finally:
            self.listeners.remove(listener)

    def remark(self, remark: Remark) -> None:
        """Pass a remark on to the listeners that want remarks on its node."""
        for listener in self.listeners:
            if listener.wants_remarks_on(remark.node):
                listener.remark(remark)

    # Comparison and text

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Graph):
            return NotImplemented
        from qcompiler.ir.structure import structural_hash

        return self is other or structural_hash(self) == structural_hash(other)

    def __hash__(self) -> int:
        from qcompiler.ir.structure import structural_hash

        return hash(structural_hash(self))

    def __str__(self) -> str:
        from qcompiler.ir.printer import print_graph

        return print_graph(self)


def walk(graph: Graph) -> Iterator[Node]:
    """All nodes of ``graph``, those in the bodies of fused nodes included."""
    for node in graph.nodes:
        yield node
        body: Any = getattr(node.op, "body", None)
        if isinstance(body, Graph):
            yield from walk(body)
