"""Which marked values of block floating point meet, and had better have one exponent."""

from __future__ import annotations

from networkx.utils import UnionFind

from qcompiler.ir import Graph, Node
from qcompiler.ops.block_conversion import FakeBlock
from qcompiler.target import Target


def exponent_groups(graph: Graph, target: Target) -> list[list[Node]]:
    """Marks of fixed exponents that meet in ops which the target's descriptor ties, in order.

    Each mark has one exponent for all blocks.
    """
    sets: UnionFind[Node] = UnionFind()
    for node in graph.nodes:
        row = target.row_for(node.op)
        if row is None or not row.tied:
            continue
        marks = [v.producer for v in node.operands if v.producer is not None]
        marks += [user for value in node.results for user in value.users]
        fixed = [mark for mark in marks if _has_one_exponent(mark)]
        sets.union(*fixed)
    groups: dict[Node, list[Node]] = {}
    for node in graph.nodes:
        if _has_one_exponent(node):
            groups.setdefault(sets[node], []).append(node)
    return list(groups.values())


def _has_one_exponent(node: Node) -> bool:
    return isinstance(node.op, FakeBlock) and node.op.is_fixed and node.op.exponent is not None
