"""Several ops as one kernel."""

from __future__ import annotations

from collections.abc import Sequence

from qcompiler.ir.dimension import Shape
from qcompiler.ir.graph import Graph
from qcompiler.ir.node import Node
from qcompiler.ir.op import Op, Stored, Tensor, op, require
from qcompiler.ir.types import Elem, TensorType
from qcompiler.ir.value import Value
from qcompiler.ops.inference import operand_count


@op("fused")
class Fused(Op):
    """A straight-line ``body`` that runs as one kernel. Its meaning is its body, nothing else."""

    holds_blocks = True
    body: Graph

    def infer_shapes(self, operands: Sequence[TensorType]) -> tuple[Shape, ...]:
        operand_count(operands, len(self.body.inputs))
        for index, (operand, inside) in enumerate(zip(operands, self.body.inputs, strict=True)):
            require(operand == inside.type, f"operand {index} is {operand}, the body takes {inside.type}")
        return tuple(o.value.type.shape for o in self.body.outputs)

    def infer_elems(self, operands: Sequence[TensorType]) -> tuple[Elem | None, ...]:
        return tuple(o.value.type.elem for o in self.body.outputs)

    def evaluate(self, operands: Sequence[Tensor], results: Sequence[TensorType]) -> tuple[Stored, ...]:
        symbols = bound_symbols(
            [v.type for v in self.body.inputs] + [o.value.type for o in self.body.outputs],
            [t.type for t in operands] + list(results),
        )
        values = dict(zip(self.body.inputs, operands, strict=True))
        for node in self.body.nodes:
            evaluate_node(node, values, symbols)
        return tuple(values[o.value].stored for o in self.body.outputs)

    def multiply_accumulates(self, operands: Sequence[TensorType], results: Sequence[TensorType]) -> int:
        return sum(
            n.op.multiply_accumulates([v.type for v in n.operands], [v.type for v in n.results])
            for n in self.body.nodes
        )


def evaluate_node(node: Node, values: dict[Value, Tensor], symbols: dict[str, int]) -> None:
    """Run one node: look its operands up in ``values`` and put its results there."""
    types = [v.type.bind(symbols) if symbols else v.type for v in node.results]
    op = node.op.bind(symbols) if symbols else node.op
    computed = op.compute([values[v] for v in node.operands], types)
    for value, type, stored in zip(node.results, types, computed, strict=True):
        values[value] = Tensor.of(type, stored)


def bound_symbols(symbolic: Sequence[TensorType], concrete: Sequence[TensorType]) -> dict[str, int]:
    """The value of each symbol, read off types whose dimensions are known."""
    symbols: dict[str, int] = {}
    for free, known in zip(symbolic, concrete, strict=True):
        for dim, size in zip(free.shape, known.shape, strict=True):
            if not isinstance(dim, int) and isinstance(size, int):
                symbols[dim.symbol] = size // dim.coefficient
    return symbols
