"""Finds values by what a user calls them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from qcompiler.errors import QCompilerError, did_you_mean
from qcompiler.ir import Graph, Original, Value, walk


def find_values(graph: Graph, names: Mapping[Value, str], wanted: str) -> list[Value]:
    """The values that ``wanted`` names, in the program's order.

    The first of these that fits counts: the name of a value in the text, such as ``%17``; the name of an original
    value, which several values may stand for; that of an input or output; a layer, which stands for all results of
    its nodes; a name in the text without its ``%``.

    Args:
        graph: the program.
        names: the name of each value in the text, bodies included.
        wanted: what the user wrote.

    Raises:
        QCompilerError: the name is empty, or nothing is called so; names what comes near.
    """
    if not wanted:
        raise QCompilerError(
            "the name of the value is empty", fix="name one; 'qcompiler inspect PATH' lists the values"
        )
    values = list(all_values(graph))
    for candidates in (
        [v for v in values if names.get(v) == wanted],
        [v for v in values if isinstance(v.origin, Original) and v.origin.name == wanted],
        [v for v in graph.inputs if v.name == wanted] + [o.value for o in graph.outputs if o.name == wanted],
        [v for v in values if v.producer and wanted in (*v.producer.loc, v.producer.layer)],
        [v for v in values if names.get(v) == f"%{wanted}"],
    ):
        if candidates:
            return list(dict.fromkeys(candidates))
    raise QCompilerError(
        f"the program has no value {wanted!r}",
        expected="a name in its text such as %0, an original value, an input, an output or a layer",
        fix=did_you_mean(wanted, known_names(graph, names), most=3) or "'qcompiler inspect PATH' lists the values",
    )


def all_values(graph: Graph) -> Iterator[Value]:
    """Inputs and the results of all nodes, those in fused bodies included."""
    yield from graph.inputs
    for node in walk(graph):
        yield from node.results


def known_names(graph: Graph, names: Mapping[Value, str]) -> list[str]:
    """Everything that :func:`find_values` knows."""
    found = dict.fromkeys(names[v] for v in all_values(graph))
    for value in all_values(graph):
        if isinstance(value.origin, Original):
            found[value.origin.name] = None
        if value.producer:
            found.update(dict.fromkeys(value.producer.loc))
    return list(found)
