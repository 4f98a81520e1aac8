"""Editing a graph keeps order and def-use links true; clones share nothing that changes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import graphs

from qcompiler.ir import Builder, ConstantArray, Graph, Node, TensorType, Value, clone, structural_hash, verify, walk
from qcompiler.ir.scalar import F32
from qcompiler.ops.activation import Elu, Relu
from qcompiler.ops.binary import Add
from qcompiler.ops.slicing import Split

TYPE = TensorType((4,), F32)


def check_links(graph: Graph) -> None:
    """Recompute every link from the operands alone, and compare."""
    nodes = list(graph.nodes)
    assert nodes == list(reversed(list(graph.reversed_nodes)))
    assert len(graph) == len(nodes)
    assert all(node.graph is graph for node in nodes)
    uses: dict[Value, set[tuple[Node, int]]] = {}
    for user in (*nodes, graph.terminator):
        for index, value in enumerate(user.operands):
            uses.setdefault(value, set()).add((user, index))
    for value in (*graph.inputs, *(v for n in nodes for v in n.results)):
        assert set(value.uses) == uses.pop(value, set())
    assert not uses


def straight(length: int) -> tuple[Graph, list[Node]]:
    graph = Graph()
    value = graph.add_input("x", TYPE)
    build = Builder(graph)
    nodes = []
    for _ in range(length):
        nodes.append(build.create(Relu(), [value]))
        value = nodes[-1].result
    graph.set_outputs([("y", value)])
    return graph, nodes


EDITS = ("replace", "erase", "before", "after", "append", "prepend", "operand", "outputs", "op")


@settings(max_examples=75)
@given(st.lists(st.tuples(st.sampled_from(EDITS), st.integers(0, 1 << 16), st.integers(0, 1 << 16)), max_size=40))
def test_random_edits_keep_links(edits: list[tuple[str, int, int]]) -> None:
    graph, _ = straight(3)
    for kind, first, second in edits:
        version = graph.version
        nodes = list(graph.nodes)
        values = [*graph.inputs, *(v for n in nodes for v in n.results)]
        value, other = values[first % len(values)], values[second % len(values)]
        node = nodes[first % len(nodes)] if nodes else None
        before = structural_hash(graph)
        if kind == "replace":
            value.replace_uses(other)
            assert not value.uses or value is other
        elif kind == "erase" and node is not None:
            if any(v.uses for v in node.results):
                with pytest.raises(ValueError, match="still used"):
                    graph.erase(node)
                assert structural_hash(graph) == before
            else:
                graph.erase(node)
        elif kind in ("before", "after", "append", "prepend"):
            made = Builder(Graph()).create(Add(), [value, value])
            assert made.graph is not None
            made.graph.erase(made)
            made = Node(Add(), [value, other], ())
            made.results = (Value(TYPE, value.origin, made),)
            if kind == "before" and node is not None:
                graph.insert_before(node, made)
                assert made.next is node
            elif kind == "after" and node is not None:
                graph.insert_after(node, made)
                assert made.previous is node
            elif kind == "prepend":
                graph.prepend(made)
            else:
                graph.insert_before(graph.terminator, made)
                assert made.next is None
        elif kind == "operand" and node is not None:
            node.set_operand(second % len(node.operands), value)
        elif kind == "outputs":
            graph.set_outputs([("a", value), ("b", other), ("c", value)])
        elif node is not None:
            node.set_op(Elu() if len(node.operands) == 1 else Add())
        check_links(graph)
        if structural_hash(graph) != before:
            assert graph.version > version


def test_replace_uses_by_itself_changes_nothing() -> None:
    graph, nodes = straight(2)
    before = structural_hash(graph)
    nodes[0].result.replace_uses(nodes[0].result)
    check_links(graph)
    assert structural_hash(graph) == before


def test_a_value_used_twice_by_one_node() -> None:
    graph, (relu,) = straight(1)
    add = Builder(graph).create(Add(), [relu.result, relu.result])
    assert relu.result.users == [graph.terminator, add]
    relu.result.replace_uses(graph.inputs[0])
    assert add.operands == (graph.inputs[0], graph.inputs[0])
    check_links(graph)


@pytest.mark.parametrize("backwards", [False, True])
def test_nodes_may_be_erased_while_iterating(backwards: bool) -> None:
    graph, nodes = straight(6)
    graph.set_outputs([("y", graph.inputs[0])])
    if backwards:
        for node in graph.reversed_nodes:
            graph.erase(node)
    else:
        seen = []
        for node in graph.nodes:
            seen.append(node)
            node.result.replace_uses(graph.inputs[0])
            graph.erase(node)
        assert seen == nodes
    assert len(graph) == 0
    check_links(graph)


def test_nodes_inserted_behind_the_current_one_are_visited() -> None:
    graph, nodes = straight(2)
    seen = []
    for node in graph.nodes:
        seen.append(node)
        if isinstance(node.op, Relu):
            copy = Node(Elu(), node.operands, ())
            copy.results = (Value(TYPE, node.result.origin, copy),)
            graph.insert_after(node, copy)
    assert [n.op.name for n in seen] == ["relu", "elu", "relu", "elu"]
    assert seen[::2] == nodes


def test_neighbours_may_be_replaced_while_iterating() -> None:
    """The current node and earlier ones may be erased, and their replacement put in place of the current one."""
    graph, _ = straight(6)
    for node in graph.nodes:
        inner = node.operands[0].producer
        if isinstance(node.op, Relu) and inner is not None and isinstance(inner.op, Relu):
            merged = Builder(graph, node)(Elu(), inner.operands[0])
            node.result.replace_uses(merged)
            graph.erase(node)
            graph.erase(inner)
    assert [n.op.name for n in graph.nodes] == ["elu", "elu", "elu"]
    check_links(graph)


def test_a_node_stands_in_one_graph_only() -> None:
    _, nodes = straight(1)
    with pytest.raises(ValueError, match="already stands in a graph"):
        Graph().append(nodes[0])


def test_a_node_may_be_put_back() -> None:
    graph, (relu,) = straight(1)
    graph.set_outputs([])
    graph.erase(relu)
    assert relu.graph is None
    assert relu.operands == ()
    assert not graph.inputs[0].uses
    check_links(graph)


def test_result_is_the_only_one() -> None:
    graph, _ = straight(1)
    split = Builder(graph).create(Split(0, (1, 3)), [graph.inputs[0]])
    with pytest.raises(ValueError, match="unpack"):
        _ = split.result


def _objects(graph: Graph) -> set[int]:
    found = {id(graph), id(graph.terminator), *map(id, graph.inputs)}
    for node in walk(graph):
        found |= {id(node), id(node.graph), *(id(v) for v in node.results), *(id(v.uses) for v in node.results)}
        body = getattr(node.op, "body", None)
        if isinstance(body, Graph):
            found |= {id(body), id(body.terminator), *map(id, body.inputs)}
    return found


@settings(max_examples=40)
@given(graphs)
def test_clones_are_equal_and_share_nothing_that_changes(graph: Graph) -> None:
    copy = clone(graph)
    verify(copy)
    assert copy == graph
    assert (copy.name, copy.target, copy.pipeline) == (graph.name, graph.target, graph.pipeline)
    assert not _objects(copy) & _objects(graph)
    before = structural_hash(graph)
    for node in list(walk(copy)):
        node.loc = ("changed",)
        node.set_op(Elu())
    copy.add_input("another", TYPE)
    copy.set_outputs([])
    assert structural_hash(graph) == before


def test_constants_are_read_only() -> None:
    source = np.arange(4, dtype=np.float32)
    array = ConstantArray(source)
    source[0] = 9
    assert array.array[0] == 0
    with pytest.raises(ValueError, match="read-only"):
        array.array[0] = 1
    view = np.zeros(8, np.float32)[::2]
    assert ConstantArray(view) == ConstantArray(np.zeros(4, np.float32))
    assert ConstantArray(view) != ConstantArray(np.zeros(4, np.float64))
    assert ConstantArray(view) != ConstantArray(np.zeros((2, 2), np.float32))
