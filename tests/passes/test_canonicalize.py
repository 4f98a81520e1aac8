"""The rules of canonicalize: each on the program it rewrites, and on near misses that must stay."""

from __future__ import annotations

import math

import numpy as np
import pytest
from float_programs import FloatProgram, N, check_pass, only, op_names, run_passes

from qcompiler.ir import Op, SymbolicDim
from qcompiler.ir.scalar import F32
from qcompiler.ops.activation import Clip, Relu
from qcompiler.ops.binary import Add, Div, Maximum, Minimum, Mul, Sub
from qcompiler.ops.contraction import Conv2D, Matmul
from qcompiler.ops.pooling import AveragePool2D
from qcompiler.ops.quantization import Cast
from qcompiler.ops.reduction import Mean
from qcompiler.ops.shape import Concat, Expand, Reshape, Transpose
from qcompiler.ops.slicing import Pad, Slice

IDENTITIES: list[Op] = [
    Reshape((N, 4, 3)), Transpose((0, 1, 2)), Expand((1, 1, 3)), Slice((1,), (0,), (4,), (1,)), Cast(F32),
    Pad((0, 0, 0), (0, 0, 0)), Concat(1), Clip(),
]


@pytest.mark.parametrize("op", IDENTITIES, ids=lambda o: o.name)
def test_identities_vanish(op: Op) -> None:
    p = FloatProgram()
    y = p(op, p(Relu(), p.input(N, 4, 3), layer="first"), layer="gone")
    after = check_pass(p.finish(p(Add(), y, y)), "canonicalize")
    assert op_names(after) == ["relu", "add"]
    assert only(after, "relu").loc == ("first", "gone")


@pytest.mark.parametrize(
    "op",
    [
        Slice((1,), (3,), (-1,), (-1,)), Transpose((0, 2, 1)), Reshape((N, 2, 2, 4)), Pad((0, 0, 1), (0, 0, 0)),
        Expand((1, 4, 4)), Clip(0.5, math.inf),
    ],
    ids=lambda o: o.name,
)
def test_other_ops_stay(op: Op) -> None:
    p = FloatProgram()
    x = p.input(N, 4, 1) if op.name == "expand" else p.input(N, 4, 4)
    graph = p.finish(p(op, x))
    assert op_names(check_pass(graph, "canonicalize")) == [op.name]


@pytest.mark.parametrize(
    ("first", "second", "left"),
    [
        ((0, 2, 1), (0, 2, 1), []), ((1, 0, 2), (0, 2, 1), [(1, 2, 0)]), ((2, 0, 1), (1, 2, 0), []),
        ((2, 0, 1), (2, 0, 1), [(1, 2, 0)]),
    ],
)
def test_transposes_merge(
    first: tuple[int, ...], second: tuple[int, ...], left: list[tuple[int, ...]]
) -> None:
    p = FloatProgram()
    y = p(Transpose(second), p(Transpose(first), p.input(3, 4, 5)))
    after = check_pass(p.finish(p(Relu(), y)), "canonicalize")
    assert [n.op.attributes()["permutation"] for n in after.nodes if n.op.name == "transpose"] == left


def test_a_transpose_with_another_user_stays_for_it() -> None:
    p = FloatProgram()
    inner = p(Transpose((0, 2, 1)), p.input(N, 4, 5))
    after = check_pass(p.finish(p(Transpose((0, 2, 1)), inner), p(Relu(), inner)), "canonicalize")
    assert op_names(after) == ["transpose", "relu"]


def test_transposes_of_ones_are_reshapes() -> None:
    p = FloatProgram()
    y = p(Transpose((0, 2, 3, 1)), p.input(N, 4, 1, 1))
    assert op_names(check_pass(p.finish(y), "canonicalize")) == ["reshape"]
    p = FloatProgram()
    y = p(Transpose((0, 2, 3, 1)), p.input(N, 4, 1, 2))
    assert op_names(check_pass(p.finish(y), "canonicalize")) == ["transpose"]


def test_reshapes_merge() -> None:
    p = FloatProgram()
    x = p(Reshape((SymbolicDim("N", 4), 3)), p.input(N, 4, 3))
    after = check_pass(p.finish(p(Reshape((N, 12)), x)), "canonicalize")
    assert op_names(after) == ["reshape"]
    assert after.outputs[0].value.origin == p.graph.outputs[0].value.origin


CLAMPS = [(0.0, math.inf), (-1.0, 1.0), (0.5, 2.0), (-math.inf, 0.25), (3.0, 4.0), (-4.0, -3.0)]


@pytest.mark.parametrize("inner", CLAMPS)
@pytest.mark.parametrize("outer", CLAMPS)
def test_clamps_merge(inner: tuple[float, float], outer: tuple[float, float]) -> None:
    p = FloatProgram()
    y = p(Clip(*outer), p(Clip(*inner), p.input(N, 40)))
    after = check_pass(p.finish(y), "canonicalize")
    assert len(op_names(after)) == 1


def test_a_clamp_with_another_user_stays() -> None:
    p = FloatProgram()
    inner = p(Relu(), p.input(N, 4))
    after = check_pass(p.finish(p(Clip(0.0, 6.0), inner), inner), "canonicalize")
    assert op_names(after) == ["relu", "clip"]


@pytest.mark.parametrize(("op", "expected"), [(Maximum(), "relu"), (Minimum(), "clip")])
@pytest.mark.parametrize("swapped", [False, True])
def test_selection_against_a_number_is_a_clamp(op: Op, expected: str, swapped: bool) -> None:
    p = FloatProgram()
    operands = [p.input(N, 4), p.constant([[0.0]])]
    after = check_pass(p.finish(p(op, *(operands[::-1] if swapped else operands))), "canonicalize,dce")
    assert op_names(after) == [expected]


def test_selection_against_several_numbers_stays() -> None:
    for bound in ([0.0, 1.0, 2.0, 3.0], [[[0.0]]]):
        p = FloatProgram()
        after = check_pass(p.finish(p(Maximum(), p.input(N, 4), p.constant(bound))), "canonicalize")
        assert op_names(after) == ["maximum"]


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("shape", [(1,), (6, 1, 1), (1, 6, 1, 1), ()])
@pytest.mark.parametrize("swapped", [False, True])
def test_constant_additions_become_biases(before: bool, shape: tuple[int, ...], swapped: bool) -> None:
    p = FloatProgram()
    conv = p(Conv2D(), p.input(N, 4, 5, 5), p.normal(6, 4, 3, 3), *([p.normal(6)] if before else []))
    operands = [conv, p.normal(*shape)]
    after = check_pass(p.finish(p(Add(), *(operands[::-1] if swapped else operands))), "canonicalize,dce")
    assert op_names(after) == ["conv2d"]
    assert only(after, "conv2d").result.origin == p.graph.outputs[0].value.origin


@pytest.mark.parametrize("why", ["spatial", "last axis", "wider result", "two users", "output", "computed bias"])
def test_other_additions_stay(why: str) -> None:
    p = FloatProgram()
    x = p.input(1, 4, 5, 5)
    bias = [p.input(3, name="b")] if why == "computed bias" else []
    conv = p(Conv2D(), x, p.normal(3, 4, 3, 3), *bias)
    added = {"spatial": (3, 3), "last axis": (3,), "wider result": (2, 3, 1, 1)}.get(why, (3, 1, 1))
    total = p(Add(), conv, p.normal(*added))
    outputs = [total, p(Relu(), conv)] if why == "two users" else [total, conv] if why == "output" else [total]
    assert "add" in op_names(check_pass(p.finish(*outputs), "canonicalize"))


def test_matmul_biases_are_on_the_last_axis() -> None:
    for shape, left in (((6,), ["matmul"]), ((1, 6), ["matmul"]), ((3, 1), ["matmul", "add"])):
        p = FloatProgram()
        y = p(Add(), p(Matmul(), p.input(3, 4), p.normal(4, 6)), p.normal(*shape))
        assert op_names(check_pass(p.finish(y), "canonicalize,dce")) == left


def test_an_average_over_the_image_is_a_mean() -> None:
    p = FloatProgram()
    after = check_pass(p.finish(p(AveragePool2D((5, 6)), p.input(N, 4, 5, 6))), "canonicalize")
    assert only(after, "mean").op == Mean((2, 3), True)
    p = FloatProgram()
    after = check_pass(p.finish(p(AveragePool2D((5, 6), layout="NHWC"), p.input(N, 5, 6, 4))), "canonicalize")
    assert only(after, "mean").op == Mean((1, 2), True)
    for pool in (AveragePool2D((5, 5)), AveragePool2D((5, 6), pads=(1, 1, 1, 1))):
        p = FloatProgram()
        after = check_pass(p.finish(p(pool, p.input(N, 4, 5, 6))), "canonicalize")
        assert op_names(after) == ["average_pool2d"]


@pytest.mark.parametrize(
    ("op", "value", "side", "vanishes"),
    [
        (Mul(), 1.0, 0, True), (Mul(), 1.0, 1, True), (Div(), 1.0, 1, True), (Div(), 1.0, 0, False),
        (Add(), 0.0, 0, True), (Add(), 0.0, 1, True), (Sub(), 0.0, 1, True), (Sub(), 0.0, 0, False),
        (Mul(), 0.0, 1, False), (Add(), 1.0, 1, False),
    ],
)
def test_neutral_operands_vanish(op: Op, value: float, side: int, vanishes: bool) -> None:
    p = FloatProgram()
    operands = [p.input(N, 4)]
    operands.insert(side, p.constant(np.full((1, 4), value)))
    graph = p.finish(p(Relu(), p(op, *operands)))
    after = run_passes(graph, "canonicalize,dce")
    assert op_names(after) == (["relu"] if vanishes else [op.name, "relu"])


def test_a_neutral_operand_that_widens_the_result_stays() -> None:
    p = FloatProgram()
    after = check_pass(p.finish(p(Mul(), p.input(N, 1), p.constant(np.ones((1, 4))))), "canonicalize")
    assert op_names(after) == ["mul"]
