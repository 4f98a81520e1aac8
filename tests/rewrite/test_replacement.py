"""What becomes of the program around a match: uses, origins, layers and erased nodes."""

from __future__ import annotations

from typing import Any

import numpy as np
from sample_rules import Program, made_rule, ops, texts

from qcompiler.ir import ConstantArray, Original, verify
from qcompiler.ir.scalar import F32
from qcompiler.ops.activation import Clip, Exp, Negate, Relu, Sigmoid, Tanh
from qcompiler.ops.binary import Add, Mul, Sub
from qcompiler.ops.constant import Constant
from qcompiler.ops.slicing import Split
from qcompiler.rewrite import apply, is_constant, sweep


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


def test_layers_of_constants_do_not_count() -> None:
    q = Program()
    addend = q.build(Constant(ConstantArray(np.ones(4, np.float32))), elem=F32, loc=("the constant's",))
    q.finish(q(Add(), q(Relu(), q.input()), addend))
    rule = made_rule(lambda p, x: p.add(p.relu(x), p.constant()), lambda b, m, x: b(Exp(), x))
    assert apply(q.graph, [rule]).changed
    assert [n.loc for n in q.graph.nodes] == [("relu1", "add2")]
