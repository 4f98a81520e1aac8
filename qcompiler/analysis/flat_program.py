"""A program as one list of ops: those inside of kernels stand in place of the fused nodes."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

from qcompiler.ir import Graph, Node, Original, Value
from qcompiler.ops.constant import Constant


@dataclass(eq=False)
class FlatOp:
    """A node that computes, with its operands as they are outside of any kernel.

    Attributes:
        node: the node; never a fused one.
        operands: results of other flat ops, or graph inputs.
        kernel: the outermost fused node that holds it; None outside of kernels.
        index: position in the dataflow order of its program.
    """

    node: Node
    operands: tuple[Value, ...]
    kernel: Node | None
    index: int = 0

    @property
    def name(self) -> str:
        return self.node.op.name

    @property
    def is_constant(self) -> bool:
        return isinstance(self.node.op, Constant)

    @cached_property
    def layers(self) -> frozenset[str]:
        return frozenset(self.node.loc)

    @cached_property
    def kernel_identity(self) -> Hashable:
        """What tells the kernel that holds the op from others; None outside of kernels."""
        kernel = self.kernel
        return kernel and (kernel.op.name, frozenset(kernel.loc), tuple(v.origin for v in kernel.results))

    @cached_property
    def originals(self) -> frozenset[str]:
        """Names of the original values that the results stand for."""
        return frozenset(v.origin.name for v in self.node.results if isinstance(v.origin, Original))


@dataclass
class FlatProgram:
    """The ops of a program and the data flow between them.

    Attributes:
        graph: the program.
        ops: all ops in dataflow order, which does not depend on the order of independent nodes: depth first from the
            outputs, operands before their users; ops that no output needs come last.
        producers: the op that each value is a result of; graph inputs have none.
        uses: the ops that use each value, with the operand's index.
        outputs: (name, value) of each output, in order.
        kernels: fused nodes with the ops that they hold.
    """

    graph: Graph
    ops: list[FlatOp] = field(default_factory=list)
    producers: dict[Value, FlatOp] = field(default_factory=dict)
    uses: dict[Value, list[tuple[FlatOp, int]]] = field(default_factory=dict)
    outputs: list[tuple[str, Value]] = field(default_factory=list)
    kernels: dict[Node, list[FlatOp]] = field(default_factory=dict)

    def computed_operands(self, op: FlatOp) -> list[Value]:
        """The operands that are no constants."""
        return [v for v in op.operands if v not in self.producers or not self.producers[v].is_constant]


def flatten(graph: Graph) -> FlatProgram:
    """The flat form of a program; it refers to the graph's nodes and values."""
    flat = FlatProgram(graph)
    stands_for: dict[Value, Value] = {}
    in_program_order = list(_flat_ops(graph, stands_for, None))
    for op in in_program_order:
        for value in op.node.results:
            flat.producers[value] = op
        for index, value in enumerate(op.operands):
            flat.uses.setdefault(value, []).append((op, index))
    flat.outputs = [(o.name, stands_for.get(o.value, o.value)) for o in graph.outputs]
    needed = [flat.producers[v] for _, v in flat.outputs if v in flat.producers]
    ends = [op for op in in_program_order if not any(v in flat.uses for v in op.node.results)]
    flat.ops = _operands_first(flat, [*needed, *ends])
    for index, op in enumerate(flat.ops):
        op.index = index
        if op.kernel is not None:
            flat.kernels.setdefault(op.kernel, []).append(op)
    return flat


def _flat_ops(graph: Graph, stands_for: dict[Value, Value], kernel: Node | None) -> Iterator[FlatOp]:
    for node in graph.nodes:
        operands = tuple(stands_for.get(v, v) for v in node.operands)
        body = getattr(node.op, "body", None)
        if isinstance(body, Graph):
            stands_for.update(zip(body.inputs, operands, strict=True))
            yield from _flat_ops(body, stands_for, kernel or node)
            for result, output in zip(node.results, body.outputs, strict=True):
                stands_for[result] = stands_for.get(output.value, output.value)
        else:
            yield FlatOp(node, operands, kernel)


def _operands_first(flat: FlatProgram, roots: Iterable[FlatOp]) -> list[FlatOp]:
    """Everything that the roots need, and the roots: depth first, without recursion."""
    found: dict[FlatOp, None] = {}
    entered: set[FlatOp] = set()
    for root in roots:
        path = [root]
        while path:
            op = path[-1]
            if op not in entered:
                entered.add(op)
                needed = (flat.producers[v] for v in reversed(op.operands) if v in flat.producers)
                path.extend(p for p in needed if p not in entered)
            else:
                found[path.pop()] = None
    return list(found)
