"""Malformed patterns and wrong rules: each is refused with the rule's name, and nothing is left behind."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from sample_rules import Program, exact_text, made_rule

from qcompiler.errors import QCompilerError
from qcompiler.ir import ConstantArray, Fact, Graph, Value, verify
from qcompiler.ir.scalar import F32
from qcompiler.ops.activation import Clip, Exp, Relu, Sigmoid, Tanh
from qcompiler.ops.binary import Add, Mul, Sub
from qcompiler.ops.constant import Constant
from qcompiler.ops.quantization import Cast
from qcompiler.ops.shape import Reshape
from qcompiler.ops.slicing import Split
from qcompiler.rewrite import (
    Match,
    Mode,
    Operand,
    OpPattern,
    Outcome,
    Pattern,
    RewriteBuilder,
    Rule,
    apply,
    convert,
    describe,
    is_constant,
    sweep,
)
from qcompiler.target import Violation


def refusal(pattern: Callable[..., Any], rewrite: Callable[..., Any] | None = None) -> QCompilerError:
    """What tracing the rule says."""
    rule = made_rule(pattern, rewrite or _same_operands(pattern), "my-rule")
    with pytest.raises(QCompilerError) as caught:
        apply(Graph(), [rule])
    assert "'my-rule'" in caught.value.problem
    return caught.value


def _same_operands(pattern: Callable[..., Any]) -> Callable[..., Any]:
    def rewrite(b: Any, m: Any, *operands: Any) -> Any:
        raise AssertionError("never called")

    import inspect

    own = [inspect.Parameter(n, inspect.Parameter.POSITIONAL_OR_KEYWORD) for n in ("_builder", "_match")]
    taken = list(inspect.signature(pattern).parameters.values())[1:]
    rewrite.__signature__ = inspect.Signature([*own, *taken])  # type: ignore[attr-defined]
    return rewrite


def test_an_unknown_op_and_the_nearest_one() -> None:
    error = refusal(lambda p, x: p.sigmoyd(x))
    assert "'sigmoyd'" in error.problem
    assert error.fix == "did you mean 'sigmoid'?"


@pytest.mark.parametrize(
    "pattern",
    [
        lambda p, x: p.clip(x, minimun=0.0), lambda p, x: p.op(Clip, x, minimun=0.0),
        lambda p, x: p.op((Relu, Clip), x, minimun=0.0), lambda p, x: p.op(Fact.UNARY, x, minimun=0.0),
    ],
)
def test_an_unknown_attribute_and_the_nearest_one(pattern: Callable[..., Any]) -> None:
    error = refusal(pattern)
    assert "'minimun'" in error.problem
    assert error.fix == "did you mean 'minimum'?"


def test_an_attribute_of_an_op_without_any() -> None:
    assert refusal(lambda p, x: p.relu(x, slope=1.0)).expected == "none"


MALFORMED = [
    (lambda p, x, y: p.relu(x), "does not use its operand 'y'"),
    (lambda p, x, *rest: p.relu(x), "does not use its operand 'rest'"),
    (lambda p, x: p.add(p.relu(x, name="n"), p.exp(x, name="n")), "the name 'n' twice"),
    (lambda p, x: p.relu(x, name="x"), "the name 'x' twice"),
    (lambda p, x: p.any_of(p.add(p.relu(x, name="n"), p.exp(x, name="n")), p.exp(x)), "the name 'n' twice"),
    (lambda p, x, *rest: p.concat(..., x, *rest), "two operands that stand for any number"),
    (lambda p, x: p.concat(..., x, ...), "two operands that stand for any number"),
    (lambda p, x: x, "must be an op"),
    (lambda p, x: (p.relu(x), x), "must be an op"),
    (lambda p, x: p.any_of(p.relu(x), x), "must be an op"),
    (lambda p: (), "must return an op"),
    (lambda p: None, "must return an op"),
    (lambda p, x: [p.relu(x)], "must return an op"),
    (lambda p, x: p.relu, "must return an op"),
    (lambda p, x: p.add(x, 1.0), "operand 1 in a pattern of add is no pattern"),
    (lambda p, x: p.exp(p.relu), "operand 0 in a pattern of exp is no pattern"),
    (lambda p, x: p.exp(None), "operand 0 in a pattern of exp is no pattern"),
    (lambda p, x, y: (p.relu(x), p.exp(y)), "shares no value"),
    (lambda p, x, y, z: (p.relu(x), p.add(x, y), p.exp(z)), "root 2"),
    (lambda p, *rest: (p.concat(*rest), p.add(*rest, ordered=True)), "shares no value"),
    (lambda p, x: (p.relu(x), p.constant()), "shares no value"),
    (lambda p, x, y: p.any_of(p.add(x, y), p.relu(x)), "a choice without its operand 'y'"),
    (lambda p, x, w, b=None: p.op(Fact.CONTRACTION, x, b, w), "'b', which may be missing, does not come last"),
    (lambda p, x, w, b=None: p.op(Fact.CONTRACTION, x, w, b, ...), "'b', which may be missing, does not come last"),
    (lambda p, *rest: p.add(*rest), "which operands change places"),
    (lambda p, x: p.add(..., x), "which operands change places"),
]


@pytest.mark.parametrize(("pattern", "problem"), MALFORMED)
def test_malformed_patterns(pattern: Callable[..., Any], problem: str) -> None:
    assert problem in refusal(pattern).problem


@pytest.mark.parametrize("depth", [7, 60])
def test_too_many_ways_to_choose_are_counted_not_spelled_out(depth: int) -> None:
    def pattern(p: Any, x: Any, y: Any) -> Any:
        found = x
        for _ in range(depth):
            found = p.add(found, y)
        return found

    error = refusal(pattern)
    assert f"{2**depth} ways to choose" in error.problem
    assert error.expected == "at most 64"


def test_as_many_ways_to_choose_as_allowed() -> None:
    q = Program()
    x, y = q.input(name="x"), q.input(name="y")
    value = x
    for index in range(6):
        value = q(Add(), *([value, y] if index % 2 else [y, value]))
    q.finish(value)

    def pattern(p: Any, x: Any, y: Any) -> Any:
        found = x
        for _ in range(6):
            found = p.add(found, y)
        return found

    assert sweep(q.graph, [made_rule(pattern, lambda b, m, x, y: b(Sub(), x, y))]).rewrites == {"sample": 1}


@pytest.mark.parametrize(
    "rewrite",
    [lambda b, m: None, lambda b, m, y: None, lambda b, m, x, y: None, lambda b, m, *x: None],
)
def test_rewrite_must_take_the_operands_of_pattern(rewrite: Callable[..., Any]) -> None:
    error = refusal(lambda p, x: p.relu(x), rewrite)
    assert "must take the operands of 'pattern'" in error.problem
    assert error.expected == "x"


def test_a_malformed_pattern_is_found_before_anything_is_rewritten() -> None:
    q = Program()
    q.finish(q(Relu(), q.input()))
    before = exact_text(q.graph)
    good = made_rule(lambda p, x: p.relu(x), lambda b, m, x: b(Exp(), x))
    bad = made_rule(lambda p, x: x, lambda b, m, x: x)
    for driver in (apply, sweep):
        with pytest.raises(QCompilerError):
            driver(q.graph, [good, bad])
    assert exact_text(q.graph) == before


def test_rules_are_described_without_their_options() -> None:
    rule = made_rule(lambda p, x: p.any_of(p.relu(x), p.clip(x)), lambda b, m, x: x, "my-rule")
    (found,) = describe([type(rule)])
    assert (found.name, found.replaces) == ("my-rule", "relu or clip")


def _raises_key_error(b: RewriteBuilder, m: Any, x: Any) -> Any:
    b(Exp(), b(Tanh(), x))
    empty: dict[str, Any] = {}
    return empty["missing"]


def _raises_own_error(b: RewriteBuilder, m: Any, x: Any) -> Any:
    b(Exp(), x)
    raise QCompilerError("cannot be compiled", found="a reason")


WRONG = [
    (lambda b, m, x: b(Cast(F32), b(Reshape((2, 2)), x)), "by one of another type"),
    (lambda b, m, x: [b(Exp(), x), b(Tanh(), x)], "gives 2 values"),
    (lambda b, m, x: [], "gives 0 values"),
    (lambda b, m, x: None, "returns something else than values"),
    (lambda b, m, x: b.create(Exp(), [x]), "returns something else than values"),
    (lambda b, m, x: [b.create(Exp(), [x])], "returns something else than values"),
    (lambda b, m, x: m.root.result, "gives back what it was to replace, unchanged"),
    (lambda b, m, x: [b(Exp(), x) and m.root.result], "gives back what it was to replace, unchanged"),
    (lambda b, m, x: b(Exp(), m.root.result), "builds on the value that it replaces"),
    (lambda b, m, x: b(Sub(), x, b(Exp(), m.root.result)), "builds on the value that it replaces"),
    (lambda b, m, x: b(Exp(), m.root.next.result), "before it is computed"),
    (lambda b, m, x: m.root.next.result, "before it is computed"),
    (lambda b, m, x: b(Add(), x), "add: "),
    (lambda b, m, x: b(Constant(ConstantArray([1]))), "leave the element type open"),
    (_raises_key_error, "failed: KeyError: 'missing'"),
    (_raises_own_error, "cannot be compiled"),
    (lambda b, m, x: m["y"], "has no 'y'"),
    (lambda b, m, x: m.node("x"), "has no 'x'"),
    (lambda b, m, x: m.op("relo", Relu), "has no 'relo'"),
    (lambda b, m, x: m.op("relu", Clip), "is of another class"),
    (lambda b, m, x: m.number(x), "is no constant"),
]


@pytest.mark.parametrize(("rewrite", "problem"), WRONG)
def test_wrong_rules_leave_nothing_behind(rewrite: Callable[..., Any], problem: str) -> None:
    q = Program()
    x = q.input()
    q.finish(q(Sigmoid(), q(Tanh(), q(Relu(), x))))
    before = exact_text(q.graph)
    rule = made_rule(lambda p, x: p.relu(x, name="relu"), rewrite, "my-rule")
    legality = lambda node: Violation("no relu", "relu") if node.op.name == "relu" else None  # noqa: E731
    drivers: list[Callable[[], object]] = [
        lambda: apply(q.graph, [rule]), lambda: sweep(q.graph, [rule]),
        lambda: convert(q.graph, [rule], legality), lambda: convert(q.graph, [rule], legality, Mode.ANALYSIS),
    ]
    for driver in drivers:
        with pytest.raises(QCompilerError) as caught:
            driver()
        assert "'my-rule' on relu" in caught.value.problem
        assert problem in caught.value.problem
        assert caught.value.layer == "relu1"
        assert exact_text(q.graph) == before
        assert not q.graph.listeners


def test_a_crash_says_where_and_keeps_its_cause() -> None:
    q = Program()
    q.finish(q(Relu(), q.input()))
    with pytest.raises(QCompilerError) as caught:
        apply(q.graph, [made_rule(lambda p, x: p.relu(x), _raises_key_error)])
    line = _raises_key_error.__code__.co_firstlineno + 3
    assert caught.value.found == f"raised at {__file__}:{line}"
    assert isinstance(caught.value.__cause__, KeyError)


def test_an_error_that_names_its_layer_stays_as_it_is() -> None:
    q = Program()
    q.finish(q(Relu(), q.input()))
    before = exact_text(q.graph)
    own = QCompilerError("divides by zero", layer="user's layer")

    def rewrite(b: RewriteBuilder, m: Any, x: Any) -> Any:
        b(Exp(), x)
        raise own

    with pytest.raises(QCompilerError) as caught:
        apply(q.graph, [made_rule(lambda p, x: p.relu(x), rewrite)])
    assert caught.value is own
    assert exact_text(q.graph) == before


def test_a_rule_that_has_changed_the_program_may_not_decline() -> None:
    def rewrite(b: RewriteBuilder, m: Any, x: Any) -> Any:
        m.root.set_operand(0, b(Exp(), x))
        return m.fail("on second thoughts")

    q = Program()
    q.finish(q(Relu(), q.input()))
    with pytest.raises(QCompilerError, match="'my-rule' on relu: declines after it has changed the program") as caught:
        apply(q.graph, [made_rule(lambda p, x: p.relu(x), rewrite, "my-rule")])
    assert caught.value.layer == "relu1"
    verify(q.graph)


def test_a_rule_must_not_use_what_is_gone() -> None:
    kept: list[Any] = []

    def rewrite(b: RewriteBuilder, m: Any, x: Any) -> Any:
        if kept:
            return b(Exp(), kept[0])
        kept.append(m.root.result)
        return b(Tanh(), x)

    q = Program()
    x = q.input()
    q.finish(q(Relu(), x), q(Relu(), x))
    with pytest.raises(QCompilerError, match="uses a result of relu that is not in the program"):
        apply(q.graph, [made_rule(lambda p, x: p.relu(x), rewrite)])
    verify(q.graph)


PING_PONG = [
    made_rule(lambda p, x: p.relu(x), lambda b, m, x: b(Exp(), x), "ping"),
    made_rule(lambda p, x: p.exp(x), lambda b, m, x: b(Relu(), x), "pong"),
]


def test_rules_that_undo_each_other_are_stopped_and_named() -> None:
    q = Program()
    q.finish(q(Relu(), q(Tanh(), q.input())))
    with pytest.raises(QCompilerError, match="does not come to an end") as caught:
        apply(q.graph, PING_PONG)
    assert caught.value.layer == "relu2"
    assert "ping (509 times), pong (508 times)" in str(caught.value)
    verify(q.graph)
    assert not q.graph.listeners


def test_a_rule_that_grows_its_own_food_is_stopped() -> None:
    q = Program()
    q.finish(q(Relu(), q.input()))
    with pytest.raises(QCompilerError, match="does not come to an end"):
        apply(q.graph, [made_rule(lambda p, x: p.relu(x), lambda b, m, x: b(Relu(), b(Relu(), x)))])
    verify(q.graph)


@pytest.mark.parametrize("seed", range(20))
def test_declining_after_building_leaves_no_trace(seed: int) -> None:
    """Random constructions, on dead nodes too."""
    rng = random.Random(seed)
    q = Program()
    values = [q.input(name="x"), q.constant([1, 2, 3, 4])]
    for _ in range(15):
        op = rng.choice([Relu(), Exp(), Add(), Sub()])
        count = 2 if isinstance(op, Add | Sub) else 1
        values.append(q(op, *(rng.choice(values) for _ in range(count))))
    q.node(Split(0, (1, 3)), values[-1])
    q.finish(values[-1], rng.choice(values))
    before, count = exact_text(q.graph), len(q.graph)
    calls = 0

    def rewrite(b: RewriteBuilder, m: Any, *r: Any) -> Any:
        nonlocal calls
        calls += 1
        known = [*r, *m.root.results, b.constant(3.0)]
        for _ in range(rng.randrange(8)):
            known.append(b(Tanh(), rng.choice([v for v in known if v.type.rank])))
        return m.fail("never mind")

    rules = [
        made_rule(lambda p, *r: p.op((Relu, Exp, Add, Sub, Split), *r), rewrite),
        made_rule(lambda p, x, y: p.add(x, y), lambda b, m, x, y: rewrite(b, m, x, y)),
        made_rule(lambda p, *r: p.op((Relu, Exp), *(v.where(is_constant) for v in r)), rewrite),
    ]
    assert not apply(q.graph, rules).changed
    assert calls > 15
    assert exact_text(q.graph) == before
    assert len(q.graph) == count


def test_slips_of_beginners_are_put_into_words() -> None:
    class Doubled(Rule):
        """Relu to something wrong."""

        def __init__(self, wrong: Any) -> None:
            self.wrong = wrong

        def pattern(self, p: Pattern, x: Operand) -> OpPattern:
            return p.relu(x)

        def rewrite(self, b: RewriteBuilder, m: Match, x: Value) -> Outcome:
            return self.wrong(b, x)  # type: ignore[no-any-return]

    p = Program()
    graph = p.finish(p(Relu(), p.input()))
    with pytest.raises(QCompilerError, match=r"operand that is no value[\s\S]*2\.0[\s\S]*b\.constant"):
        apply(graph, [Doubled(lambda b, x: b(Mul(), x, 2.0))])
    with pytest.raises(QCompilerError, match=r"Mul[\s\S]*an op with its attributes"):
        apply(graph, [Doubled(lambda b, x: b(Mul, x, x))])
    with pytest.raises(QCompilerError, match=r"no constraint[\s\S]*wrap a function"):
        Operand("x").where(lambda value: True)  # type: ignore[arg-type]
    with pytest.raises(QCompilerError, match=r"no rule[\s\S]*give Doubled\(\)"):
        apply(graph, [Doubled])  # type: ignore[list-item]
