"""Which parts of a program the target runs, and which the host: islands, in the order in which they run."""

from __future__ import annotations

from dataclasses import dataclass

from qcompiler.ir import Graph, Node, Value
from qcompiler.ops.constant import Constant
from qcompiler.target.host import is_host_node


@dataclass
class Island:
    """Nodes that run in one place, as a program of their own.

    Attributes:
        graph: the nodes; inputs and outputs are called after the values that they hand on, those of the whole program
            as the whole program calls them.
        on_host: whether the host runs them.
    """

    graph: Graph
    on_host: bool


def split_islands(graph: Graph) -> list[Island]:
    """Cut a program into as few islands as its data flow allows; one for a program that the target runs whole.

    A node joins the earliest island of its kind that comes no sooner than those of its operands, so there are as many
    islands as the longest path changes sides; whether target or host begins is tried both ways.
    """
    by_target, by_host = (_stages(graph, first) for first in (0, 1))
    stages = by_host if len(by_host) < len(by_target) else by_target
    if not stages:
        return [Island(graph, on_host=False)]
    if len(stages) == 1:
        return [Island(graph, on_host=min(stages) % 2 == 1)]
    names = crossing_names(graph)
    stage_of = {value: stage for stage, nodes in stages.items() for node in nodes for value in node.results}
    return [Island(_extract(graph, stages[stage], names, stage_of, stage), stage % 2 == 1) for stage in sorted(stages)]


def _stages(graph: Graph, first: int) -> dict[int, list[Node]]:
    """Nodes by the number of their island, ``first`` and above: even for those of the target, odd for the host's."""
    stages: dict[Value, int] = {}
    members: dict[int, list[Node]] = {}
    for node in graph.nodes:
        if isinstance(node.op, Constant):
            continue
        stage = max((stages[v] for v in node.operands if v in stages), default=first)
        stage += (stage % 2 == 1) != is_host_node(node)
        stages.update(dict.fromkeys(node.results, stage))
        members.setdefault(stage, []).append(node)
    return members


def crossing_names(graph: Graph) -> dict[Value, str]:
    """What inputs and outputs of islands are called: a name for each value of a program."""
    names = {value: value.name for value in graph.inputs}
    for output in graph.outputs:
        names.setdefault(output.value, output.name)
    taken = set(names.values())
    for number, node in enumerate(graph.nodes):
        for index, value in enumerate(node.results):
            name = f"value_{number}_{index}"
            while name in taken:
                name += "_"
            names.setdefault(value, name)
    return names


def _extract(
    graph: Graph, nodes: list[Node], names: dict[Value, str], stages: dict[Value, int], stage: int
) -> Graph:
    part = Graph(graph.name, graph.target, graph.pipeline)
    values: dict[Value, Value] = {}
    inside = {v for node in nodes for v in node.results}
    for node in nodes:
        for value in node.operands:
            if value in values or value in inside:
                continue
            producer = value.producer
            if producer is not None and isinstance(producer.op, Constant):
                copy = Node(producer.op, (), producer.loc)
                copy.results = (Value(value.type, value.origin, copy),)
                part.append(copy)
                values[value] = copy.result
            else:
                values[value] = part.add_input(names[value], value.type, value.origin)
        made = Node(node.op, [values[v] for v in node.operands], node.loc, node.on_host)
        made.results = tuple(Value(v.type, v.origin, made) for v in node.results)
        part.append(made)
        values.update(zip(node.results, made.results, strict=True))
    wanted = {o.value for o in graph.outputs}
    crossing = [v for v in inside if v in wanted or any(_stage_of(u, stages) not in (stage, None) for u in v.users)]
    crossing.sort(key=lambda v: names[v])
    part.set_outputs([(names[v], values[v]) for v in crossing])
    return part


def _stage_of(node: Node, stages: dict[Value, int]) -> int | None:
    return stages[node.results[0]] if node.results else None
