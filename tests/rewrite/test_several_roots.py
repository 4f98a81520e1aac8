"""Rules that replace several nodes at once: which are found, where the new ones stand, and when they decline."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from sample_rules import Program, all_matches, made_rule, ops, texts

from qcompiler.ir import Op, Original, Value, verify
from qcompiler.ops.activation import Exp, Negate, Relu, Sigmoid, Tanh
from qcompiler.ops.binary import Mul, Sub
from qcompiler.ops.contraction import Conv2D
from qcompiler.ops.shape import Concat, Reshape
from qcompiler.ops.slicing import Split
from qcompiler.rewrite import Constraint, apply, one_use, sweep


def _fuse_convolutions(b: Any, m: Any, x: Value, first: Value, second: Value) -> Any:
    channels = [int(str(v.type.shape[0])) for v in (first, second)]
    joined = b(Conv2D(), x, b(Concat(0), first, second))
    return b.create(Split(1, tuple(channels)), [joined]).results


HORIZONTAL = made_rule(
    lambda p, x, first, second: (p.conv2d(x, first), p.conv2d(x, second)), _fuse_convolutions, "horizontal",
)


@pytest.mark.parametrize("swapped", [False, True])
def test_two_convolutions_of_one_input_become_one(swapped: bool) -> None:
    q = Program()
    x = q.input(1, 2, 4, 4)
    weights = [q.input(3, 2, 1, 1, name="w0"), q.input(5, 2, 1, 1, name="w1")]
    first, second = (q(Conv2D(), x, w) for w in (weights[::-1] if swapped else weights))
    between = q(Relu(), second)
    q.finish(*(q(Exp(), v) for v in (first, between)), first)
    result = apply(q.graph, [HORIZONTAL])
    verify(q.graph)
    assert result.rewrites == {"horizontal": 1}
    assert ops(q.graph) == ["concat", "conv2d", "split", "relu", "exp", "exp"]
    split = list(q.graph.nodes)[2]
    assert q.graph.outputs[2].value is split.results[0]
    assert [v.origin for v in split.results] == [Original("conv2d1_out"), Original("conv2d2_out")]
    assert set(split.loc) == {"conv2d1", "conv2d2"}


def test_three_convolutions_of_one_input_are_fused_pairwise() -> None:
    q = Program()
    x = q.input(1, 2, 4, 4)
    weights = [q.input(c, 2, 1, 1, name=f"w{c}") for c in (1, 2, 3)]
    q.finish(*(q(Conv2D(), x, w) for w in weights))
    assert apply(q.graph, [HORIZONTAL]).rewrites == {"horizontal": 2}
    verify(q.graph)
    assert [o.value.type.shape[1] for o in q.graph.outputs] == [1, 2, 3]
    assert ops(q.graph).count("conv2d") == 1


def test_roots_are_found_in_either_order() -> None:
    for first, second in itertools.permutations([Relu(), Exp()]):
        q = Program()
        x = q.input()
        q.finish(q(first, x), q(second, x))
        rule = made_rule(
            lambda p, x: (p.relu(x), p.exp(x)), lambda b, m, x: [b(Tanh(), x), b(Sigmoid(), x)],
        )
        assert apply(q.graph, [rule]).rewrites == {"sample": 1}
        verify(q.graph)
        assert texts([o.value for o in q.graph.outputs]) == [
            {"relu": "tanh", "exp": "sigmoid"}[op.name] for op in (first, second)
        ]


@pytest.mark.parametrize("late", ["none", "chain", "result"])
def test_an_operand_that_is_computed_between_the_roots_declines(late: str) -> None:
    q = Program()
    x = q.input(name="x")
    early = q(Negate(), x)
    relu = q(Relu(), x)
    other = {"none": early, "chain": q(Tanh(), x), "result": relu}[late]
    q.finish(relu, q(Sub(), x, other))
    rule = made_rule(
        lambda p, x, y: (p.relu(x), p.sub(x, y)), lambda b, m, x, y: [b(Exp(), x), b(Mul(), x, y)],
    )
    count = apply(q.graph, [rule]).rewrites.get("sample", 0)
    verify(q.graph)
    assert count == (1 if late == "none" else 0)


def test_a_named_inner_value_that_is_computed_between_the_roots_declines() -> None:
    q = Program()
    x = q.input()
    relu = q(Relu(), x)
    q.finish(relu, q(Exp(), q(Tanh(), x)))
    rule = made_rule(
        lambda p, x: (p.relu(x), p.exp(p.tanh(x, name="inner"))),
        lambda b, m, x: [b(Sigmoid(), x), b(Negate(), m["inner"])],
    )
    before = str(q.graph)
    assert not apply(q.graph, [rule]).changed
    assert str(q.graph) == before


def test_a_root_may_be_an_operand_of_another() -> None:
    q = Program()
    x = q.input()
    relu = q(Relu(), x)
    total = q(Sub(), relu, x)
    q.finish(q(Tanh(), total), q(Exp(), relu))
    rule = made_rule(
        lambda p, x: (p.relu(x), p.sub(p.relu(x), x)), lambda b, m, x: [b(Sigmoid(), x), b(Negate(), x)],
    )
    assert apply(q.graph, [rule]).rewrites == {"sample": 1}
    verify(q.graph)
    assert ops(q.graph) == ["sigmoid", "negate", "tanh", "exp"]


def test_roots_may_take_each_others_values() -> None:
    """Of two equal nodes the second gives way, whichever comes first in the match."""
    q = Program()
    x = q.input()
    first, second = q(Relu(), x), q(Relu(), x)
    q.finish(q(Exp(), second), q(Tanh(), first))
    keep_first = made_rule(lambda p, x: (p.relu(x), p.relu(x)), lambda b, m, x: [m.root.result] * 2)
    assert apply(q.graph, [keep_first]).rewrites == {"sample": 1}
    verify(q.graph)
    assert ops(q.graph) == ["relu", "exp", "tanh"]


def test_a_root_is_not_replaced_by_a_later_value() -> None:
    q = Program()
    x = q.input()
    first = q(Relu(), x)
    q.finish(q(Exp(), first), q(Relu(), x))
    keep_second = made_rule(lambda p, x: (p.relu(x), p.relu(x)), lambda b, m, x: [m.roots[1].result] * 2)
    before = str(q.graph)
    result = sweep(q.graph, [keep_second])
    verify(q.graph)
    # From the first node, the second comes too late. From the second, the first is its partner, and in time.
    assert result.rewrites == {"sample": 1}
    assert str(q.graph) != before
    assert ops(q.graph) == ["relu", "exp"]


def test_the_other_root_may_stand_several_steps_down() -> None:
    q = Program()
    x = q.input()
    q.finish(q(Relu(), x), q(Exp(), q(Tanh(), q(Negate(), x))), q(Exp(), q(Tanh(), x)))
    found = all_matches(q.graph, lambda p, x: (p.relu(x), p.exp(p.tanh(p.negate(x)).where(one_use))))
    assert [texts([r.result for r in m.roots]) for m, _ in found] == [["relu", "exp"]]


def test_three_roots() -> None:
    q = Program()
    x, y = q.input(name="x"), q.input(name="y")
    q.finish(q(Relu(), x), q(Sub(), x, y), q(Exp(), y), q(Exp(), x))
    rule = made_rule(
        lambda p, x, y: (p.relu(x), p.sub(x, y), p.exp(y)),
        lambda b, m, x, y: [b(Tanh(), x), b(Mul(), x, y), b(Sigmoid(), y)],
    )
    assert apply(q.graph, [rule]).rewrites == {"sample": 1}
    verify(q.graph)
    assert texts([o.value for o in q.graph.outputs]) == ["tanh", "mul", "sigmoid", "exp"]


def test_the_program_output_is_no_further_root() -> None:
    q = Program()
    x = q.input()
    q.finish(x, q(Reshape((4,)), x))
    assert all_matches(q.graph, lambda p, x: (p.reshape(x), p.op(Op, x, ...))) == []


def test_what_replaces_several_roots_stands_before_the_first() -> None:
    q = Program()
    x = q.input()
    early = q(Tanh(), q(Exp(), x))
    q.finish(early, q(Relu(), x))
    rule = made_rule(lambda p, x: (p.relu(x), p.exp(x)), lambda b, m, x: [b(Sigmoid(), x), b(Negate(), x)])
    assert apply(q.graph, [rule]).rewrites == {"sample": 1}
    verify(q.graph)
    assert ops(q.graph) == ["sigmoid", "negate", "tanh"]


def test_a_candidate_that_does_not_fit_binds_nothing() -> None:
    q = Program()
    x, u, v = q.input(name="x"), q.input(name="u"), q.input(name="v")
    q.finish(q(Relu(), x), q(Concat(0), u, x, q(Tanh(), x)), q(Concat(0), v, x, q(Exp(), u)))
    found = all_matches(q.graph, lambda p, x, y, z: (p.relu(x), p.concat(y, x, p.exp(z))))
    assert [operands for _, operands in found] == [(x, v, u)]


def test_further_roots_are_looked_for_where_there_are_few() -> None:
    """One of the shared values has two users and the other one hundreds, all of which might be the root."""
    q = Program()
    many, few = q.input(name="many"), q.input(name="few")
    q.finish(q(Sub(), many, few), q(Mul(), many, few), *(q(Mul(), many, many) for _ in range(300)))
    looked_at: list[Value] = []

    def note_down(value: Value) -> bool:
        looked_at.append(value)
        return True

    note = Constraint("noted", note_down)
    for pattern in (
        lambda p, a, b: (p.sub(a, b), p.mul(a.where(note), b, ordered=True)),
        lambda p, a, b: (p.sub(a, b), p.mul(a.where(note), b)),
    ):
        looked_at.clear()
        assert len(all_matches(q.graph, pattern)) == 1
        assert 1 <= len(looked_at) <= 2
