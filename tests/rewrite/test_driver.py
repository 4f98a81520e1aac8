"""The drivers: against a plain search for a fixpoint, and in their order of visits."""

from __future__ import annotations

import gc
import random
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from sample_rules import Program, exact_text, made_rule, ops, recording_rule

from qcompiler.errors import QCompilerError
from qcompiler.ir import Graph, Node, Op, Untraced, Value, clone, verify
from qcompiler.ops.activation import Abs, Exp, Negate, Relu, Sigmoid, Tanh
from qcompiler.ops.binary import Add, Sub
from qcompiler.rewrite import Rule, apply, sweep

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
                if isinstance(found.origin, Untraced):
                    found.origin = node.result.origin
                if found.producer is not None:
                    found.producer.absorb_layers(node)
                node.result.replace_uses(found)
                graph.erase(node)
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


def test_an_empty_program_and_no_rules() -> None:
    graph = Graph()
    graph.set_outputs([])
    assert not apply(graph, list(RULES.values())).changed
    q = Program()
    q.finish(q(Exp(), q.input()))
    assert not apply(q.graph, []).changed
    assert not sweep(q.graph, []).changed


@pytest.mark.parametrize("enabled", [True, False])
def test_garbage_collection_is_as_before(enabled: bool) -> None:
    def fail(b: Any, m: Any, x: Any) -> Any:
        seen.append(gc.isenabled())
        raise QCompilerError("stop")

    seen: list[bool] = []
    p = Program()
    graph = p.finish(p(Relu(), p.input()))
    before = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        with pytest.raises(QCompilerError, match="stop"):
            apply(graph, [made_rule(lambda p, x: p.relu(x), fail, "stops")])
        assert gc.isenabled() is enabled
        assert seen == [False]
    finally:
        (gc.enable if before else gc.disable)()
