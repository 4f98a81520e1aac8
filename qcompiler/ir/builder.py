"""Creates nodes at a place in a graph, with inferred types."""

from __future__ import annotations

from collections.abc import Sequence

from qcompiler.errors import QCompilerError
from qcompiler.ir.graph import Graph
from qcompiler.ir.node import Loc, Node
from qcompiler.ir.op import Op, OpTypeError
from qcompiler.ir.types import Elem, TensorType
from qcompiler.ir.value import Origin, Untraced, Value


class Builder:
    """Appends to a graph, or inserts before an anchor node.

    Args:
        graph: the graph to build in.
        before: insert before this node; None appends.
        loc: layer names for nodes created without their own.
    """

    def __init__(self, graph: Graph, before: Node | None = None, loc: Loc = ()) -> None:
        self.graph = graph
        self.before = before
        self.loc = loc

    def create(
        self,
        op: Op,
        operands: Sequence[Value],
        *,
        elem: Elem | Sequence[Elem] | None = None,
        loc: Loc | None = None,
        origin: Origin | None = None,
    ) -> Node:
        """Create a node.

        Args:
            op: the op.
            operands: its operands.
            elem: element type of every result that the operands leave open, or one for each result.
            loc: the user's layers; the builder's own by default.
            origin: origin of the first result.

        Raises:
            QCompilerError: the operand types do not fit the op; names the layer.
        """
        where = self.loc if loc is None else loc
        node = Node(op, operands, where)
        try:
            types = infer_types(op, [v.type for v in operands], elem)
            op.check([v.type for v in operands], types)
        except OpTypeError as error:
            node.drop_operands()
            types_text = ", ".join(str(v.type) for v in operands)
            raise QCompilerError(
                f"{op.name}: {error}", layer=" + ".join(where) or None, found=f"operands ({types_text})"
            ) from error
        untraced = Untraced(f"made by {op.name}")
        node.results = tuple(
            Value(type, (origin or untraced) if index == 0 else untraced, node) for index, type in enumerate(types)
        )
        if self.before is None:
            self.graph.append(node)
        else:
            self.graph.insert_before(self.before, node)
        return node

    def __call__(
        self, op: Op, *operands: Value, elem: Elem | None = None, loc: Loc | None = None, origin: Origin | None = None
    ) -> Value:
        """Create a node with one result and return that result."""
        return self.create(op, operands, elem=elem, loc=loc, origin=origin).result


def infer_types(
    op: Op, operands: Sequence[TensorType], elem: Elem | Sequence[Elem] | None = None
) -> list[TensorType]:
    """Result types of ``op``; ``elem``, one for all results or one for each, fills what the operands leave open.

    Raises:
        OpTypeError: the operands do not fit, or an element type stays open.
    """
    shapes = op.infer_shapes(operands)
    elems = op.result_elems(operands)
    given = elem if isinstance(elem, Sequence) else [elem] * len(elems)
    types = []
    for shape, inferred, open_elem in zip(shapes, elems, given, strict=True):
        chosen = inferred if inferred is not None else open_elem
        if chosen is None:
            raise OpTypeError("the operands leave the element type open; give one")
        types.append(TensorType(shape, chosen))
    return types
