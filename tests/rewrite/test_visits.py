"""How many nodes the drivers look at: as many as the program has and as change, no more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sample_rules import Program, made_rule, ops

from qcompiler.ir import Graph, Node, Op, Value, verify
from qcompiler.ops.activation import Clip, Exp, Negate, Relu, Tanh
from qcompiler.rewrite import Constraint, Rule, apply, one_use
from qcompiler.rewrite.rewriter import Rewriter


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
        Constraint("used by tanh", lambda v: (u := v.only_user) is not None and u.op == Tanh())
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


def test_rules_that_look_far_are_tried_until_nothing_changes() -> None:
    """A change wakes the nodes around it, and these rules ask about a node two steps away."""

    def feeds_tanh_two_steps_down(value: Value) -> bool:
        user = value.only_user
        behind = None if user is None else user.result.only_user
        return behind is not None and behind.op == Tanh()

    far = Constraint("two steps before a tanh", feeds_tanh_two_steps_down)
    graph = _chain(6, Relu(), Tanh())
    rule = made_rule(lambda p, x: p.relu(x).where(far), lambda b, m, x: b(Tanh(), x))
    assert apply(graph, [rule]).rewrites == {"sample": 3}
    assert ops(graph) == ["tanh", "relu"] * 3 + ["tanh"]
