"""Copies of graphs."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from qcompiler.ir.graph import Graph
from qcompiler.ir.node import Node
from qcompiler.ir.value import Value


def clone(graph: Graph, symbols: Mapping[str, int] = MappingProxyType({})) -> Graph:
    """An equal graph that shares no node or value with ``graph``, in fused bodies neither.

    Types, attributes and arrays, which never change, are shared.

    Args:
        graph: the program.
        symbols: sizes for free dimensions, by symbol: types and attributes of the copy hold these instead.
    """
    copy = Graph(graph.name, graph.target, graph.pipeline)
    values: dict[Value, Value] = {}
    for value in graph.inputs:
        values[value] = copy.add_input(value.name, value.type.bind(symbols) if symbols else value.type, value.origin)
    for node in graph.nodes:
        body = getattr(node.op, "body", None)
        op = node.op.replace(body=clone(body, symbols)) if isinstance(body, Graph) else node.op
        made = Node(op.bind(symbols) if symbols else op, [values[v] for v in node.operands], node.loc, node.on_host)
        made.results = tuple(
            Value(v.type.bind(symbols) if symbols else v.type, v.origin, made) for v in node.results
        )
        copy.append(made)
        values.update(zip(node.results, made.results, strict=True))
    copy.set_outputs((o.name, values[o.value]) for o in graph.outputs)
    return copy


def inline_bodies(graph: Graph) -> None:
    """Put the nodes of every fused body in place of the node that holds them. Meaning, origins and layers stay."""
    for node in list(graph.nodes):
        body = getattr(node.op, "body", None)
        if not isinstance(body, Graph):
            continue
        inline_bodies(body)
        values = dict(zip(body.inputs, node.operands, strict=True))
        for part in body.nodes:
            made = Node(part.op, [values[v] for v in part.operands], part.loc)
            made.results = tuple(Value(v.type, v.origin, made) for v in part.results)
            graph.insert_before(node, made)
            values.update(zip(part.results, made.results, strict=True))
        for result, output in zip(node.results, body.outputs, strict=True):
            result.replace_uses(values[output.value])
        graph.erase(node)
