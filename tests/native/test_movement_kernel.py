"""Kernels that move numbers or look them up: every result equals numpy's."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from kernel_harness import NO_PRODUCTS, Array, isa_fixture, run_kernel

from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.kernel import Kernel
from qcompiler.backends.tvm.kernels.gather import Gather
from qcompiler.backends.tvm.kernels.movement import (
    Fill,
    StridedCopy,
    box_copy,
    broadcast_copy,
    contiguous_copy,
    slice_copy,
)
from qcompiler.backends.tvm.kernels.table import TableLookup
from qcompiler.backends.tvm.kernels.transpose import Transpose, transpose

lookup_isa = isa_fixture()


isa = isa_fixture(but=NO_PRODUCTS)


def integers(seed: int, shape: tuple[int, ...], dtype: str) -> Array:
    info = np.iinfo(dtype)
    return np.random.default_rng(seed).integers(info.min, int(info.max), shape, endpoint=True).astype(dtype)


def check(kernel: Kernel, isa: InstructionSet, expected: Array, **inputs: Array) -> None:
    """Run all items, the later ones first, into memory that holds something else."""
    found = np.ascontiguousarray(expected ^ np.asarray(1, expected.dtype))
    middle = kernel.items(isa) // 2
    run_kernel(kernel, isa, {**inputs, "y": found}, middle)
    run_kernel(kernel, isa, {**inputs, "y": found}, 0, middle)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("count", [1, 3, 63, 64, 65, 8192, 16384, 20011])
def test_contiguous_copy(count: int, isa: InstructionSet) -> None:
    x = integers(count, (count,), "uint8")
    check(contiguous_copy(count, "uint8"), isa, x, x=x)


def test_long_copies_are_cut_into_items(isa: InstructionSet) -> None:
    assert contiguous_copy(1 << 16, "uint8").items(isa) == 8
    assert contiguous_copy(3 * 5 * 224 * 224, "int32").items(isa) > 50


@pytest.mark.parametrize(("count", "dtype"), [(1, "int8"), (70, "uint8"), (9001, "int8"), (33, "int32")])
def test_fill(count: int, dtype: str, isa: InstructionSet) -> None:
    value = integers(4, (1,), dtype)
    check(Fill(count, dtype), isa, np.full(count, value[0]), value=value)


@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64"])
@pytest.mark.parametrize(
    ("starts", "counts", "steps"),
    [
        ((0, 0, 0), (5, 7, 70), (1, 1, 1)), ((1, 2, 3), (3, 4, 60), (1, 1, 1)), ((0, 6, 69), (3, 7, 24), (2, -1, -3)),
        ((4, 0, 5), (1, 7, 1), (1, 1, 1)), ((0, 3, 0), (5, 1, 70), (1, 1, 1)),
    ],
)
def test_slice(
    starts: tuple[int, ...], counts: tuple[int, ...], steps: tuple[int, ...], dtype: str, isa: InstructionSet
) -> None:
    x = integers(5, (5, 7, 70), dtype)
    index = np.ix_(*(s + t * np.arange(c) for s, c, t in zip(starts, counts, steps, strict=True)))
    check(slice_copy(x.shape, starts, counts, steps, dtype), isa, x[index], x=x)


def test_boxes_leave_everything_else_alone(isa: InstructionSet) -> None:
    """The parts of a concatenation along each axis, and what padding surrounds."""
    for axis in range(3):
        parts = [integers(axis + n, tuple(n if i == axis else 9 for i in range(3)), "int8") for n in (1, 4, 20)]
        whole = np.concatenate(parts, axis)
        found, begin = np.zeros_like(whole), 0
        for number, part in enumerate(parts):
            starts = [begin if i == axis else 0 for i in range(3)]
            run_kernel(box_copy(part.shape, whole.shape, starts, "int8"), isa, {"x": part, "y": found})
            begin += part.shape[axis]
            if number == 0:
                assert not np.take(found, range(begin, whole.shape[axis]), axis).any()
        np.testing.assert_array_equal(found, whole)


@pytest.mark.parametrize(
    ("shape", "target"),
    [((1,), (70,)), ((3, 1), (3, 100)), ((1, 5), (4, 5)), ((2, 1, 3, 1), (2, 4, 3, 5)), ((), (6, 2)), ((4, 7), (4, 7))],
)
@pytest.mark.parametrize("dtype", ["uint8", "int16"])
def test_broadcast(shape: tuple[int, ...], target: tuple[int, ...], dtype: str, isa: InstructionSet) -> None:
    x = integers(6, shape, dtype)
    check(broadcast_copy(shape, target, dtype), isa, np.array(np.broadcast_to(x, target)), x=x)


@pytest.mark.parametrize("dtype", ["uint8", "int32"])
def test_every_permutation(dtype: str, isa: InstructionSet) -> None:
    x = integers(7, (3, 20, 1, 17), dtype)
    kernels = {transpose(x.shape, p, dtype): p for p in permutations(range(4))}
    assert len(kernels) == 6
    for kernel, permutation in kernels.items():
        check(kernel, isa, x.transpose(permutation), x=x)


@pytest.mark.parametrize(
    ("shape", "permutation"),
    [
        ((1, 3, 50, 31), (0, 2, 3, 1)), ((1, 50, 31, 3), (0, 3, 1, 2)), ((2, 33, 65), (0, 2, 1)), ((16, 16), (1, 0)),
        ((2, 8, 40), (0, 2, 1)), ((40, 5), (1, 0)), ((15, 15), (1, 0)), ((4, 3, 5, 37), (1, 3, 0, 2)), ((9,), (0,)),
        ((1, 1), (1, 0)),
    ],
)
def test_transposes_of_layouts_and_tails(
    shape: tuple[int, ...], permutation: tuple[int, ...], isa: InstructionSet
) -> None:
    x = integers(8, shape, "int8")
    check(transpose(shape, permutation, "int8"), isa, x.transpose(permutation), x=x)


def test_permutations_that_move_runs_copy_them() -> None:
    assert isinstance(transpose((4, 5, 6), (1, 0, 2), "int8"), StridedCopy)
    assert isinstance(transpose((4, 5, 6), (2, 0, 1), "int8"), Transpose)
    assert transpose((1, 20, 30, 1), (0, 2, 3, 1), "int8") == transpose((20, 30), (1, 0), "int8")


@pytest.mark.parametrize("inner", [1, 6, 100])
def test_gather_along_two_axes(inner: int, isa: InstructionSet) -> None:
    rng = np.random.default_rng(9)
    x = integers(9, (2, 7, 11, inner), "uint8")
    rows, columns = rng.integers(0, 7, 9, np.int32), rng.integers(0, 11, 4, np.int32)
    kernel = Gather("uint8", 2, (7, 11), (9, 4), inner)
    check(kernel, isa, x[:, rows][:, :, columns], x=x, index_0=rows, index_1=columns)


@pytest.mark.parametrize(
    ("source", "result"), [("uint8", "int8"), ("int8", "uint8"), ("int8", "int8"), ("uint8", "int16")]
)
@pytest.mark.parametrize("count", [7, 256, 10007])
def test_table_lookup(source: str, result: str, count: int, lookup_isa: InstructionSet) -> None:
    isa = lookup_isa
    table, x = integers(11, (256,), result), integers(12, (count,), source)
    lowest = int(np.iinfo(source).min)
    x[: min(count, 256)] = (np.arange(256) + lowest).astype(source)[:count]
    check(TableLookup(count, source, result), isa, table[x.astype(np.int64) - lowest], x=x, table=table)
