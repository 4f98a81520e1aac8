"""Listeners are told of every change, each once, when it is made and in order."""

from __future__ import annotations

import random
from typing import Any

import pytest

from qcompiler import plugins
from qcompiler.ir import Builder, Graph, GraphListener, Node, Op, Remark, TensorType, Value, verify
from qcompiler.ir.scalar import F32
from qcompiler.ops.activation import Clip, Exp, Relu, Tanh
from qcompiler.ops.binary import Add, Sub
from qcompiler.ops.slicing import Split
from qcompiler.rewrite import apply, rules_into

plugins.load()

TYPE = TensorType((4,), F32)


class Log(GraphListener):
    """Writes down what it is told."""

    def __init__(self, name: str = "", log: list[Any] | None = None) -> None:
        self.name = name
        self.log: list[Any] = [] if log is None else log

    def node_inserted(self, node: Node) -> None:
        self.log.append((self.name, "inserted", node))

    def node_erased(self, node: Node) -> None:
        self.log.append((self.name, "erased", node, node.operands))

    def operand_changed(self, node: Node, index: int, before: Value) -> None:
        self.log.append((self.name, "operand", node, index, before, node.operands[index]))

    def op_changed(self, node: Node, before: Op) -> None:
        self.log.append((self.name, "op", node, before, node.op))


class Mirror(GraphListener):
    """Keeps operands, ops and users of all nodes, from what it is told and nothing else."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.operands = {node: list(node.operands) for node in graph.nodes}
        self.ops = {node: node.op for node in graph.nodes}
        self.returned = list(graph.terminator.operands)

    def node_inserted(self, node: Node) -> None:
        assert node.graph is self.graph
        assert node not in self.operands
        self.operands[node], self.ops[node] = list(node.operands), node.op

    def node_erased(self, node: Node) -> None:
        assert node.graph is self.graph
        assert self.operands.pop(node) == list(node.operands)
        assert self.ops.pop(node) is node.op

    def operand_changed(self, node: Node, index: int, before: Value) -> None:
        known = self.returned if node is self.graph.terminator else self.operands[node]
        assert known[index] is before
        known[index] = node.operands[index]

    def op_changed(self, node: Node, before: Op) -> None:
        assert self.ops[node] is before
        self.ops[node] = node.op

    def check(self) -> None:
        nodes = list(self.graph.nodes)
        assert set(nodes) == set(self.operands)
        uses: dict[Value, set[tuple[Node, int]]] = {}
        for user, values in [*self.operands.items(), (self.graph.terminator, self.returned)]:
            assert list(user.operands) == values
            for index, value in enumerate(values):
                uses.setdefault(value, set()).add((user, index))
        for value in [*self.graph.inputs, *(v for n in nodes for v in n.results)]:
            assert set(value.uses) == uses.get(value, set())
        assert all(self.ops[n] is n.op for n in nodes)


def small() -> tuple[Graph, Value, Node, Node]:
    graph = Graph()
    x = graph.add_input("x", TYPE)
    build = Builder(graph)
    first = build.create(Relu(), [x])
    second = build.create(Add(), [first.result, first.result])
    graph.set_outputs([("y", second.result)])
    return graph, x, first, second


def test_each_change_is_told_once_with_what_was_before() -> None:
    graph, x, first, second = small()
    log = Log()
    with graph.watched_by(log):
        new = Builder(graph, second).create(Exp(), [x])
        second.set_operand(1, new.result)
        first.set_op(Tanh())
        second.result.replace_uses(new.result)
        graph.erase(second)
    graph.erase(first)
    assert log.log == [
        ("", "inserted", new),
        ("", "operand", second, 1, first.result, new.result),
        ("", "op", first, Relu(), Tanh()),
        ("", "operand", graph.terminator, 0, second.result, new.result),
        ("", "erased", second, (first.result, new.result)),
    ]


@pytest.mark.parametrize("place", ["append", "prepend", "before", "after", "before the end"])
def test_every_way_to_insert_is_told(place: str) -> None:
    graph, x, first, second = small()
    node = Node(Exp(), [x], ())
    node.results = (Value(TYPE, x.origin, node),)
    log = Log()
    with graph.watched_by(log):
        insert = {
            "append": lambda: graph.append(node), "prepend": lambda: graph.prepend(node),
            "before": lambda: graph.insert_before(second, node), "after": lambda: graph.insert_after(first, node),
            "before the end": lambda: graph.insert_before(graph.terminator, node),
        }
        assert insert[place]() is node
    assert log.log == [("", "inserted", node)]
    verify(graph)


def test_a_node_outside_of_a_graph_tells_nobody() -> None:
    graph, x, first, _ = small()
    log = Log()
    with graph.watched_by(log):
        loose = Node(Exp(), [x], ())
        loose.set_operand(0, first.result)
        loose.set_op(Relu())
        loose.drop_operands()
    assert log.log == []


def test_replacing_all_uses_tells_of_each() -> None:
    graph, x, first, second = small()
    log = Log()
    with graph.watched_by(log):
        first.result.replace_uses(x)
    assert log.log == [("", "operand", second, i, first.result, x) for i in (0, 1)]


def test_changing_an_operand_to_itself_is_a_change() -> None:
    graph, _, first, second = small()
    log, version = Log(), graph.version
    with graph.watched_by(log):
        second.set_operand(0, first.result)
    assert log.log == [("", "operand", second, 0, first.result, first.result)]
    assert graph.version > version
    verify(graph)


def test_all_listeners_are_told_in_the_order_in_which_they_came() -> None:
    graph, x, _, _ = small()
    log: list[Any] = []
    with graph.watched_by(Log("a", log)), graph.watched_by(Log("b", log)):
        node = Builder(graph).create(Exp(), [x])
        graph.erase(node)
    assert [(entry[0], entry[1]) for entry in log] == [
        ("a", "inserted"), ("b", "inserted"), ("a", "erased"), ("b", "erased"),
    ]


def test_watching_ends_with_the_block_and_with_an_error() -> None:
    graph, x, _, _ = small()
    log = Log()
    with pytest.raises(ZeroDivisionError), graph.watched_by(log):
        raise ZeroDivisionError
    assert graph.listeners == []
    Builder(graph).create(Exp(), [x])
    assert log.log == []


def test_a_refused_change_is_not_told() -> None:
    graph, _, first, second = small()
    log, version = Log(), graph.version
    with graph.watched_by(log):
        with pytest.raises(ValueError, match="still used"):
            graph.erase(first)
        with pytest.raises(ValueError, match="already stands"):
            graph.append(second)
        for stranger in (Node(Exp(), [], ()), graph.terminator, small()[3]):
            with pytest.raises(ValueError, match="does not stand in this graph"):
                graph.erase(stranger)
    assert log.log == []
    assert graph.version == version
    assert len(graph) == 2
    verify(graph)


def test_a_node_is_erased_once() -> None:
    graph, x, _, _ = small()
    node = Builder(graph).create(Exp(), [x])
    graph.erase(node)
    log = Log()
    with graph.watched_by(log), pytest.raises(ValueError, match="does not stand in this graph"):
        graph.erase(node)
    assert log.log == []
    assert len(graph) == 2


def test_a_listener_may_change_the_graph_itself() -> None:
    """It is told of its own change, too."""
    graph, x, _, _ = small()

    class Doubles(Log):
        def node_inserted(self, node: Node) -> None:
            super().node_inserted(node)
            if isinstance(node.op, Exp):
                Builder(graph, node).create(Tanh(), [x])

    log = Doubles()
    with graph.watched_by(log):
        node = Builder(graph).create(Exp(), [x])
    assert [entry[2].op for entry in log.log] == [Exp(), Tanh()]
    assert node.previous is not None
    assert node.previous.op == Tanh()
    verify(graph)


def test_the_base_listener_takes_everything_and_wants_nothing() -> None:
    graph, x, first, second = small()
    listener = GraphListener()
    assert not listener.wants_remarks_on(first)
    with graph.watched_by(listener):
        graph.remark(Remark("rule", first, True, "applied"))
        first.set_op(Tanh())
        second.set_operand(0, x)
        graph.erase(Builder(graph).create(Exp(), [x]))


def test_remarks_go_to_those_who_want_them() -> None:
    graph, _, first, second = small()

    class Wants(GraphListener):
        def __init__(self, node: Node) -> None:
            self.node = node
            self.heard: list[Remark] = []

        def wants_remarks_on(self, node: Node) -> bool:
            return node is self.node

        def remark(self, remark: Remark) -> None:
            self.heard.append(remark)

    one, other = Wants(first), Wants(second)
    remarks = [Remark("rule", node, False, "no") for node in (first, second, first)]
    with graph.watched_by(one), graph.watched_by(other):
        for remark in remarks:
            graph.remark(remark)
    assert one.heard == [remarks[0], remarks[2]]
    assert other.heard == [remarks[1]]


@pytest.mark.parametrize("seed", range(25))
def test_a_mirror_built_from_what_is_told_stays_true(seed: int) -> None:
    rng = random.Random(seed)
    graph = Graph()
    values = [graph.add_input(name, TYPE) for name in "xy"]
    build = Builder(graph)
    for _ in range(5):
        values.append(build(Relu(), rng.choice(values)))
    graph.set_outputs([("a", values[-1]), ("b", values[-1])])
    mirrors = [Mirror(graph), Mirror(graph)]
    with graph.watched_by(mirrors[0]), graph.watched_by(mirrors[1]):
        for _ in range(150):
            _mutate(graph, rng)
            for mirror in mirrors:
                mirror.check()
    verify(graph)


def _mutate(graph: Graph, rng: random.Random) -> None:
    nodes = list(graph.nodes)
    anchor = rng.choice([*nodes, graph.terminator])
    known = [*graph.inputs]
    for node in nodes:
        if node is anchor:
            break
        known.extend(v for v in node.results if v.type == TYPE)
    kind = rng.choice(["insert", "insert", "erase", "operand", "op", "replace", "split"])
    if kind == "insert":
        op = rng.choice([Relu(), Add(), Sub(), Clip(0.0, rng.random())])
        count = 2 if isinstance(op, Add | Sub) else 1
        Builder(graph, anchor).create(op, [rng.choice(known) for _ in range(count)])
    elif kind == "split":
        Builder(graph, anchor).create(Split(0, (2, 2)), [rng.choice(known)])
    elif kind == "erase":
        dead = [n for n in nodes if not any(v.uses for v in n.results)]
        if dead:
            graph.erase(rng.choice(dead))
    elif kind == "operand" and anchor.operands:
        anchor.set_operand(rng.randrange(len(anchor.operands)), rng.choice(known))
    elif kind == "op" and anchor.op.name in ("relu", "clip", "exp"):
        anchor.set_op(rng.choice([Relu(), Exp(), Clip(0.0, rng.random())]))
    elif kind == "replace" and anchor is not graph.terminator and anchor.results[0].type == TYPE:
        anchor.result.replace_uses(rng.choice(known))


def test_rewriting_tells_everything() -> None:
    graph = Graph()
    value = graph.add_input("x", TYPE)
    build = Builder(graph)
    for index in range(20):
        value = build([Clip(0.0, 6.0), Relu(), Clip(), Exp()][index % 4], value)
    graph.set_outputs([("y", value)])
    mirror = Mirror(graph)
    with graph.watched_by(mirror):
        assert apply(graph, rules_into("canonicalize")).changed
    mirror.check()
    assert len(graph) == 10
