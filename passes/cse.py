"""The pass ``cse``."""

from __future__ import annotations

from typing import Any

from qcompiler.ir import Graph, Node, Untraced
from qcompiler.pipeline import Context, Pass, PassResult, compiler_pass


@compiler_pass("cse")
class CommonSubexpressionElimination(Pass):
    """Compute equal things once: nodes with the same op, attributes, operands and result types become one."""

    def run(self, graph: Graph, context: Context) -> PassResult:
        changed = False
        seen: dict[Any, Node] = {}
        for node in graph.nodes:
            key = (type(node.op), node.op, node.operands, tuple(v.type for v in node.results))
            first = seen.setdefault(key, node)
            if first is node:
                continue
            for kept, dropped in zip(first.results, node.results, strict=True):
                if isinstance(kept.origin, Untraced):
                    kept.origin = dropped.origin
                dropped.replace_uses(kept)
            first.absorb_layers(node)
            graph.erase(node)
            changed = True
        return PassResult(graph, changed)
