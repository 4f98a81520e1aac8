"""recognize names functions however a model spells them, and nothing that only looks alike."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from float_programs import FloatProgram, N, check_pass, only, op_names

from qcompiler.ir import Value
from qcompiler.ops.activation import (
    Clip,
    Erf,
    Exp,
    Gelu,
    HardSigmoid,
    HardSwish,
    Power,
    Reciprocal,
    Relu,
    Sigmoid,
    Silu,
    Softplus,
    Tanh,
    UnaryFunction,
)
from qcompiler.ops.activation import Log as NaturalLogarithm
from qcompiler.ops.binary import Add, Div, Mul, Pow, Sub

Spell = Callable[[FloatProgram, Value], Value]


def silu(p: FloatProgram, x: Value) -> Value:
    return p(Mul(), x, p(Sigmoid(), x))


def silu_swapped(p: FloatProgram, x: Value) -> Value:
    return p(Mul(), p(Sigmoid(), x), x)


def silu_by_division(p: FloatProgram, x: Value) -> Value:
    negated = p(Mul(), x, p.constant(-1.0))
    return p(Div(), x, p(Add(), p(Exp(), negated), p.constant(1.0)))


def silu_by_reciprocal(p: FloatProgram, x: Value) -> Value:
    exponential = p(Exp(), p(Sub(), p.constant(0.0), x))
    return p(Mul(), p(Reciprocal(), p(Add(), p.constant(1.0), exponential)), x)


def hard_swish(p: FloatProgram, x: Value) -> Value:
    return p(Div(), p(Mul(), x, p(Clip(0.0, 6.0), p(Add(), x, p.constant(3.0)))), p.constant(6.0))


def hard_swish_inner_division(p: FloatProgram, x: Value) -> Value:
    return p(Mul(), p(Mul(), p(Clip(0.0, 6.0), p(Add(), p.constant(3.0), x)), p.constant(1 / 6)), x)


def hard_swish_by_hard_sigmoid(p: FloatProgram, x: Value) -> Value:
    return p(Mul(), x, p(HardSigmoid(1 / 6, 0.5), x))


def gelu(p: FloatProgram, x: Value) -> Value:
    erf = p(Erf(), p(Div(), x, p.constant(math.sqrt(2))))
    return p(Mul(), p(Mul(), x, p(Add(), erf, p.constant(1.0))), p.constant(0.5))


def gelu_half_first(p: FloatProgram, x: Value) -> Value:
    erf = p(Erf(), p(Mul(), p.constant(math.sqrt(0.5)), x))
    return p(Mul(), p(Mul(), p.constant(0.5), x), p(Add(), p.constant(1.0), erf))


def gelu_half_inside(p: FloatProgram, x: Value) -> Value:
    erf = p(Erf(), p(Mul(), x, p.constant(math.sqrt(0.5))))
    return p(Mul(), p(Mul(), p(Add(), erf, p.constant(1.0)), p.constant(0.5)), x)


def _cube(p: FloatProgram, x: Value, how: str) -> Value:
    if how == "power":
        return p(Power(3.0), x)
    if how == "pow":
        return p(Pow(), x, p.constant(3.0))
    return p(Mul(), p(Mul(), x, x), x)


def gelu_tanh(how: str) -> Spell:
    def spell(p: FloatProgram, x: Value) -> Value:
        inner = p(Add(), x, p(Mul(), p.constant(0.044715), _cube(p, x, how)))
        outer = p(Tanh(), p(Mul(), inner, p.constant(math.sqrt(2 / math.pi))))
        return p(Mul(), p(Mul(), p.constant(0.5), x), p(Add(), outer, p.constant(1.0)))

    spell.__name__ = f"gelu_tanh_{how}"
    return spell


def softplus(p: FloatProgram, x: Value) -> Value:
    return p(NaturalLogarithm(), p(Add(), p(Exp(), x), p.constant(1.0)))


def hard_sigmoid(p: FloatProgram, x: Value) -> Value:
    return p(Div(), p(Clip(0.0, 6.0), p(Add(), x, p.constant(3.0))), p.constant(6.0))


SPELLINGS: list[tuple[Spell, UnaryFunction]] = [
    (silu, Silu()), (silu_swapped, Silu()), (silu_by_division, Silu()), (silu_by_reciprocal, Silu()),
    (hard_swish, HardSwish()), (hard_swish_inner_division, HardSwish()), (hard_swish_by_hard_sigmoid, HardSwish()),
    (gelu, Gelu("none")), (gelu_half_first, Gelu("none")), (gelu_half_inside, Gelu("none")),
    (gelu_tanh("power"), Gelu("tanh")), (gelu_tanh("pow"), Gelu("tanh")), (gelu_tanh("mul"), Gelu("tanh")),
    (softplus, Softplus()), (hard_sigmoid, HardSigmoid(1 / 6, 0.5)),
]


@pytest.mark.parametrize(("spell", "function"), SPELLINGS, ids=lambda v: getattr(v, "__name__", ""))
def test_spelled_functions_get_their_name(spell: Spell, function: UnaryFunction) -> None:
    p = FloatProgram()
    y = spell(p, p(Relu(), p.input(N, 50)))
    graph = p.finish(y)
    layers = [name for node in list(graph.nodes)[1:] for name in node.loc]
    after = check_pass(graph, "recognize,dce")
    assert op_names(after) == ["relu", function.name]
    named = only(after, function.name)
    assert named.op == function
    assert sorted(named.loc) == sorted(layers)
    assert named.result.origin == y.origin


def two_inputs(p: FloatProgram, x: Value) -> Value:
    return p(Mul(), x, p(Sigmoid(), p.input(N, 50, name="other")))


def another_bound(p: FloatProgram, x: Value) -> Value:
    return p(Div(), p(Mul(), x, p(Clip(0.0, 6.5), p(Add(), x, p.constant(3.0)))), p.constant(6.0))


def another_factor(p: FloatProgram, x: Value) -> Value:
    return p(Mul(), x, p(Sigmoid(), p(Mul(), x, p.constant(1.702))))


def another_root(p: FloatProgram, x: Value) -> Value:
    erf = p(Erf(), p(Div(), x, p.constant(1.41)))
    return p(Mul(), p(Mul(), x, p(Add(), erf, p.constant(1.0))), p.constant(0.5))


def per_channel(p: FloatProgram, x: Value) -> Value:
    offsets = p.constant([3.0] * 49 + [3.5])
    return p(Div(), p(Mul(), x, p(Clip(0.0, 6.0), p(Add(), x, offsets))), p.constant(6.0))


def inner_result_used(p: FloatProgram, x: Value) -> Value:
    gate = p(Sigmoid(), x)
    return p(Add(), p(Mul(), x, gate), gate)


def another_shape(p: FloatProgram, x: Value) -> Value:
    return p(Mul(), p(Add(), x, p.constant([[[0.0]]])), p(Sigmoid(), x))


@pytest.mark.parametrize(
    "spell", [two_inputs, another_bound, another_factor, another_root, per_channel, inner_result_used, another_shape],
    ids=lambda f: f.__name__,
)
def test_near_misses_stay(spell: Spell) -> None:
    p = FloatProgram()
    graph = p.finish(spell(p, p.input(N, 50)))
    assert op_names(check_pass(graph, "recognize")) == op_names(graph)


def test_an_inner_result_that_is_an_output_stays() -> None:
    p = FloatProgram()
    x = p.input(N, 50)
    gate = p(Sigmoid(), x)
    graph = p.finish(p(Mul(), x, gate), gate)
    assert op_names(check_pass(graph, "recognize")) == ["sigmoid", "mul"]


def test_long_spellings_stay_when_told_so() -> None:
    p = FloatProgram()
    graph = p.finish(gelu(p, p.input(N, 50)))
    assert op_names(check_pass(graph, "recognize{max-nodes=4}")) == op_names(graph)
    assert op_names(check_pass(graph, "recognize{max-nodes=5}")) == ["gelu"]


def test_functions_in_a_row_are_all_named() -> None:
    p = FloatProgram()
    x = p.input(N, 50)
    for spell in (silu, gelu, hard_swish, silu):
        x = spell(p, x)
    assert op_names(check_pass(p.finish(x), "recognize,dce")) == ["silu", "gelu", "hard_swish", "silu"]


def test_functions_side_by_side_are_all_named() -> None:
    p = FloatProgram()
    x = p.input(N, 50)
    graph = p.finish(p(Add(), silu(p, x), p(Sub(), hard_swish(p, x), gelu(p, x))))
    assert sorted(op_names(check_pass(graph, "recognize,dce"))) == ["add", "gelu", "hard_swish", "silu", "sub"]


@pytest.mark.parametrize("limit", [100.0, 65504.0])
def test_a_clamp_far_out_is_part_of_the_function(limit: float) -> None:
    p = FloatProgram()
    x = p.input(N, 4)
    graph = p.finish(p(Clip(-limit, limit), p(Mul(), x, p(Sigmoid(), x))))
    assert op_names(check_pass(graph, "recognize"))[-1] == "clip"
