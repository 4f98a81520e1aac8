"""What becomes of the program around a match: uses, origins, layers, erased nodes, and several roots."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from sample_rules import Program, all_matches, made_rule, ops, texts

from qcompiler.ir import ConstantArray, Op, Original, Value, verify
from qcompiler.ir.scalar import F32
from qcompiler.ops.activation import Clip, Exp, Negate, Relu, Sigmoid, Tanh
from qcompiler.ops.binary import Add, Mul, Sub
from qcompiler.ops.constant import Constant
from qcompiler.ops.contraction import Conv2D
from qcompiler.ops.shape import Concat, Reshape
from qcompiler.ops.slicing import Split
from qcompiler.rewrite import Constraint, apply, is_constant, one_use, sweep


def test_the_new_value_takes_over_uses_origin_and_layers() -> None:
    q = Program()
    x = q.input()
    inner = q(Relu(), x)
    root = q(Clip(0.0, 1.0), inner)
    user = q(Sub(), root, root)
    q.finish(user, root)
    result = apply(q.graph, [made_rule(lambda p, x: p.clip(p.relu(x)), lambda b, m, x: b(Exp(), b(Tanh(), x)))])
    verify(q.graph)
    assert result.changed
    assert result.graph is q.graph
    assert ops(q.graph) == ["tanh", "exp", "sub"]
    tanh, exp, sub = q.graph.nodes
    assert sub.operands == (exp.result, exp.result)
    assert [o.value for o in q.graph.outputs] == [sub.result, exp.result]
    assert tanh.loc == exp.loc == ("relu1", "clip2")
    assert exp.result.origin == Original("clip2_out")
    assert tanh.result.origin != Original("relu1_out")


def test_a_program_output_may_be_a_root() -> None:
    q = Program()
    root = q(Relu(), q.input())
    q.finish(root, root)
    apply(q.graph, [made_rule(lambda p, x: p.relu(x), lambda b, m, x: b(Exp(), x))])
    verify(q.graph)
    assert [o.value.producer and o.value.producer.op for o in q.graph.outputs] == [Exp(), Exp()]
    apply(q.graph, [made_rule(lambda p, x: p.exp(x), lambda b, m, x: x)])
    verify(q.graph)
    assert [o.value for o in q.graph.outputs] == q.graph.inputs * 2


def test_an_inner_node_with_other_users_stays_for_them() -> None:
    q = Program()
    inner = q(Relu(), q.input())
    q.finish(q(Exp(), inner), q(Tanh(), inner))
    apply(q.graph, [made_rule(lambda p, x: p.exp(p.relu(x)), lambda b, m, x: b(Sigmoid(), x))])
    verify(q.graph)
    assert sorted(ops(q.graph)) == ["relu", "sigmoid", "tanh"]


def test_an_inner_node_that_is_a_program_output_stays() -> None:
    q = Program()
    inner = q(Relu(), q.input())
    q.finish(q(Exp(), inner), inner)
    apply(q.graph, [made_rule(lambda p, x: p.exp(p.relu(x)), lambda b, m, x: b(Sigmoid(), x))])
    verify(q.graph)
    assert ops(q.graph) == ["relu", "sigmoid"]


def test_what_only_the_match_needed_is_erased() -> None:
    q = Program()
    x = q.input()
    scale, shared = q.constant([1, 2, 3, 4]), q.constant([5, 6, 7, 8])
    feeding = q(Tanh(), q(Negate(), x))
    q.finish(q(Mul(), q(Add(), feeding, shared), scale), q(Sub(), x, shared))
    rule = made_rule(
        lambda p, a, c, d: p.mul(p.add(a, c.where(is_constant)), d.where(is_constant)),
        lambda b, m, a, c, d: b(Exp(), m["a"].producer.operands[0].producer.operands[0]),
    )
    apply(q.graph, [rule])
    verify(q.graph)
    # The constant d, and the nodes between x and the sum, had no other users.
    assert ops(q.graph) == ["constant", "exp", "sub"]
    assert texts(list(q.graph.nodes)[2].operands) == ["x", "constant"]


def test_dead_code_beside_a_match_stays() -> None:
    q = Program()
    x = q.input()
    q(Negate(), x)
    root = q(Relu(), x)
    q(Tanh(), root)
    q.finish(root)
    apply(q.graph, [made_rule(lambda p, x: p.relu(x), lambda b, m, x: b(Exp(), x))])
    assert ops(q.graph) == ["negate", "exp", "tanh"]


def test_a_dead_root_vanishes_with_what_replaces_it() -> None:
    q = Program()
    x = q.input()
    q(Relu(), x)
    q.finish(q(Tanh(), x))
    assert apply(q.graph, [made_rule(lambda p, x: p.relu(x), lambda b, m, x: b(Exp(), x))]).rewrites == {"sample": 1}
    assert ops(q.graph) == ["tanh"]


def test_new_nodes_that_nobody_uses_are_erased() -> None:
    q = Program()
    q.finish(q(Relu(), q.input()))

    def rewrite(b: Any, m: Any, x: Any) -> Any:
        b(Sigmoid(), b(Tanh(), x))
        return b(Exp(), x)

    apply(q.graph, [made_rule(lambda p, x: p.relu(x), rewrite)])
    assert ops(q.graph) == ["exp"]


def test_a_root_may_be_changed_in_place() -> None:
    def rewrite(b: Any, m: Any, x: Any) -> Any:
        if m.root.op.minimum == -1.0:
            return m.fail("done")
        m.root.set_op(Clip(-1.0, 1.0))
        m.root.set_operand(0, b(Tanh(), x))
        return m.root.result

    q = Program()
    root = q(Clip(), q(Relu(), q.input()))
    q.finish(root)
    apply(q.graph, [made_rule(lambda p, x: p.clip(p.relu(x)), rewrite), made_rule(lambda p, x: p.clip(x), rewrite)])
    verify(q.graph)
    # The relu has lost its only user.
    assert ops(q.graph) == ["tanh", "clip"]
    assert root.producer is not None
    assert root.producer.op == Clip(-1.0, 1.0)
    assert q.graph.outputs[0].value is root


def test_an_existing_value_takes_over_the_layers() -> None:
    q = Program()
    before = q(Tanh(), q.input())
    q.finish(q(Exp(), q(Relu(), before)))
    apply(q.graph, [made_rule(lambda p, x: p.relu(x), lambda b, m, x: x)])
    assert before.producer is not None
    assert before.producer.loc == ("tanh1", "relu2")
    assert before.origin == Original("tanh1_out")


def test_results_may_change_places() -> None:
    q = Program()
    parts = q.node(Split(0, (2, 2)), q.input(4)).results
    q.finish(q(Relu(), parts[0]), q(Exp(), parts[1]), q(Sub(), *parts), parts[0])

    swapped = False

    def rewrite(b: Any, m: Any, x: Any) -> Any:
        nonlocal swapped
        if swapped:
            return m.fail("once")
        swapped = True
        return m.root.results[::-1]

    apply(q.graph, [made_rule(lambda p, x: p.split(x), rewrite)])
    verify(q.graph)
    assert [o.value.producer.operands for o in q.graph.outputs[:3] if o.value.producer] == [
        (parts[1],), (parts[0],), (parts[1], parts[0]),
    ]
    assert q.graph.outputs[3].value is parts[1]


def test_each_result_is_replaced_by_its_own() -> None:
    q = Program()
    parts = q.node(Split(0, (1, 3)), q.input(4)).results
    q.finish(q(Relu(), parts[1]), q(Relu(), parts[0]))

    def rewrite(b: Any, m: Any, x: Any) -> Any:
        return tuple(b(Exp(), part) for part in b.create(Split(0, m.root.op.sizes), [b(Tanh(), x)]).results)

    assert sweep(q.graph, [made_rule(lambda p, x: p.split(x), rewrite)]).rewrites == {"sample": 1}
    verify(q.graph)
    assert ops(q.graph) == ["tanh", "split", "exp", "exp", "relu", "relu"]
    first, second = (o.value.producer for o in q.graph.outputs)
    assert first is not None
    assert second is not None
    assert [n.operands[0].producer.operands[0].type.shape for n in (first, second)] == [(3,), (1,)]  # type: ignore[union-attr]


# Several roots


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


def test_layers_of_constants_do_not_count() -> None:
    q = Program()
    addend = q.build(Constant(ConstantArray(np.ones(4, np.float32))), elem=F32, loc=("the constant's",))
    q.finish(q(Add(), q(Relu(), q.input()), addend))
    rule = made_rule(lambda p, x: p.add(p.relu(x), p.constant()), lambda b, m, x: b(Exp(), x))
    assert apply(q.graph, [rule]).changed
    assert [n.loc for n in q.graph.nodes] == [("relu1", "add2")]
