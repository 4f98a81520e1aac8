"""The drivers: against a plain search for a fixpoint, in their order of visits, and in the number of visits."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from sample_rules import Program, exact_text, made_rule, ops, recording_rule

from qcompiler.analysis.rewriting import only_user, replace_node
from qcompiler.ir import Graph, Node, Op, Value, clone, verify
from qcompiler.ops.activation import Abs, Clip, Exp, Negate, Relu, Sigmoid, Tanh
from qcompiler.ops.binary import Add, Sub
from qcompiler.rewrite import Constraint, Rule, apply, one_use, sweep
from qcompiler.rewrite.rewriter import Rewriter

RULES: dict[str, Rule] = {
    rule.name: rule
    for rule in [
        made_rule(lambda p, x: p.relu(p.relu(x, name="inner")), lambda b, m, x: m["inner"], "relu-relu"),
        made_rule(lambda p, x: p.negate(p.negate(x)), lambda b, m, x: x, "negate-negate"),
        made_rule(lambda p, x: p.abs(p.negate(x)), lambda b, m, x: b(Abs(), x), "abs-negate"),
        made_rule(lambda p, x: p.abs(p.abs(x, name="inner")), lambda b, m, x: m["inner"], "abs-abs"),
        made_rule(lambda p, x: p.relu(p.abs(x, name="inner")), lambda b, m, x: m["inner"], "relu-abs"),
        made_rule(lambda p, x: p.exp(x), lambda b, m, x: b(Tanh(), x), "exp"),
        made_rule(lambda p, x: p.sub(x, p.negate(p.negate(x))), lambda b, m, x: b(Sub(), x, x), "sub"),
        made_rule(lambda p, x, y: p.add(p.negate(x), y), lambda b, m, x, y: b(Sub(), y, x), "add-negate"),
    ]
}
"""Any choice of the first seven ends in the same program, whatever is rewritten first. With the eighth it need not."""


def _inner(node: Node, outer: type[Op], inner: type[Op], index: int = 0) -> Node | None:
    producer = node.operands[index].producer if isinstance(node.op, outer) else None
    return producer if producer is not None and isinstance(producer.op, inner) else None


def _plain(name: str, node: Node, build: Callable[..., Value]) -> Value | None:
    """What a rule makes of a node, said once more without patterns."""
    if name in ("relu-relu", "abs-abs", "relu-abs"):
        outer, inner = {"relu-relu": (Relu, Relu), "abs-abs": (Abs, Abs), "relu-abs": (Relu, Abs)}[name]
        found = _inner(node, outer, inner)
        return None if found is None else found.result
    if name == "exp":
        return build(Tanh(), node.operands[0]) if isinstance(node.op, Exp) else None
    if name == "sub":
        first = _inner(node, Sub, Negate, 1)
        second = first and _inner(first, Negate, Negate)
        x = node.operands[0]
        return build(Sub(), x, x) if second and second.operands[0] is x else None
    found = _inner(node, Negate if name == "negate-negate" else Abs, Negate)
    if found is None:
        return None
    return found.operands[0] if name == "negate-negate" else build(Abs(), found.operands[0])


def naive_fixpoint(graph: Graph, names: list[str]) -> int:
    """Full scans, one rewrite each, until nothing changes."""
    from qcompiler.ir import Builder

    for count in range(10_000):
        for node in list(graph.nodes):
            found = next((v for n in names if (v := _plain(n, node, Builder(graph, node))) is not None), None)
            if found is not None:
                replace_node(graph, node, found)
                for dead in list(graph.reversed_nodes):
                    if not any(v.uses for v in dead.results):
                        graph.erase(dead)
                break
        else:
            return count
    raise AssertionError("no end")


def random_graph(rng: random.Random, steps: int = 25) -> Graph:
    """Unary and binary ops on recent values, so that patterns are frequent; nothing is dead."""
    q = Program()
    values = [q.input(name="x"), q.input(name="y")]
    for _ in range(steps):
        op: Op = rng.choice([Relu(), Abs(), Negate(), Negate(), Exp(), Sub(), Add()])
        count = 2 if isinstance(op, Sub | Add) else 1
        values.append(q(op, *(rng.choice(values[-4:]) for _ in range(count))))
    q.finish(*[v for v in values[2:] if not v.uses], rng.choice(values))
    return q.graph


def expressions(graph: Graph) -> tuple[list[str], Counter[str]]:
    """The outputs as expressions, and how often the program computes each expression."""
    known = {v: v.name for v in graph.inputs}
    for node in graph.nodes:
        text = f"{node.op.name}({','.join(known[v] for v in node.operands)})"
        known[node.result] = text if len(text) < 200 else f"#{hash(text)}"
    return [known[o.value] for o in graph.outputs], Counter(known[n.result] for n in graph.nodes)


@pytest.mark.parametrize("seed", range(60))
def test_apply_ends_where_full_scans_end(seed: int) -> None:
    rng = random.Random(seed)
    graph = random_graph(rng)
    names = rng.sample(list(RULES)[:7], rng.randint(1, 7))
    expected, found = clone(graph), clone(graph)
    count = naive_fixpoint(expected, names)
    result = apply(found, [RULES[name] for name in names])
    verify(found)
    assert expressions(found) == expressions(expected)
    assert result.changed == (count > 0)
    assert not apply(found, [RULES[name] for name in names]).changed


@pytest.mark.parametrize("seed", range(40))
def test_after_apply_no_rule_applies_anywhere(seed: int) -> None:
    rng = random.Random(seed)
    graph = random_graph(rng, 40)
    rules = [RULES[name] for name in rng.sample(list(RULES), rng.randint(1, 8))]
    apply(graph, rules)
    before = exact_text(graph)
    assert not sweep(graph, rules).changed
    assert exact_text(graph) == before


@pytest.mark.parametrize("seed", range(10))
def test_limited_steps_lead_to_the_same_end(seed: int) -> None:
    graph = random_graph(random.Random(seed))
    rules = [RULES[name] for name in list(RULES)[:7]]
    whole, steps = clone(graph), clone(graph)
    total = sum(apply(whole, rules).rewrites.values())
    assert total > 0
    for limit in (0, 1, total - 1, total, total + 1):
        limited = clone(graph)
        result = apply(limited, rules, limit=limit)
        verify(limited)
        assert sum(result.rewrites.values()) == min(limit, total)
        assert result.changed == (min(limit, total) > 0)
    single = 0
    while apply(steps, rules, limit=1).changed:
        single += 1
    assert single >= total - 1
    assert expressions(steps) == expressions(whole)


def test_the_first_rule_that_rewrites_a_node_wins() -> None:
    decline = made_rule(lambda p, x: p.relu(x), lambda b, m, x: m.fail("no"), "declines")
    narrow = made_rule(lambda p, x: p.relu(p.exp(x)), lambda b, m, x: b(Tanh(), x), "narrow")
    wide = made_rule(lambda p, x: p.relu(x), lambda b, m, x: b(Sigmoid(), x), "wide")
    for driver in (apply, sweep):
        for rules, expected in [
            ([decline, narrow, wide], {"narrow": 1, "wide": 1}), ([wide, narrow], {"wide": 2}), ([decline], {}),
        ]:
            q = Program()
            x = q.input()
            q.finish(q(Relu(), q(Exp(), x)), q(Relu(), x))
            result = driver(q.graph, rules)
            assert result.rewrites == expected
            assert result.changed == bool(expected)


def test_nodes_are_visited_in_program_order() -> None:
    q = Program()
    x = q.input()
    q.finish(*(q(Relu(), x) for _ in range(5)))
    nodes = list(q.graph.nodes)
    drivers: list[tuple[Callable[..., Any], list[Node]]] = [
        (apply, nodes), (sweep, nodes), (partial(sweep, reverse=True), nodes[::-1]),
    ]
    for driver, expected in drivers:
        seen: list[Any] = []
        driver(q.graph, [recording_rule(lambda p, x: p.relu(x), seen)])
        assert [match.root for match, _ in seen] == expected


@pytest.mark.parametrize(("reverse", "expected"), [(False, [0, 1, 2]), (True, [2, 1, 0])])
def test_a_sweep_visits_each_node_once(reverse: bool, expected: list[int]) -> None:
    q = Program()
    value = q.input()
    for _ in range(3):
        value = q(Relu(), value)
    q.finish(value)
    visited: list[tuple[str, ...]] = []

    def rewrite(b: Any, m: Any, x: Any) -> Any:
        visited.append(m.root.loc)
        return b(Relu(), b(Relu(), x))

    assert sweep(q.graph, [made_rule(lambda p, x: p.relu(x), rewrite)], reverse=reverse).rewrites == {"sample": 3}
    verify(q.graph)
    assert visited == [(f"relu{i + 1}",) for i in expected]
    assert ops(q.graph) == ["relu"] * 6


@pytest.mark.parametrize("reverse", [False, True])
def test_a_sweep_passes_over_what_was_erased(reverse: bool) -> None:
    q = Program()
    value = q.input()
    for _ in range(4):
        value = q(Relu(), value)
    q.finish(value)
    rule = made_rule(lambda p, x: p.relu(p.relu(x)), lambda b, m, x: b(Exp(), x))
    assert sweep(q.graph, [rule], reverse=reverse).rewrites == {"sample": 2}
    assert ops(q.graph) == ["exp", "exp"]


@pytest.mark.parametrize("reverse", [False, True])
def test_a_sweep_brings_no_rule_to_what_was_erased(reverse: bool) -> None:
    q = Program()
    x = q.input()
    q.finish(q(Exp(), q(Relu(), x)), q(Exp(), q(Relu(), x)))
    seen: list[Any] = []
    rules = [
        made_rule(lambda p, x: p.exp(p.relu(x)), lambda b, m, x: b(Tanh(), x)),
        recording_rule(lambda p: p.relu(...), seen),
    ]
    assert sweep(q.graph, rules, reverse=reverse).rewrites == {"sample": 2}
    # Forwards, each relu comes before the exp that makes it go away.
    assert len(seen) == (0 if reverse else 2)


def test_rules_that_look_far_are_tried_until_nothing_changes() -> None:
    """A change wakes the nodes around it, and these rules ask about a node two steps away."""

    def feeds_tanh_two_steps_down(value: Value) -> bool:
        user = only_user(value)
        behind = None if user is None else only_user(user.result)
        return behind is not None and behind.op == Tanh()

    far = Constraint("two steps before a tanh", feeds_tanh_two_steps_down)
    graph = _chain(6, Relu(), Tanh())
    rule = made_rule(lambda p, x: p.relu(x).where(far), lambda b, m, x: b(Tanh(), x))
    assert apply(graph, [rule]).rewrites == {"sample": 3}
    assert ops(graph) == ["tanh", "relu"] * 3 + ["tanh"]


def test_an_empty_program_and_no_rules() -> None:
    graph = Graph()
    graph.set_outputs([])
    assert not apply(graph, list(RULES.values())).changed
    q = Program()
    q.finish(q(Exp(), q.input()))
    assert not apply(q.graph, []).changed
    assert not sweep(q.graph, []).changed


# Visits


@pytest.fixture
def visits(monkeypatch: pytest.MonkeyPatch) -> list[Node]:
    """The nodes that a driver brings rules to, in order."""
    visited: list[Node] = []
    original = Rewriter.rewrite

    def rewrite(self: Rewriter, node: Node) -> Rule | None:
        visited.append(node)
        return original(self, node)

    monkeypatch.setattr(Rewriter, "rewrite", rewrite)
    return visited


def test_what_a_rule_builds_before_it_declines_wakes_nobody(visits: list[Node]) -> None:
    """Else the node would be visited again, and decline again, for ever."""
    q = Program()
    value = q.input()
    for _ in range(5):
        value = q(Relu(), value)
    q.finish(value)

    def rewrite(b: Any, m: Any, x: Any) -> Any:
        assert len(visits) <= 5
        b(Tanh(), b(Exp(), x))
        return m.fail("never mind")

    apply(q.graph, [made_rule(lambda p, x: p.relu(x), rewrite)])
    assert visits == list(q.graph.nodes)


def _chain(length: int, op: Op, last: Op) -> Graph:
    q = Program()
    value = q.input()
    for _ in range(length):
        value = q(op, value)
    q.finish(q(last, value))
    return q.graph


def _fan_out(users: int, op: Op) -> Graph:
    q = Program()
    shared = q(Negate(), q.input())
    q.finish(*(q(op, shared) for _ in range(users)))
    return q.graph


FED_BY_TANH = made_rule(lambda p, x: p.relu(p.tanh(x, name="t")), lambda b, m, x: b(Tanh(), m["t"], loc=m.root.loc))
FEEDS_TANH = made_rule(
    lambda p, x: p.relu(x).where(
        Constraint("used by tanh", lambda v: (u := only_user(v)) is not None and u.op == Tanh())
    ),
    lambda b, m, x: b(Tanh(), x),
)
BEHIND_TWO_TANHS = made_rule(
    lambda p, x: p.relu(p.tanh(p.tanh(x), name="t")), lambda b, m, x: b(Tanh(), m["t"], loc=m.root.loc)
)


def _downstream(length: int) -> tuple[Graph, Rule, int]:
    q = Program()
    value = q(Tanh(), q.input())
    for _ in range(length):
        value = q(Relu(), value)
    q.finish(value)
    return q.graph, FED_BY_TANH, length


def _two_levels_downstream(length: int) -> tuple[Graph, Rule, int]:
    q = Program()
    value = q(Tanh(), q(Tanh(), q.input()))
    for _ in range(length):
        value = q(Relu(), value)
    q.finish(value)
    return q.graph, BEHIND_TWO_TANHS, length


def _upstream(length: int) -> tuple[Graph, Rule, int]:
    return _chain(length, Relu(), Tanh()), FEEDS_TANH, length


def _users_one_by_one(length: int) -> tuple[Graph, Rule, int]:
    return _fan_out(length, Relu()), made_rule(lambda p, x: p.relu(x), lambda b, m, x: b(Exp(), x)), length


def _shared_value(length: int) -> tuple[Graph, Rule, int]:
    return _fan_out(length, Relu()), made_rule(lambda p, x: p.negate(x), lambda b, m, x: b(Exp(), x)), 1


def _last_user(length: int) -> tuple[Graph, Rule, int]:
    """From the last node upwards, each rewrite leaves the only other user of a value alone with it."""
    q = Program()
    x = value = q.input()
    outputs = []
    for _ in range(length):
        value = q(Negate(), value)
        outputs.append(q(Exp(), value))
    q.finish(*outputs, q(Relu(), value))
    two_uses = Constraint("used twice", lambda v: len(v.uses) == 2)
    rule = made_rule(
        lambda p, v: p.any_of(p.relu(p.negate(v).where(two_uses)), p.exp(p.negate(v).where(one_use))),
        lambda b, m, v: b(m.root.op, v) if isinstance(m.root.op, Relu) else b(Clip(), x),
    )
    return q.graph, rule, 2 * length


@pytest.mark.parametrize(
    "make", [_downstream, _two_levels_downstream, _upstream, _users_one_by_one, _shared_value, _last_user]
)
def test_visits_grow_with_program_and_rewrites_alone(
    make: Callable[[int], tuple[Graph, Rule, int]], visits: list[Node]
) -> None:
    counts = []
    for length in (100, 200, 400):
        graph, rule, expected = make(length)
        visits.clear()
        rewrites = sum(apply(graph, [rule]).rewrites.values())
        verify(graph)
        assert rewrites == expected
        counts.append(len(visits))
    # A straight line: twice the size, twice the additional visits.
    assert counts[2] - counts[1] == 2 * (counts[1] - counts[0])
    assert counts[2] < 400 * 12
