"""Every feature of patterns: on a place that fits, and on a near miss."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from sample_rules import Program, all_matches, made_rule, operands_of, ops

from qcompiler.ir import Affine, Fact, Op, Shape, TensorType, Value, verify
from qcompiler.ir.scalar import I8
from qcompiler.ir.types import Elem
from qcompiler.ops.activation import Clip, Exp, Negate, Relu, Sigmoid, Tanh, UnaryFunction
from qcompiler.ops.binary import Add, Div, Maximum, Minimum, Mul, Sub
from qcompiler.ops.contraction import Contraction, Conv2D
from qcompiler.ops.shape import Concat, Reshape
from qcompiler.ops.slicing import Split
from qcompiler.rewrite import (
    Constraint,
    apply,
    has_rank,
    has_storage,
    is_constant,
    is_float,
    is_number,
    is_quantized,
    one_of,
    one_use,
    satisfies,
)


def test_a_variable_that_occurs_twice_stands_for_one_value() -> None:
    q = Program()
    x, y = q.input(name="x"), q.input(name="y")
    q.finish(q(Sub(), x, x), q(Sub(), x, y), q(Sub(), q(Relu(), x), q(Relu(), x)))
    assert operands_of(q.graph, lambda p, a: p.sub(a, a)) == [(x,)]


def test_a_variable_stands_for_one_value_across_levels() -> None:
    q = Program()
    x, y = q.input(name="x"), q.input(name="y")
    q.finish(q(Sub(), x, q(Exp(), x)), q(Sub(), y, q(Exp(), x)))
    assert operands_of(q.graph, lambda p, a: p.sub(a, p.exp(a))) == [(x,)]


def convolutions() -> tuple[Program, list[Value]]:
    q = Program()
    x, w, bias = q.input(1, 2, 4, 4), q.input(2, 2, 1, 1, name="w"), q.input(2, name="bias")
    q.finish(q(Conv2D(), x, w), q(Conv2D(), x, w, bias))
    return q, [x, w, bias]


def test_an_operand_with_the_default_none_may_be_missing() -> None:
    q, (x, w, bias) = convolutions()
    assert operands_of(q.graph, lambda p, x, w, b=None: p.conv2d(x, w, b)) == [(x, w, None), (x, w, bias)]
    assert operands_of(q.graph, lambda p, x, w, b: p.conv2d(x, w, b)) == [(x, w, bias)]
    assert operands_of(q.graph, lambda p, x, w: p.conv2d(x, w)) == [(x, w)]


def test_a_demand_on_a_missing_operand_holds() -> None:
    q, (x, w, _) = convolutions()
    assert operands_of(q.graph, lambda p, x, w, b=None: p.conv2d(x, w, b.where(is_constant))) == [(x, w, None)]


def test_a_missing_operand_is_missing_in_both_places() -> None:
    q, (x, w, bias) = convolutions()
    first, second = (o.value for o in q.graph.outputs)
    for a, b in itertools.product([first, second], repeat=2):
        q(Sub(), a, b)
    found = operands_of(q.graph, lambda p, x, w, b=None: p.sub(p.conv2d(x, w, b), p.conv2d(x, w, b)))
    assert found == [(x, w, None), (x, w, bias)]


def joined() -> tuple[Program, list[Value]]:
    q = Program()
    values = [q.input(1, 2, name=f"x{i}") for i in range(4)]
    q.finish(*(q(Concat(0), *values[:count]) for count in range(1, 5)))
    return q, values


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (lambda p, *r: p.concat(*r), ["|0", "|01", "|012", "|0123"]),
        (lambda p, a, *r: p.concat(a, *r), ["0|", "0|1", "0|12", "0|123"]),
        (lambda p, a, *r: p.concat(*r, a), ["0|", "1|0", "2|01", "3|012"]),
        (lambda p, a, b, *r: p.concat(a, *r, b), ["01|", "02|1", "03|12"]),
        (lambda p, a, b, c, *r: p.concat(a, *r, b, c), ["012|", "023|1"]),
        (lambda p, a: p.concat(a, ...), ["0|", "0|", "0|", "0|"]),
        (lambda p, a: p.concat(..., a), ["0|", "1|", "2|", "3|"]),
        (lambda p, a, b: p.concat(a, ..., b), ["01|", "02|", "03|"]),
        (lambda p: p.concat(...), ["|", "|", "|", "|"]),
    ],
)
def test_any_number_of_operands_stands_anywhere(pattern: Any, expected: list[str]) -> None:
    q, _ = joined()
    single = pattern.__code__.co_argcount - 1
    names = ["".join(v.name[1:] for v in found) for found in operands_of(q.graph, pattern)]
    assert [f"{name[:single]}|{name[single:]}" for name in names] == expected


def test_demands_on_any_number_of_operands_are_demands_on_each() -> None:
    q = Program()
    x, c, d = q.input(1, 2), q.constant([[1, 2]]), q.constant([[3, 4]])
    q.finish(q(Concat(0), c, x), q(Concat(0), c, d), q(Concat(0), x, c))
    assert operands_of(q.graph, lambda p, *r: p.concat(*(v.where(is_constant) for v in r))) == [(c, d)]


def test_any_number_of_operands_is_the_same_number_in_both_places() -> None:
    q = Program()
    x, y = q.input(1, 2, name="x"), q.input(1, 2, name="y")
    xy, also_xy, yx = (q(Concat(0), *pair) for pair in [(x, y), (x, y), (y, x)])
    q.finish(q(Sub(), xy, also_xy), q(Sub(), xy, yx))
    assert operands_of(q.graph, lambda p, *r: p.sub(p.concat(*r), p.concat(*r))) == [(x, y)]


def test_names_give_nodes_values_and_ops() -> None:
    q = Program()
    x = q.input()
    inner = q(Clip(0.0, 6.0), x)
    outer = q(Relu(), inner)
    q.finish(outer)
    ((match, (found,)),) = all_matches(q.graph, lambda p, x: p.relu(p.clip(x, name="inner"), name="outer"))
    assert (match.node("inner"), match.node("outer")) == (inner.producer, outer.producer)
    assert (match["inner"], match["outer"], match["x"]) == (inner, outer, found) == (inner, outer, x)
    assert match.op("inner", Clip).limits == (0.0, 6.0)
    assert match.root is match.roots[0] is outer.producer
    assert match.nodes == [outer.producer, inner.producer]


def test_a_node_that_the_pattern_meets_twice_is_listed_once() -> None:
    q = Program()
    inner = q(Relu(), q.input())
    root = q(Sub(), inner, inner)
    q.finish(root)
    ((match, _),) = all_matches(q.graph, lambda p, x: p.sub(p.relu(x), p.relu(x)))
    assert match.nodes == [root.producer, inner.producer]


@pytest.mark.parametrize(
    ("demand", "expected"),
    [
        (6.0, [6.0]), (one_of(1.0, 6.0), [1.0, 6.0]), (satisfies("above 5", lambda v: v > 5), [6.0, 9.0]),
        (7.0, []), (one_of(), []),
    ],
)
def test_demands_on_attributes(demand: Any, expected: list[float]) -> None:
    q = Program()
    x = q.input()
    q.finish(*(q(Clip(0.0, high), x) for high in (1.0, 6.0, 9.0)))
    by_name = all_matches(q.graph, lambda p, x: p.clip(x, name="c", maximum=demand))
    by_class = all_matches(q.graph, lambda p, x: p.op(Clip, x, name="c", maximum=demand))
    for found in (by_name, by_class):
        assert [m.op("c", Clip).maximum for m, _ in found] == expected


@pytest.mark.parametrize(
    ("constraint", "expected"),
    [
        (is_constant, "number list"), (is_number, "number"), (is_float, "x image used number list"),
        (is_quantized(), "i8"), (is_quantized(8), "i8"), (is_quantized(16), ""), (has_storage("i8"), "i8"),
        (has_storage("i8", "f32"), "x image used i8 number list"),
        (has_rank(3), "image"), (has_rank(1, 3), "x image used i8 list"),
        (Constraint("called x", lambda v: v.name == "x"), "x"),
    ],
)
def test_demands_on_values(constraint: Constraint, expected: str) -> None:
    q = Program()
    number, numbers = q.constant(2.0), q.constant([1, 2])
    values = {
        "x": q.input(), "image": q.input(1, 2, 3, name="image"), "used": q.input(name="used"),
        "i8": q.input(name="i8", elem=Affine.per_tensor(I8, 0.5)), "number": number, "list": numbers,
    }
    q.finish(*(q(Reshape(v.type.shape), v) for v in values.values()))
    found = operands_of(q.graph, lambda p, v: p.reshape(v.where(constraint)))
    assert found == [(values[name],) for name in expected.split()]


def test_one_use_means_one_operand_of_one_node() -> None:
    q = Program()
    x = q.input()
    once, by_two, twice_by_one, returned = (q(op, x) for op in (Exp(), Tanh(), Sigmoid(), Negate()))
    q.finish(
        q(Relu(), once), q(Relu(), by_two), q(Relu(), by_two), q(Sub(), twice_by_one, twice_by_one),
        q(Relu(), returned), returned,
    )
    found = all_matches(q.graph, lambda p, x: p.relu(p.op(UnaryFunction, x, name="u").where(one_use)))
    assert [m["u"] for m, _ in found] == [once]
    assert operands_of(q.graph, lambda p, a, b: p.sub(a.where(one_use), b)) == []


def test_demands_add_up() -> None:
    q = Program()
    x, image, numbers, number = q.input(), q.input(1, 2, name="image"), q.constant([1.0]), q.constant([[1.0]])
    q.finish(*(q(Relu(), v) for v in (x, image, numbers, number)))
    assert operands_of(q.graph, lambda p, v: p.relu(v.where(has_rank(2)).where(is_constant))) == [(number,)]
    assert operands_of(q.graph, lambda p, v: p.relu(v.where(has_rank(2), is_constant))) == [(number,)]


def test_demands_on_the_root() -> None:
    q = Program()
    x = q.input()
    first, second = q(Relu(), x), q(Relu(), x)
    q.finish(q(Exp(), first), second, second)
    assert [m.root for m, _ in all_matches(q.graph, lambda p, x: p.relu(x).where(one_use))] == [first.producer]


def test_demands_on_a_further_root() -> None:
    q = Program()
    x = q.input()
    relu, used, returned = q(Relu(), x), q(Exp(), x), q(Exp(), x)
    q.finish(relu, q(Tanh(), used), returned)
    found = all_matches(q.graph, lambda p, x: (p.relu(x), p.exp(x).where(one_use)))
    assert [m.roots[1] for m, _ in found] == [used.producer]


def test_demands_on_a_root_of_several_results_are_demands_on_each() -> None:
    q = Program()
    x = q.input(4)
    both, one = q.node(Split(0, (2, 2)), x), q.node(Split(0, (2, 2)), x)
    q.finish(q(Relu(), both.results[0]), q(Relu(), both.results[1]), q(Relu(), one.results[0]))
    assert [m.root for m, _ in all_matches(q.graph, lambda p, x: p.split(x).where(one_use))] == [both]


def test_a_result_is_told_from_its_neighbours() -> None:
    q = Program()
    x = q.input(6)
    parts = q.node(Split(0, (2, 2, 2)), x).results
    relus = [q.node(Relu(), part) for part in parts]
    q.finish(*(n.result for n in relus))
    for index in range(3):
        assert [m.root for m, _ in all_matches(q.graph, _relu_of_part(index))] == [relus[index]]
    assert [m.root for m, _ in all_matches(q.graph, lambda p, x: p.relu(p.split(x)))] == [relus[0]]
    assert operands_of(q.graph, _relu_of_part(3)) == []


def _relu_of_part(index: int) -> Any:
    return lambda p, x: p.relu(p.split(x)[index])


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (Add, ["add"]), ((Add, Div), ["add", "div"]), (Fact.COMMUTATIVE, ["add", "mul", "maximum"]),
        (Fact.ELEMENTWISE, ["add", "sub", "mul", "div", "maximum"]),
    ],
)
def test_ops_by_class_classes_and_fact(kind: Any, expected: list[str]) -> None:
    q = Program()
    x, y = q.input(name="x"), q.input(name="y")
    q.finish(*(q(op, x, y) for op in (Add(), Sub(), Mul(), Div(), Maximum())))
    assert [m.root.op.name for m, _ in all_matches(q.graph, lambda p, a, b: p.op(kind, a, b, ordered=True))] == expected


def test_an_op_by_its_base_class() -> None:
    q, (x, w, _) = convolutions()
    assert len(operands_of(q.graph, lambda p, x, w: p.op(Contraction, x, w, ...))) == 2
    assert operands_of(q.graph, lambda p, x, w: p.op(Contraction, x, w)) == [(x, w)]


@pytest.mark.parametrize("kind", ["add", (Add, Mul), Fact.COMMUTATIVE, Fact.COMMUTATIVE | Fact.ELEMENTWISE])
@pytest.mark.parametrize("ordered", [False, True])
def test_commutative_ops_match_in_either_order(kind: Any, ordered: bool) -> None:
    q = Program()
    x, c = q.input(), q.constant([1, 2, 3, 4])
    q.finish(q(Add(), x, c), q(Add(), c, x))

    def pattern(p: Any, a: Any, k: Any) -> Any:
        constant = k.where(is_constant)
        return p.add(a, constant, ordered=ordered) if kind == "add" else p.op(kind, a, constant, ordered=ordered)

    assert operands_of(q.graph, pattern) == [(x, c)] * (1 if ordered else 2)


def test_other_ops_match_in_order_alone() -> None:
    q = Program()
    x, c = q.input(), q.constant([1, 2, 3, 4])
    q.finish(q(Sub(), x, c), q(Sub(), c, x))
    assert operands_of(q.graph, lambda p, a, k: p.sub(a, k.where(is_constant))) == [(x, c)]
    # A class that does not commute among several keeps them all in order.
    assert operands_of(q.graph, lambda p, a, k: p.op((Add, Sub), a, k.where(is_constant))) == [(x, c)]


@pytest.mark.parametrize(("swap_outer", "swap_inner"), list(itertools.product([False, True], repeat=2)))
def test_nested_commutative_ops_match_in_all_orders(swap_outer: bool, swap_inner: bool) -> None:
    q = Program()
    x, y, c = q.input(name="x"), q.input(name="y"), q.constant([1, 2, 3, 4])
    inner = q(Mul(), *([c, x] if swap_inner else [x, c]))
    q.finish(q(Add(), *([y, inner] if swap_outer else [inner, y])))
    found = operands_of(q.graph, lambda p, a, k, b: p.add(p.mul(a, k.where(is_constant)), b))
    assert found == [(x, c, y)]


def test_a_variable_in_a_commutative_op_and_its_operand() -> None:
    q = Program()
    x, y = q.input(name="x"), q.input(name="y")
    for left, right in itertools.product([x, y], repeat=2):
        inner = q(Mul(), left, right)
        q(Add(), inner, x)
        q(Add(), x, inner)
    q.finish()
    # x + x*b, in whatever order: the eight sums but those of y*y; x*x fits twice.
    found = operands_of(q.graph, lambda p, a, b: p.add(a, p.mul(a, b)))
    assert sorted(b.name for _, b in found) == ["x"] * 4 + ["y"] * 4
    assert {a for a, _ in found} == {x}


def test_any_further_operands_of_a_commutative_op() -> None:
    q = Program()
    x = q.input()
    e = q(Exp(), x)
    first, second, neither = q(Add(), e, x), q(Add(), x, e), q(Add(), x, x)
    q.finish(first, second, neither)
    roots = [m.root for m, _ in all_matches(q.graph, lambda p, a: p.add(p.exp(a), ...))]
    assert roots == [first.producer, second.producer]
    roots = [m.root for m, _ in all_matches(q.graph, lambda p, a: p.add(p.exp(a), ..., ordered=True))]
    assert roots == [first.producer]


@dataclass(frozen=True)
class Sum(Op):
    """The sum of any number of values, of which the first two may change places."""

    name = "sum"
    facts = Fact.COMMUTATIVE

    def infer_shapes(self, operands: Sequence[TensorType]) -> tuple[Shape, ...]:
        return (operands[0].shape,)

    def infer_elems(self, operands: Sequence[TensorType]) -> tuple[Elem | None, ...]:
        return (operands[0].elem,)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (lambda p, a: p.op(Sum, p.exp(a), ...), ["e", "ex", "xe", "exx", "xex"]),
        (lambda p, a: p.op(Sum, p.exp(a), ..., ordered=True), ["e", "ex", "exx"]),
        (lambda p, a, b, *r: p.op(Sum, p.exp(a), b, *r), ["ex", "xe", "exx", "xex"]),
    ],
)
def test_only_the_first_two_operands_change_places(pattern: Any, expected: list[str]) -> None:
    q = Program()
    x = q.input()
    e = q(Exp(), x)
    for places in ("e", "x", "ex", "xe", "xx", "exx", "xex", "xxe"):
        q(Sum(), *({"e": e, "x": x}[place] for place in places))
    q.finish()
    roots = [m.root for m, _ in all_matches(q.graph, pattern)]
    assert ["".join("e" if v is e else "x" for v in root.operands) for root in roots] == expected


def test_alternatives_inside_are_tried_in_order() -> None:
    q = Program()
    x = q.input()
    relu, clip, tanh = q(Relu(), x), q(Clip(), x), q(Tanh(), x)
    q.finish(*(q(Exp(), v) for v in (relu, clip, tanh)))
    assert operands_of(q.graph, lambda p, a: p.exp(p.any_of(p.relu(a), p.clip(a)))) == [(x,), (x,)]
    # The value itself comes second for relu, and is the only choice for the others.
    assert operands_of(q.graph, lambda p, a: p.exp(p.any_of(p.relu(a), a))) == [(x,), (relu,), (clip,), (tanh,)]


def test_alternatives_as_the_root() -> None:
    q = Program()
    x = q.input()
    roots = [q.node(op, x) for op in (Relu(), Clip(), Tanh())]
    q.finish(*(n.result for n in roots))
    found = all_matches(q.graph, lambda p, a: p.any_of(p.relu(a), p.tanh(a)))
    assert [m.root for m, _ in found] == [roots[0], roots[2]]


def test_demands_on_alternatives() -> None:
    q = Program()
    x = q.input()
    once, twice = q(Relu(), x), q(Clip(), x)
    q.finish(q(Exp(), once), q(Exp(), twice), q(Exp(), twice))
    pattern = lambda p, a: p.exp(p.any_of(p.relu(a), p.clip(a)).where(one_use))  # noqa: E731
    assert [m.root.operands[0] for m, _ in all_matches(q.graph, pattern)] == [once]


def test_an_operand_that_only_some_choices_have() -> None:
    q = Program()
    x, y = q.input(name="x"), q.input(name="y")
    q.finish(q(Sub(), x, y), q(Exp(), x))
    assert operands_of(q.graph, lambda p, a, b=None: p.any_of(p.sub(a, b), p.exp(a))) == [(x, y), (x, None)]


def test_a_program_input_is_no_op() -> None:
    q = Program()
    x = q.input()
    q.finish(q(Exp(), x))
    assert operands_of(q.graph, lambda p, a: p.exp(p.relu(a))) == []


def test_the_operand_count_must_fit() -> None:
    q, values = joined()
    assert operands_of(q.graph, lambda p, a, b: p.concat(a, b)) == [(values[0], values[1])]


def test_commutative_selection_agrees_with_a_search_over_all_orders() -> None:
    """min(max(a, k1), k2) with constants, against a plain program text of the same question."""
    rng = random.Random(4)
    for _ in range(60):
        q = Program()
        values = [q.input(name="x"), q.input(name="y"), q.constant([1] * 4), q.constant([2] * 4)]
        for _ in range(12):
            values.append(q(rng.choice([Minimum(), Maximum()]), rng.choice(values), rng.choice(values)))
        q.finish(values[-1])
        pattern = lambda p, a, k, n: p.minimum(p.maximum(a, k.where(is_constant)), n.where(is_constant))  # noqa: E731
        expected = set()
        for node in q.graph.nodes:
            for inner, n in itertools.permutations(node.operands) if node.op.name == "minimum" else ():
                if inner.producer is None or inner.producer.op.name != "maximum" or not is_constant.holds(n):
                    continue
                expected |= {
                    (node, a, k, n) for a, k in itertools.permutations(inner.producer.operands) if is_constant.holds(k)
                }
        assert {(m.root, *found) for m, found in all_matches(q.graph, pattern)} == expected


def test_an_expanded_pattern_replaces_what_it_found() -> None:
    q = Program()
    x, y, c = q.input(name="x"), q.input(name="y"), q.constant([1, 2, 3, 4])
    q.finish(q(Add(), y, q(Mul(), c, x)))
    fuse = made_rule(
        lambda p, a, k, s: p.add(p.mul(a, k.where(is_constant)), s), lambda b, m, a, k, s: b(Sub(), b(Div(), a, k), s)
    )
    assert apply(q.graph, [fuse]).rewrites == {"sample": 1}
    verify(q.graph)
    assert ops(q.graph) == ["constant", "div", "sub"]
    assert [v.name for v in q.graph.outputs[0].value.producer.operands[1:]] == ["y"]  # type: ignore[union-attr]
