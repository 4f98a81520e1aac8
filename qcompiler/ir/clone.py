"""Copies of graphs."""

from __future__ import annotations

from qcompiler.ir.graph import Graph
from qcompiler.ir.node import Node
from qcompiler.ir.value import Value


def clone(graph: Graph) -> Graph:
    """An equal graph that shares no node or value with ``graph``, in fused bodies neither.

    Types, attributes and arrays, which never change, are shared.
    """
    copy = Graph(graph.name, graph.target, graph.pipeline)
    values: dict[Value, Value] = {}
    for value in graph.inputs:
        values[value] = copy.add_input(value.name, value.type, value.origin)
    for node in graph.nodes:
        body = getattr(node.op, "body", None)
        op = node.op.replace(body=clone(body)) if isinstance(body, Graph) else node.op
        made = Node(op, [values[v] for v in node.operands], node.loc)
        made.results = tuple(Value(v.type, v.origin, made) for v in node.results)
        copy.append(made)
        values.update(zip(node.results, made.results, strict=True))
    copy.set_outputs((o.name, values[o.value]) for o in graph.outputs)
    return copy
