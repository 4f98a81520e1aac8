"""Programs of every structure: native code equals the reference."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from native_comparison import (
    assert_program_runs_the_same,
    build_code,
)
from written_program import ACT, BYTES, ISAS, N, Written

from qcompiler.backends.tvm.kernel_cache import KernelCache
from qcompiler.ir import Affine, Arithmetic, Value
from qcompiler.ir.scalar import F32, I8, I32, I64
from qcompiler.numerics.fixed_point import INT32_MAX
from qcompiler.ops.contraction import Matmul
from qcompiler.ops.pooling import AveragePool2D, MaxPool2D
from qcompiler.ops.quantization import Clamp, Dequantize
from qcompiler.ops.reduction import ArgMax, Mean, ReduceMax, ReduceSum
from qcompiler.ops.shape import Concat, Expand, Reshape, Transpose
from qcompiler.ops.slicing import Pad, Slice, Split
from qcompiler.program import Program


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> KernelCache:
    """Compiled kernels of all tests here."""
    return KernelCache(tmp_path_factory.mktemp("kernels"))


def write_residual(g: Written, conv_first: bool) -> list[Value]:
    x = g.input(5, 7, 9)
    y = g.conv(g.conv(x))
    return [g.add(y, x) if conv_first else g.add(x, y)]


def write_two_branches(g: Written) -> list[Value]:
    """The sum joins whichever branch comes last; the other one must be in memory by then."""
    x = g.input(5, 7, 9)
    left, right = g.conv(x), g.conv(g.conv(x))
    y = g.add(left, right)
    return [g.add(g.conv(y), y), g.add(y, g.conv(y, groups=9))]


def write_same_value_twice(g: Written) -> list[Value]:
    x = g.input(4, 4, 8)
    y = g.conv(x, 8)
    return [g.add(y, y), g.make(Concat(3), y, y), y]


def write_output_used_inside(g: Written) -> list[Value]:
    """Every stage of a chain is returned, as integers and as real numbers, one of them twice."""
    x = g.input(4, 4, 8)
    y = g.conv(x, 8)
    clamped = g.make(Clamp(-5, 90), y)
    real = g.make(Dequantize(), clamped)
    z = g.add(clamped, x)
    return [y, clamped, real, z, g.make(Dequantize(), z), g.make(Dequantize(), clamped), z]


def write_outputs_that_are_inputs(g: Written) -> list[Value]:
    x = g.input(4, 4, 8)
    return [x, g.make(Reshape((N, 128)), x), g.make(Reshape((N * 16, 8)), x), g.make(Dequantize(), x), x]


def write_reshapes_of_each_other(g: Written) -> list[Value]:
    x = g.conv(g.input(4, 4, 8), 8)
    flat = g.make(Reshape((N, 128)), x)
    back = g.make(Reshape((N, 2, 8, 8)), flat)
    return [flat, x, back, g.make(Dequantize(), flat), g.make(Transpose((0, 3, 1, 2)), x)]


def write_parts_of_a_buffer(g: Written) -> list[Value]:
    """Contiguous parts stand where the whole stands; each is an output of its own size."""
    x = g.make(Reshape((N, 128)), g.conv(g.input(4, 4, 8), 8))
    first, second, nothing, third = g.w.make_all(Split(1, (5, 60, 0, 63)), x)
    begin = g.make(Slice((1,), (0,), (64,), (1,)), x)
    return [first, second, nothing, third, begin, g.make(Concat(1), third, first), g.make(Dequantize(), second)]


def write_parts_before_the_whole(g: Written) -> list[Value]:
    x = g.make(Clamp(-100, 100), g.input(128))
    first, second = g.w.make_all(Split(1, (64, 64)), x)
    return [first, g.make(Dequantize(), first), x, second]


def write_only_the_first_part(g: Written) -> list[Value]:
    x = g.make(Clamp(-100, 100), g.input(128))
    return [g.w.make_all(Split(1, (3, 125)), x)[0]]


def write_concat_of_slices(g: Written) -> list[Value]:
    x = g.input(6, 6, 10)
    a = g.make(Slice((3,), (0,), (4,), (1,)), x)
    b = g.make(Slice((3,), (4,), (10,), (1,)), x)
    every_other = g.make(Slice((1, 2), (0, 5), (6, -1), (2, -1)), x)
    return [g.make(Concat(3), b, a), g.make(Concat(3), a, b, a), every_other,
            g.conv(g.make(Concat(3), b, a), 10), g.make(Concat(1), every_other, every_other)]


def write_several_inputs_and_outputs(g: Written) -> list[Value]:
    x, y = g.input(8, elem=F32), g.input(8, elem=F32)
    fixed = g.w.input((8,), ACT)
    index = g.input(3, elem=I64)
    a, b = g.quantize(x), g.quantize(y, BYTES)
    unused = g.input(2, elem=I32)
    assert not unused.users
    return [g.add(a, fixed), g.make(Dequantize(), b), index, g.make(Dequantize(), a),
            g.make(Concat(1), index, index)]


def write_multiple_of_the_batch(g: Written) -> list[Value]:
    """Leading dimensions 4*N and 24*N: rows of one sample follow one another."""
    x = g.w.input((N * 4, 6, 5), ACT)
    rows = g.make(Reshape((N * 24, 5)), x)
    summed = g.w.cite(ReduceSum((1,), False), Arithmetic("litert-sum"), [rows],
                      Affine.per_tensor(I8, np.float32(0.25), 0))
    pooled = g.make(Reshape((N * 4, 6)), summed)
    together = g.make(Reshape((N, 4, 30)), x)
    return [rows, summed, pooled, g.make(ReduceMax((1,), True), together), g.make(Dequantize(), pooled)]


def write_every_rank(g: Written) -> list[Value]:
    found = []
    for rank in range(1, 7):
        x = g.input(*(3, 4, 2, 5, 3)[: rank - 1])
        y = g.make(Clamp(-9, 50), x)
        found += [g.add(x, y), g.make(Dequantize(), y)]
    return found


def write_broadcast_both_ways(g: Written) -> list[Value]:
    a, b = g.input(1, 4, 6), g.input(5, 1, 6)
    return [g.add(a, b), g.add(b, a), g.add(g.w.constant(ACT, (5, 4, 1)), a), g.add(a, g.w.constant(ACT, ())),
            g.make(Expand((N, 5, 4, 6)), b)]


def write_constant_operands(g: Written) -> list[Value]:
    x = g.input(4, 4, 8)
    constant = g.w.constant(ACT, (1, 4, 4, 8))
    return [g.add(constant, g.conv(x, 8)), g.add(g.conv(x, 8), constant)]


def write_empty_tensors(g: Written) -> list[Value]:
    x = g.input(4, 8)
    nothing = g.make(Slice((1,), (2,), (2,), (1,)), x)
    clamped = g.make(Clamp(-3, 3), nothing)
    return [nothing, clamped, g.make(Dequantize(), clamped), g.make(Concat(1), x, nothing),
            g.make(Transpose((0, 2, 1)), nothing), g.add(nothing, clamped),
            g.make(Pad((0, 1, 0), (0, 2, 0)), nothing)]


def write_sums_of_nothing(g: Written) -> list[Value]:
    """A product over an axis of length 0 is the bias, or 0."""
    x = g.input(3, 0)
    weights = g.w.constant(Affine.per_tensor(I8, np.float32(0.5), 0), (0, 5))
    op = Matmul()
    types = [x.type, weights.type]
    # The least 32-bit number is none that sums may reach: its magnitude is no 32-bit number.
    numbers = g.w.rng.integers(-INT32_MAX, INT32_MAX, 5, np.int32, endpoint=True)
    numbers[:2] = -INT32_MAX, INT32_MAX
    bias = g.w.constant(op.accumulator(types, (N, 3, 5), I32, of_bias=True), (5,), numbers)
    elem = op.accumulator(types, (N, 3, 5), I32)
    return [g.make(op, x, weights, elem=elem), g.make(op, x, weights, bias, elem=elem)]


def write_indices(g: Written) -> list[Value]:
    x = g.input(5, 7)
    found = g.make(ArgMax(2), x)
    return [found, g.make(Concat(1), found, found), g.make(Transpose((0, 2, 1)), found)]


def write_pools_behind_convolutions(g: Written) -> list[Value]:
    x = g.conv(g.input(9, 9, 5), 33)
    average = g.make(AveragePool2D((2, 3), (2, 2), (0, 1, 1, 1), "NHWC", Arithmetic("average-half-away")), x)
    biggest = g.make(MaxPool2D((3, 3), (2, 2), (1, 1), (1, 0, 1, 1), "NHWC"), x)
    mean = g.w.cite(Mean((1, 2)), Arithmetic("litert-mean"), [x], x.type.elem)
    return [average, biggest, mean, g.add(mean, x)]


def write_samples_come_apart_and_together(g: Written) -> list[Value]:
    """Rows that alternate between samples are harmless where they are put back in order."""
    away = g.make(Transpose((1, 0, 2)), g.input(5, 4))
    rows = g.make(Reshape((N * 5, 4)), away)
    mean = g.w.cite(ReduceSum((1,), True), Arithmetic("litert-sum"), [rows], ACT)
    back = g.make(Reshape((5, N, 4)), g.add(g.make(Clamp(-50, 60), rows), mean))
    return [g.make(Transpose((1, 0, 2)), back)]


STRUCTURES: list[Callable[[Written], list[Value]]] = [
    lambda g: write_residual(g, True), lambda g: write_residual(g, False), write_two_branches,
    write_same_value_twice, write_output_used_inside, write_outputs_that_are_inputs, write_reshapes_of_each_other,
    write_parts_of_a_buffer, write_parts_before_the_whole, write_only_the_first_part, write_concat_of_slices,
    write_several_inputs_and_outputs, write_multiple_of_the_batch, write_every_rank, write_broadcast_both_ways,
    write_constant_operands, write_empty_tensors, write_sums_of_nothing, write_indices, write_pools_behind_convolutions,
    write_samples_come_apart_and_together,
]
NAMES = ["residual", "residual-swapped", *(f.__name__.removeprefix("write_") for f in STRUCTURES[2:])]


@pytest.mark.parametrize("write", STRUCTURES, ids=NAMES)
def test_structure(write: Callable[[Written], list[Value]], tmp_path: Path, kernels: KernelCache) -> None:
    g = Written()
    g.check(write(g), tmp_path, kernels)


def test_fixed_batch(tmp_path: Path, kernels: KernelCache) -> None:
    """Static shapes: a library's one run is the whole batch."""
    g = Written(batch=4)
    x = g.input(5, 5, 6)
    y = g.conv(x, 6)
    pooled = g.make(MaxPool2D((2, 2), layout="NHWC"), y)
    mixed = g.make(ReduceMax((0,), True), y)
    g.check([g.add(y, x), pooled, mixed, g.make(Transpose((3, 1, 2, 0)), y), g.conv(x, 6, groups=6)], tmp_path, kernels)


def test_scalars_and_constant_outputs_of_static_programs(tmp_path: Path, kernels: KernelCache) -> None:
    g = Written(batch=3)
    x = g.input(2)
    scalar = g.w.input((), ACT)
    constant = g.w.constant(ACT, (2, 5))
    single = g.make(ReduceMax((0, 1), False), x)
    g.check([g.add(scalar, single), constant, g.make(Dequantize(), scalar), g.add(scalar, x), constant,
             g.make(Dequantize(), constant)], tmp_path, kernels)


def test_constant_outputs_of_a_free_batch(tmp_path: Path, kernels: KernelCache) -> None:
    """What does not depend on the samples has no axis of samples."""
    g = Written()
    constant = g.w.constant(ACT, (2, 5))
    y = g.make(Clamp(-3, 50), g.input(5))
    g.check([constant, y, constant], tmp_path, kernels)
    program = Program(g.w.graph, native=build_code(g.w.graph, ISAS[0], tmp_path, kernels))
    assert_program_runs_the_same(program, g.w.feeds(3), threads=1)


def test_no_inputs(tmp_path: Path, kernels: KernelCache) -> None:
    g = Written(batch=1)
    constant = g.w.constant(ACT, (2, 5))
    g.check([constant, g.make(Dequantize(), g.make(Clamp(-4, 4), constant))], tmp_path, kernels)
