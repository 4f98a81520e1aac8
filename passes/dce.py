"""The pass ``dce``."""

from __future__ import annotations

from qcompiler.ir import Graph
from qcompiler.pipeline import Context, Pass, PassResult, compiler_pass


@compiler_pass("dce")
class DeadCodeElimination(Pass):
    """Remove nodes whose results nobody uses."""

    def run(self, graph: Graph, context: Context) -> PassResult:
        changed = False
        for node in graph.reversed_nodes:
            if not any(value.uses for value in node.results):
                graph.erase(node)
                changed = True
        return PassResult(graph, changed)
