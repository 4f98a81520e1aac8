"""What ``annotate`` shares between targets: walking over a program, the host's share, and places for marks."""

from __future__ import annotations

from abc import ABC, abstractmethod

from qcompiler.errors import QCompilerError
from qcompiler.ir import Builder, Graph, Node, Value
from qcompiler.ops.block_conversion import FakeBlock
from qcompiler.ops.constant import Constant
from qcompiler.ops.quantization import FakeQuant
from qcompiler.target import Row, Target, is_constant, runs_on_host


class ValueMarks(ABC):
    """Marks the values of a program, one node after the other.

    Attributes:
        held_behind_clamp: values that exist only to be limited by the activation that follows.
        of_host: results of what the host runs.
    """

    def __init__(self, graph: Graph, target: Target) -> None:
        self.graph = graph
        self.target = target
        self.held_behind_clamp: set[Value] = set()
        self.of_host: set[Value] = set()

    @abstractmethod
    def mark(self, node: Node, row: Row) -> None:
        """Mark what a node that the target runs demands of its operands and gives as results."""

    @abstractmethod
    def first_of(self, value: Value) -> Value | None:
        """The value as it is held first; None where it is not marked."""

    def check_leaving(self, value: Value) -> None:  # noqa: B027
        """Refuse a value that leaves the target, held as it is first, if the target cannot turn it into real numbers.

        Raises:
            QCompilerError: it cannot; names the layer.
        """

    def mark_all(self) -> None:
        """Mark what every node demands, and let the program return what the target holds.

        Raises:
            QCompilerError: the target lacks an op, or a format stands where no op takes it; names the layer.
        """
        for node in self.graph.nodes:
            if isinstance(node.op, Constant | FakeBlock | FakeQuant):
                continue
            if runs_on_host(self.target, node):
                self.mark_operands_of_host(node)
                continue
            row = self.target.row_for(node.op)
            if row is None:
                raise QCompilerError(
                    f"target {self.target.name!r} has no op {node.op.name!r}", layer=node.layer,
                    fix="run 'legalize' before",
                )
            self.mark(node, row)
        for index, value in enumerate(self.graph.terminator.operands):
            held = self.first_of(value)
            if held is not None and value not in self.of_host:
                self.check_leaving(value)
                self.graph.terminator.set_operand(index, held)

    def mark_operands_of_host(self, node: Node) -> None:
        """Let a node of the host take what the target computed as the target holds it, and anything else as it is."""
        self.of_host.update(node.results)
        for index, value in enumerate(node.operands):
            computed = value.producer is not None and not is_constant(value) and value not in self.of_host
            held = self.first_of(value)
            if computed and held is not None:
                self.check_leaving(value)
                node.set_operand(index, held)

    def builder_behind(self, value: Value, node: Node) -> Builder:
        """A builder directly behind the definition of ``value``."""
        producer = value.producer
        if producer is None:
            return Builder(self.graph, next(self.graph.nodes), ())
        return Builder(self.graph, producer.next or self.graph.terminator, producer.loc or node.loc)
