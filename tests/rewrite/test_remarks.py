"""Remarks: to whom they go, what they say, and that nobody pays for them unasked."""

from __future__ import annotations

from typing import Any

import pytest
from sample_rules import Program, made_rule, recording_rule

from qcompiler.errors import QCompilerError
from qcompiler.ir import GraphListener, Node, Remark
from qcompiler.ops.activation import Clip, Exp, Relu, Tanh
from qcompiler.ops.binary import Add, Mul, Sub
from qcompiler.ops.contraction import Conv2D
from qcompiler.ops.slicing import Split
from qcompiler.rewrite import Constraint, apply, convert, is_constant, one_of, one_use, satisfies, sweep
from qcompiler.target import Violation

ODD = Constraint("called odd", lambda v: False)


class Wants(GraphListener):
    """Collects remarks on some nodes."""

    def __init__(self, *nodes: Node | None) -> None:
        self.nodes = nodes
        self.remarks: list[Remark] = []

    def wants_remarks_on(self, node: Node) -> bool:
        return node in self.nodes

    def remark(self, remark: Remark) -> None:
        assert remark.node in self.nodes
        self.remarks.append(remark)

    @property
    def said(self) -> list[tuple[str, bool, str]]:
        return [(r.rule, r.applied, r.text) for r in self.remarks]


def _keep(b: Any, m: Any, x: Any) -> Any:
    return m.fail("keep it")


def test_each_rule_that_accepts_the_op_says_why_it_declined() -> None:
    q = Program()
    x = q.input()
    wanted, other = q.node(Relu(), x), q.node(Relu(), q(Tanh(), x))
    q.finish(wanted.result, other.result)
    listener = Wants(wanted)
    rules = [
        made_rule(lambda p, x: p.relu(p.exp(x)), _keep, "of-exp"),
        made_rule(lambda p, x: p.exp(x), _keep, "other-op"),
        made_rule(lambda p, x: p.relu(x), _keep, "plain"),
    ]
    with q.graph.watched_by(listener):
        sweep(q.graph, rules)
    assert listener.said == [
        ("of-exp", False, "operand 0 of relu is a program input, not the result of exp"),
        ("plain", False, "keep it"),
    ]


def test_rules_behind_the_one_that_applied_are_not_asked() -> None:
    q = Program()
    wanted = q.node(Relu(), q.input())
    q.finish(wanted.result)
    listener = Wants(wanted)
    rules = [
        made_rule(lambda p, x: p.relu(x), _keep, "first"),
        made_rule(lambda p, x: p.relu(x), lambda b, m, x: b(Exp(), x), "second"),
        made_rule(lambda p, x: p.relu(x), _keep, "third"),
    ]
    with q.graph.watched_by(listener):
        apply(q.graph, rules)
    assert listener.said == [("first", False, "keep it"), ("second", True, "applied")]


def test_a_node_inside_of_a_match_is_told_of_it() -> None:
    q = Program()
    inner = q.node(Relu(), q.input())
    q.finish(q(Exp(), inner.result))
    listener = Wants(inner)
    decline = made_rule(lambda p, x: p.exp(p.relu(x)), _keep, "declines")
    fuse = made_rule(lambda p, x: p.exp(p.relu(x)), lambda b, m, x: b(Tanh(), x), "fuses")
    with q.graph.watched_by(listener):
        sweep(q.graph, [decline, fuse])
    assert listener.said == [("declines", False, "keep it"), ("fuses", True, "applied")]


def test_an_inner_node_hears_the_reason_of_the_rule_alone() -> None:
    """The first order of operands does not fit; nobody asked about the root, so that has no words."""
    q = Program()
    inner = q.node(Relu(), q.input())
    q.finish(q(Sub(), q(Add(), q.constant([1, 2, 3, 4]), inner.result), inner.result))
    listener = Wants(inner)
    rule = made_rule(lambda p, x, c: p.add(p.relu(x), c), lambda b, m, x, c: m.fail("keep it"), "declines")
    with q.graph.watched_by(listener):
        sweep(q.graph, [rule])
    assert listener.said == [("declines", False, "keep it")]


def test_a_choice_that_failed_without_words_adds_none() -> None:
    q = Program()
    inner = q.node(Relu(), q.input())
    q.finish(q(Exp(), inner.result))
    listener = Wants(inner)

    def pattern(p: Any, x: Any) -> Any:
        found = p.exp(p.relu(x))
        return p.any_of(found.where(ODD), found)

    with q.graph.watched_by(listener):
        sweep(q.graph, [made_rule(pattern, _keep, "declines")])
    assert listener.said == [("declines", False, "keep it")]


def test_a_node_that_is_met_twice_is_told_once() -> None:
    q = Program()
    inner = q.node(Relu(), q.input())
    q.finish(q(Sub(), inner.result, inner.result))
    listener = Wants(inner)
    rule = made_rule(lambda p, x: p.sub(p.relu(x), p.relu(x)), lambda b, m, x: b(Tanh(), x), "fuses")
    with q.graph.watched_by(listener):
        sweep(q.graph, [rule])
    assert listener.said == [("fuses", True, "applied")]


REASONS = [
    (lambda p, x: p.relu(p.tanh(x)), "operand 0 of relu comes from exp, not tanh"),
    (lambda p, x: p.relu(p.exp(p.tanh(x))), "operand 0 of exp is a program input, not the result of tanh"),
    (lambda p, x: p.relu(p.op((Clip, Tanh), x)), "operand 0 of relu comes from exp, not clip or tanh"),
    (lambda p, x: p.relu(p.op(Conv2D, x, ...)), "operand 0 of relu comes from exp, not conv2d"),
    (lambda p, x: p.relu(x.where(ODD)), "operand 0 of relu is not called odd"),
    (lambda p, x: p.relu(p.exp(x).where(ODD)), "operand 0 of relu is not called odd"),
    (lambda p, x: p.relu(x).where(ODD), "the result of relu is not called odd"),
    (lambda p, x: p.relu(x).where(one_use), "the result of relu is not used only there"),
    (lambda p, x: p.relu(x.where(is_constant)), "operand 0 of relu is not a constant"),
    (lambda p, x: (p.relu(x), p.tanh(x)), "no other nodes fit the rest of the pattern"),
    (lambda p, x, y: p.relu(x, y), "relu has another number of operands: 1"),
    (
        lambda p, x: p.relu(p.any_of(p.tanh(x), p.clip(x))),
        "operand 0 of relu comes from exp, not tanh; or operand 0 of relu comes from exp, not clip",
    ),
]


@pytest.mark.parametrize(("pattern", "reason"), REASONS)
def test_reasons_of_patterns(pattern: Any, reason: str) -> None:
    q = Program()
    root = q.node(Relu(), q(Exp(), q.input()))
    q.finish(root.result, root.result)
    listener = Wants(root)
    with q.graph.watched_by(listener):
        sweep(q.graph, [recording_rule(pattern, [])])
    assert listener.said == [("recording", False, reason)]


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        (lambda p, x: p.clip(x, maximum=1.0), "maximum of clip is 6.0, not 1.0"),
        (lambda p, x: p.clip(x, maximum=one_of(1.0, 2.0)), "maximum of clip is 6.0, not one of 1.0, 2.0"),
        (lambda p, x: p.op(Clip, x, maximum=satisfies("small", lambda v: v < 1)), "maximum of clip is 6.0, not small"),
    ],
)
def test_reasons_of_attributes(pattern: Any, reason: str) -> None:
    q = Program()
    root = q.node(Clip(0.0, 6.0), q.input())
    q.finish(root.result)
    listener = Wants(root)
    with q.graph.watched_by(listener):
        sweep(q.graph, [recording_rule(pattern, [])])
    assert listener.said == [("recording", False, reason)]


def test_reasons_of_variables_and_results() -> None:
    q = Program()
    x = q.input(4)
    split = q.node(Split(0, (2, 2)), x)
    difference, product = q.node(Sub(), *split.results), q.node(Mul(), *split.results)
    q.finish(difference.result, product.result)
    listener = Wants(difference, product)
    with q.graph.watched_by(listener):
        sweep(q.graph, [
            recording_rule(lambda p, a: p.sub(a, a), [], "same"),
            recording_rule(lambda p, a, b: p.sub(p.split(a)[1], b), [], "part"),
            recording_rule(lambda p, a: p.mul(a, p.exp(a)), [], "orders"),
        ])
    assert listener.said == [
        ("same", False, "operand 1 of sub is not the same value as a"),
        ("part", False, "operand 0 of sub is not result 1 of split"),
        ("orders", False, "operand 1 of mul comes from split, not exp; or operand 0 of mul comes from split, not exp"),
    ]


def test_of_several_ways_to_match_the_furthest_is_told() -> None:
    q = Program()
    root = q.node(Add(), q(Exp(), q.input()), q.constant([1, 2, 3, 4]))
    q.finish(root.result)
    listener = Wants(root)
    with q.graph.watched_by(listener):
        sweep(q.graph, [recording_rule(lambda p, x, c: p.add(p.exp(p.tanh(x)), c.where(is_constant)), [])])
    assert listener.said == [("recording", False, "operand 0 of exp is a program input, not the result of tanh")]


def test_a_listener_that_wants_nothing_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither are reasons put into words nor remarks made."""
    from qcompiler.rewrite import rewriter

    def forbidden(*_: object) -> Remark:
        raise AssertionError("a remark that nobody asked for")

    explained: list[bool] = []
    original: Any = vars(rewriter)["matches"]

    def matches(variant: Any, node: Node, explains: bool = False) -> Any:
        explained.append(explains)
        return original(variant, node, explains)

    monkeypatch.setattr(rewriter, "Remark", forbidden)
    monkeypatch.setattr(rewriter, "matches", matches)
    q = Program()
    q.finish(q(Relu(), q(Exp(), q.input())))
    with q.graph.watched_by(GraphListener()):
        apply(q.graph, [made_rule(lambda p, x: p.relu(p.tanh(x)), _keep), made_rule(lambda p, x: p.exp(x), _keep)])
    assert set(explained) == {False}


def test_two_listeners_each_get_their_own() -> None:
    q = Program()
    first = q.node(Relu(), q.input())
    second = q.node(Relu(), first.result)
    q.finish(second.result)
    a, b, both = Wants(first), Wants(second), Wants(first, second)
    with q.graph.watched_by(a), q.graph.watched_by(b), q.graph.watched_by(both):
        sweep(q.graph, [made_rule(lambda p, x: p.relu(x), _keep, "rule")])
    assert [len(w.remarks) for w in (a, b, both)] == [1, 1, 2]
    assert [r.node for r in both.remarks] == [first, second]


def test_conversion_makes_remarks() -> None:
    q = Program()
    node = q.node(Relu(), q.input())
    q.finish(node.result)
    listener = Wants(node)
    with q.graph.watched_by(listener), pytest.raises(QCompilerError):
        convert(q.graph, [made_rule(lambda p, x: p.relu(x), _keep, "rule")], lambda n: Violation("no op", n.op.name))
    assert listener.said == [("rule", False, "keep it")]
