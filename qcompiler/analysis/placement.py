"""Where the nodes of a float program run, target or host, with the fewest crossings between the two.

A minimum cut. Every value but a constant or an input of the program is a net: the node that computes it and those that
use it. A net whose nodes do not all run in one place is a crossing, however many use the value. Each net becomes a pair
of vertices, as in E. L. Lawler, "Cutsets and partitions of hypergraphs" (1973), so that the cut counts it once.

What is made small, in this order: the number of crossings; the number of nodes that the host runs although the target
could; the bytes that cross. Inputs and outputs of the program are plain numbers, and cost nothing on either side.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from qcompiler.ir import Graph, Node, TensorType, Value
from qcompiler.ir.dimension import SymbolicDim
from qcompiler.ops.constant import Constant
from qcompiler.target import Target, host_reason, may_move_to_host

if TYPE_CHECKING:
    import networkx as nx

_TARGET, _HOST = "target", "host"


def place_on_host(graph: Graph, target: Target) -> set[Node]:
    """The nodes of a float program that the host is to run: those that the target lacks, and what saves crossings.

    Contractions that the target has stay there. Empty where the target has everything, or no host.

    Args:
        graph: a legalized float program.
        target: decides what can run on it.
    """
    pinned = {node for node in graph.nodes if host_reason(target, node) is not None}
    if not pinned:
        return pinned
    region = _region(pinned, target)
    if region == pinned:
        return pinned
    return pinned | _moved(pinned, region)


def sample_bytes(type: TensorType) -> int:
    """Bytes of one sample of a value of plain numbers: a free dimension counts as its smallest size."""
    sizes = (d.coefficient if isinstance(d, SymbolicDim) else d for d in type.shape)
    return prod(sizes) * -(-type.storage.bits // 8)


@dataclass(frozen=True, eq=False)
class _Net:
    """One value, as a vertex of the flow network: what enters ``into`` leaves at ``out_of``."""

    value: Value
    is_exit: bool


def _region(pinned: set[Node], target: Target) -> set[Node]:
    """The pinned nodes, and all nodes that could follow them to the host: linked to them by values, directly or not.

    No other node saves a crossing by moving.
    """
    region, waiting = set(pinned), list(pinned)
    while waiting:
        node = waiting.pop()
        for value in (*node.operands, *node.results):
            for other in _members(value):
                if other not in region and may_move_to_host(target, other):
                    region.add(other)
                    waiting.append(other)
    return region


def _members(value: Value) -> list[Node]:
    """The nodes that run in one place if the value does not cross; none for constants and the program's inputs."""
    producer = value.producer
    if producer is None or isinstance(producer.op, Constant):
        return []
    graph = producer.graph
    return [producer, *(user for user in value.users if graph is None or user is not graph.terminator)]


def _moved(pinned: set[Node], region: set[Node]) -> set[Node]:
    """The nodes of the region on the host's side of the smallest cut."""
    # Imported where it is needed: it takes a seventh of the time in which a command starts.
    import networkx as nx

    flow: nx.DiGraph[object] = nx.DiGraph()
    nets = dict.fromkeys(
        value for node in region for value in (*node.operands, *node.results) if len(_members(value)) > 1
    )
    # Whole numbers of any size keep the three aims apart exactly.
    all_bytes = 1 + sum(sample_bytes(value.type) for value in nets)
    a_node, a_crossing = all_bytes, all_bytes * (1 + len(region))
    for value in nets:
        entry, exit_ = _Net(value, False), _Net(value, True)
        flow.add_edge(entry, exit_, capacity=a_crossing + sample_bytes(value.type))
        for node in _members(value):
            # Edges without capacity cannot be cut.
            flow.add_edge(node, entry)
            flow.add_edge(exit_, node)
            if node not in region:
                flow.add_edge(_TARGET, node)
    for node in region:
        if node in pinned:
            flow.add_edge(node, _HOST)
        else:
            flow.add_edge(_TARGET, node, capacity=a_node)
    _, (on_target, _) = nx.minimum_cut(flow, _TARGET, _HOST)
    return region.difference(on_target)
