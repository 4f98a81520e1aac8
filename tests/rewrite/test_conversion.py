"""Conversion: what becomes legal, what is reported, and what is left alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sample_rules import Program, exact_text, made_rule, ops

from qcompiler.errors import QCompilerError
from qcompiler.ir import Graph, Node, clone, verify
from qcompiler.ops.activation import Abs, Exp, Negate, Relu, Sigmoid, Tanh
from qcompiler.ops.binary import Add, Mul, Sub
from qcompiler.ops.slicing import Split
from qcompiler.rewrite import Legality, Mode, NotLegal, Rule, convert
from qcompiler.target import Violation


def lacks(*names: str) -> Legality:
    """A machine without these ops. Constants are not its business."""

    def judge(node: Node) -> Violation | None:
        assert node.op.name != "constant"
        return Violation(f"no {node.op.name}", node.op.name) if node.op.name in names else None

    return judge


SIGMOID = made_rule(lambda p, x: p.sigmoid(x), lambda b, m, x: b(Tanh(), b(Exp(), b(Negate(), x))), "sigmoid")
EXP = made_rule(lambda p, x: p.exp(x), lambda b, m, x: b(Mul(), b.constant(2.0), b(Abs(), x)), "exp")
NEGATE = made_rule(lambda p, x: p.negate(x), lambda b, m, x: b(Sub(), b.constant(np.zeros(4, np.float32)), x), "negate")
REMOVE_ABS = made_rule(lambda p, x: p.abs(x), lambda b, m, x: x, "remove-abs")


def program() -> Graph:
    q = Program()
    x = q.input()
    q.finish(q(Sigmoid(), q(Relu(), x)), q(Exp(), x))
    return q.graph


@pytest.mark.parametrize("mode", [Mode.FULL, Mode.PARTIAL])
def test_decompositions_are_decomposed_in_turn(mode: Mode) -> None:
    graph = program()
    relu, sigmoid, exp = graph.nodes
    found = convert(graph, [NEGATE, EXP, SIGMOID], lacks("sigmoid", "exp", "negate"), mode)
    verify(graph)
    assert ops(graph) == ["relu", "constant", "sub", "constant", "abs", "mul", "tanh", "constant", "abs", "mul"]
    assert found.changed
    assert not found.illegal
    assert [v.node for v in found.verdicts] == [relu, sigmoid, exp]
    assert [v.rules for v in found.verdicts] == [(), ("sigmoid", "negate", "exp"), ("exp",)]
    parts = [" ".join(n.op.name for n in v.parts) for v in found.verdicts]
    assert parts == ["relu", "sub abs mul tanh", "abs mul"]
    assert {n.loc for n in found.verdicts[1].parts} == {("sigmoid2",)}
    assert [n for v in found.verdicts for n in v.parts] == [n for n in graph.nodes if n.op.name != "constant"]


def test_legal_nodes_are_left_alone() -> None:
    graph = program()
    before, text = list(graph.nodes), exact_text(graph)
    found = convert(graph, [NEGATE, EXP, SIGMOID], lacks("tanh"))
    assert list(graph.nodes) == before
    assert exact_text(graph) == text
    assert not found.changed
    assert [(v.node, v.rules, v.parts, v.illegal) for v in found.verdicts] == [(n, (), (n,), ()) for n in before]


def test_a_full_conversion_reports_all_that_stays_illegal() -> None:
    graph = program()
    with pytest.raises(NotLegal) as caught:
        convert(graph, [SIGMOID], lacks("sigmoid", "exp"))
    verify(graph)
    assert [(n.layer, v.constraint) for n, v in caught.value.illegal] == [("sigmoid2", "no exp"), ("exp3", "no exp")]
    assert (caught.value.layer, caught.value.expected, caught.value.found) == ("sigmoid2", "no exp", "exp")
    assert "2 nodes" in caught.value.problem
    # What could be converted was.
    assert ops(graph) == ["relu", "negate", "exp", "tanh", "exp"]


def test_a_partial_conversion_lists_what_stays_illegal() -> None:
    graph = program()
    found = convert(graph, [SIGMOID], lacks("sigmoid", "exp"), Mode.PARTIAL)
    verify(graph)
    assert ops(graph) == ["relu", "negate", "exp", "tanh", "exp"]
    _, _, first, _, second = graph.nodes
    assert [n for n, _ in found.illegal] == [first, second]
    assert [n.op.name for n in found.verdicts[1].parts] == ["negate", "exp", "tanh"]


@pytest.mark.parametrize("rules", [[SIGMOID], [NEGATE, EXP, SIGMOID], []])
def test_an_analysis_foretells_a_conversion_and_changes_nothing(rules: list[Rule]) -> None:
    graph, converted = program(), program()
    before, nodes, version = exact_text(graph), list(graph.nodes), graph.version
    legality = lacks("sigmoid", "exp", "negate")
    foretold = convert(graph, rules, legality, Mode.ANALYSIS)
    assert exact_text(graph) == before
    assert list(graph.nodes) == nodes
    assert graph.version == version
    done = convert(converted, rules, legality, Mode.PARTIAL)
    assert [v.node for v in foretold.verdicts] == nodes
    assert [(v.rules, [n.op for n in v.parts], [(n.op, w) for n, w in v.illegal]) for v in foretold.verdicts] == [
        (v.rules, [n.op for n in v.parts], [(n.op, w) for n, w in v.illegal]) for v in done.verdicts
    ]
    # Untouched nodes are the program's own.
    assert [v.parts for v in foretold.verdicts if not v.rules] == [(v.node,) for v in foretold.verdicts if not v.rules]


def test_the_first_rule_that_applies_is_taken() -> None:
    decline = made_rule(lambda p, x: p.exp(x), lambda b, m, x: m.fail("no"), "declines")
    for rules, expected in [([decline, REMOVE_ABS, EXP], ("exp",)), ([EXP, decline], ("exp",))]:
        q = Program()
        q.finish(q(Exp(), q.input()))
        (verdict,) = convert(q.graph, rules, lacks("exp")).verdicts
        assert verdict.rules == expected


def test_a_value_that_was_there_already_makes_no_parts() -> None:
    q = Program()
    x = q.input()
    q.finish(q(Abs(), q(Relu(), x)))
    found = convert(q.graph, [REMOVE_ABS], lacks("abs"))
    assert [(v.rules, [n.op.name for n in v.parts]) for v in found.verdicts] == [((), ["relu"]), (("remove-abs",), [])]
    assert ops(q.graph) == ["relu"]


def test_a_node_that_is_changed_in_place_is_judged_again() -> None:
    def in_place(b: Any, m: Any, x: Any) -> Any:
        m.root.set_op(Tanh())
        return m.root.result

    q = Program()
    root = q.node(Exp(), q.input())
    q.finish(root.result)
    (verdict,) = convert(q.graph, [made_rule(lambda p, x: p.exp(x), in_place, "in-place")], lacks("exp")).verdicts
    assert (verdict.node, verdict.rules, verdict.parts) == (root, ("in-place",), (root,))


def _around(name: str) -> Rule:
    return made_rule(lambda p, x: getattr(p, name)(x), lambda b, m, x: b(m.root.op, b(Negate(), x)), f"again-{name}")


@pytest.mark.parametrize(
    ("rules", "named"),
    [
        ([_around("exp")], "again-exp"),
        ([
            made_rule(lambda p, x: p.exp(x), lambda b, m, x: b(Tanh(), x), "there"),
            made_rule(lambda p, x: p.tanh(x), lambda b, m, x: b(Exp(), x), "back"),
        ], "there, back"),
        # Were the search not depth first, there would be 2 ** 33 of them.
        ([made_rule(lambda p, x: p.exp(x), lambda b, m, x: b(Add(), b(Exp(), x), b(Exp(), x)), "doubles")], "doubles"),
    ],
)
@pytest.mark.parametrize("mode", list(Mode))
def test_an_endless_decomposition_is_stopped(rules: list[Rule], named: str, mode: Mode) -> None:
    q = Program()
    q.finish(q(Exp(), q(Relu(), q.input())))
    before = exact_text(q.graph)
    with pytest.raises(QCompilerError, match="does not come to an end") as caught:
        convert(q.graph, rules, lacks("exp", "tanh"), mode)
    assert caught.value.layer == "exp2"
    assert named in str(caught.value)
    verify(q.graph)
    if mode is Mode.ANALYSIS:
        assert exact_text(q.graph) == before


def test_an_illegal_node_that_another_one_takes_in_is_no_longer_illegal() -> None:
    """No rule is for the exp alone. The rule for the tanh behind it makes it go away."""
    fuse = made_rule(lambda p, x: p.tanh(p.exp(x)), lambda b, m, x: b(Relu(), x), "fuse")
    for mode in Mode:
        q = Program()
        exp = q.node(Exp(), q.input())
        q.finish(q(Tanh(), exp.result))
        found = convert(q.graph, [fuse], lacks("exp", "tanh"), mode)
        assert not found.illegal
        assert [(v.rules, [n.op.name for n in v.parts]) for v in found.verdicts] == [((), []), (("fuse",), ["relu"])]
        assert found.verdicts[0].node.op.name == "exp"
        assert ops(q.graph) == (["exp", "tanh"] if mode is Mode.ANALYSIS else ["relu"])


def test_the_same_with_a_user_left_stays_illegal() -> None:
    fuse = made_rule(lambda p, x: p.tanh(p.exp(x)), lambda b, m, x: b(Relu(), x), "fuse")
    q = Program()
    exp = q.node(Exp(), q.input())
    q.finish(q(Tanh(), exp.result), exp.result)
    with pytest.raises(NotLegal) as caught:
        convert(q.graph, [fuse], lacks("exp", "tanh"))
    assert [n for n, _ in caught.value.illegal] == [exp]


def test_nodes_of_several_results() -> None:
    def rewrite(b: Any, m: Any, x: Any) -> Any:
        return [b(Exp(), part) for part in b.create(m.root.op, [b(Abs(), x)]).results]

    rule = made_rule(lambda p, x: p.split(x), rewrite, "split")
    q = Program()
    parts = q.node(Split(0, (1, 3)), q.input()).results
    q.finish(q(Relu(), parts[1]), parts[0])
    once: Callable[[Node], Violation | None] = lambda n: (  # noqa: E731
        Violation("no split of an input", "split") if n.op.name == "split" and n.operands[0].producer is None else None
    )
    found = convert(q.graph, [rule], once)
    verify(q.graph)
    assert ops(q.graph) == ["abs", "split", "exp", "exp", "relu"]
    assert [[n.op.name for n in v.parts] for v in found.verdicts] == [["abs", "split", "exp", "exp"], ["relu"]]


def test_conversion_is_the_same_on_a_copy() -> None:
    graph = program()
    copy = clone(graph)
    for each in (graph, copy):
        convert(each, [NEGATE, EXP, SIGMOID], lacks("sigmoid", "exp", "negate"))
    assert exact_text(graph) == exact_text(copy)
