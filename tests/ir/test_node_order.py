"""Which of two nodes comes first: against the order of the list, wherever nodes are inserted, and at what cost."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from qcompiler.ir import Graph, Node, TensorType, Value
from qcompiler.ir.node import in_order
from qcompiler.ir.scalar import F32
from qcompiler.ops.activation import Relu

TYPE = TensorType((4,), F32)


def loose(graph: Graph) -> Node:
    node = Node(Relu(), [graph.inputs[0]], ())
    node.results = (Value(TYPE, graph.inputs[0].origin, node),)
    return node


def straight(length: int) -> tuple[Graph, list[Node]]:
    graph = Graph()
    graph.add_input("x", TYPE)
    graph.set_outputs([("y", graph.inputs[0])])
    return graph, [graph.append(loose(graph)) for _ in range(length)]


def check_order(graph: Graph, rng: random.Random, pairs: int = 50) -> None:
    """``is_before`` and ``in_order`` against the list itself."""
    nodes = [*graph.nodes, graph.terminator]
    place = {node: index for index, node in enumerate(nodes)}
    for _ in range(pairs):
        first, second = rng.choice(nodes), rng.choice(nodes)
        assert first.is_before(second) == (place[first] < place[second])
    chosen = rng.sample(nodes[:-1], min(len(nodes) - 1, 10))
    assert in_order(chosen) == sorted(chosen, key=place.__getitem__)


def test_neighbours_and_the_node_itself() -> None:
    graph, (first, second) = straight(2)
    assert first.is_before(second)
    assert not second.is_before(first)
    assert not first.is_before(first)
    assert first.is_before(graph.terminator)
    assert not graph.terminator.is_before(second)
    assert not graph.terminator.is_before(graph.terminator)


def test_a_graph_without_outputs_has_an_end() -> None:
    graph = Graph()
    graph.add_input("x", TYPE)
    node = graph.append(loose(graph))
    assert node.is_before(graph.terminator)
    graph.set_outputs([])
    assert node.is_before(graph.terminator)


def test_nodes_of_no_common_graph_have_no_order() -> None:
    graph, (first, second) = straight(2)
    other = straight(1)[1][0]
    graph.erase(second)
    for node in (other, second, loose(graph)):
        with pytest.raises(ValueError, match="stand in no common graph"):
            first.is_before(node)
        with pytest.raises(ValueError, match="stand in no common graph"):
            node.is_before(first)


def test_in_order_takes_anything_iterable() -> None:
    _, nodes = straight(5)
    assert in_order(iter(reversed(nodes))) == nodes
    assert in_order([]) == []
    assert in_order([nodes[2]]) == [nodes[2]]


def test_in_order_renumbers_where_it_must() -> None:
    graph, nodes = straight(2)
    added = [graph.insert_before(nodes[1], loose(graph)) for _ in range(200)]
    assert in_order(reversed(added)) == added


@pytest.mark.parametrize("seed", range(20))
def test_order_under_random_changes(seed: int) -> None:
    rng = random.Random(seed)
    graph, nodes = straight(1)
    for step in range(400):
        node = loose(graph)
        kind = rng.choice(["append", "prepend", "before", "after", "erase", "before the end", "before a favourite"])
        if kind == "append":
            graph.append(node)
        elif kind == "prepend":
            graph.prepend(node)
        elif kind == "before the end":
            graph.insert_before(graph.terminator, node)
        elif kind == "erase" and len(nodes) > 1:
            graph.erase(nodes.pop(rng.randrange(1, len(nodes))))
        elif kind == "before":
            graph.insert_before(rng.choice(nodes), node)
        elif kind == "before a favourite":
            graph.insert_before(nodes[0], node)
        else:
            graph.insert_after(rng.choice(nodes), node)
        if node.graph is not None:
            nodes.append(node)
        if step % 7 == 0:
            check_order(graph, rng, 5)
    check_order(graph, rng, 500)


Insert = Callable[[Graph, list[Node], int], Node]

PLACES: dict[str, Insert] = {
    "before the same node": lambda graph, nodes, _: graph.insert_before(nodes[5], loose(graph)),
    "after the same node": lambda graph, nodes, _: graph.insert_after(nodes[5], loose(graph)),
    "at the beginning": lambda graph, nodes, _: graph.prepend(loose(graph)),
    "at the end": lambda graph, nodes, _: graph.append(loose(graph)),
    "from both sides": lambda graph, nodes, step: (
        graph.insert_after(nodes[5], loose(graph)) if step % 2 else graph.insert_before(nodes[6], loose(graph))
    ),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("asked_each_time", [False, True])
def test_thousands_of_insertions_at_one_place(place: str, asked_each_time: bool) -> None:
    graph, nodes = straight(10)
    added: list[Node] = []
    for step in range(3000):
        node = PLACES[place](graph, nodes, step)
        if asked_each_time:
            assert node.is_before(node.next or graph.terminator)
            assert node.previous is None or node.previous.is_before(node)
        added.append(node)
    rng = random.Random(0)
    nodes += added
    check_order(graph, rng, 1000)
    ordered = list(graph.nodes)
    assert in_order(rng.sample(ordered, len(ordered))) == ordered


def test_appending_never_renumbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asking while a program is built from front to back costs nothing beside the comparison."""
    graph, nodes = straight(1)
    numbered = nodes[0]._order
    for _ in range(5000):
        nodes.append(graph.append(loose(graph)))
        assert nodes[-2].is_before(nodes[-1])
    assert nodes[0]._order == numbered
    assert graph._is_numbered


def test_asking_twice_numbers_once(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, nodes = straight(3)
    while graph._is_numbered:
        graph.insert_before(nodes[1], loose(graph))
    assert nodes[0].is_before(nodes[1])
    assert graph._is_numbered
    numbers = [node._order for node in graph.nodes]
    assert nodes[1].is_before(nodes[2])
    assert [node._order for node in graph.nodes] == numbers
    assert numbers == sorted(set(numbers))
