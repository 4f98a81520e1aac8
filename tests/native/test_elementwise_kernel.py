"""The element-wise kernel: broadcasting, tails, items, limits."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_harness import NO_PRODUCTS, Array, isa_fixture, run_kernel

from qcompiler.backends.tvm.element import Step
from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.kernels.elementwise import Elementwise, elementwise
from qcompiler.backends.tvm.stages.selection import Identity, Larger, Smaller

isa = isa_fixture(but=NO_PRODUCTS)


def larger_of(a: Array, b: Array, result: str, shape: tuple[int, ...]) -> Elementwise:
    inputs = [(str(x.dtype), x.shape, False) for x in (a, b)]
    return elementwise(shape, inputs, [Step(Larger(), (0, 1))], result)


SHAPES = [
    ((1,), (1,)), ((3,), (3,)), ((16,), (16,)), ((17,), (17,)), ((63,), (63,)), ((64,), (64,)), ((65,), (65,)),
    ((2, 3, 43), (43,)), ((5, 1, 7), (1, 9, 1)), ((2, 5, 24), (2, 1, 24)), ((4, 4100), (4, 1)),
    ((3, 1, 5, 70), (2, 1, 70)), ((20000,), ()), ((2, 1, 3, 1, 4), (2, 5, 1, 6, 1)),
]


@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_shapes_broadcast_and_tails(shapes: tuple[tuple[int, ...], tuple[int, ...]], isa: InstructionSet) -> None:
    rng = np.random.default_rng(len(str(shapes)))
    a, b = (rng.integers(-128, 128, s).astype(np.int8) for s in shapes)
    expected = np.maximum(a, b)
    found = np.zeros(expected.shape, np.int8)
    run_kernel(larger_of(a, b, "int8", expected.shape), isa, {"input_0": a, "input_1": b, "y": found})
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32", "int64", "float32"])
def test_formats(dtype: str, isa: InstructionSet) -> None:
    rng = np.random.default_rng(2)
    info = np.iinfo(dtype) if dtype != "float32" else np.iinfo("int32")
    a, b = (rng.integers(info.min, int(info.max), (7, 41), endpoint=True).astype(dtype) for _ in range(2))
    found = np.zeros(a.shape, dtype)
    run_kernel(larger_of(a, b, dtype, a.shape), isa, {"input_0": a, "input_1": b, "y": found})
    np.testing.assert_array_equal(found, np.maximum(a, b))


def test_items_cover_everything_once_and_nothing_else(isa: InstructionSet) -> None:
    rng = np.random.default_rng(3)
    for shape, other in (((30001,), (30001,)), ((11, 3000), (3000,)), ((3, 9001), (3, 1))):
        a, b = (rng.integers(0, 256, s).astype(np.uint8) for s in (shape, other))
        kernel = larger_of(a, b, "uint8", shape)
        items = kernel.items(isa)
        assert items > 3
        found = np.zeros(shape, np.uint8)
        arrays = {"input_0": a, "input_1": b, "y": found}
        run_kernel(kernel, isa, arrays, 2, items)
        done = np.count_nonzero(found)
        run_kernel(kernel, isa, arrays, 0, 2)
        assert done < np.count_nonzero(found)
        np.testing.assert_array_equal(found, np.maximum(a, b))


def test_neighbouring_dimensions_merge_where_every_input_allows() -> None:
    steps = [Step(Larger(), (0, 1))]
    assert elementwise((4, 5, 6), [("int8", (4, 5, 6), False), ("int8", (), True)], steps, "int8").shape == (120,)
    by_channel = elementwise((4, 5, 6), [("int8", (4, 5, 6), False), ("int8", (6,), True)], steps, "int8")
    assert by_channel.shape == (20, 6)
    assert [i.strides for i in by_channel.inputs] == [(6, 1), (0, 1)]
    by_row = elementwise((4, 5, 6), [("int8", (4, 5, 6), False), ("int8", (4, 1, 1), True)], steps, "int8")
    assert by_row.shape == (4, 30)
    assert [i.strides for i in by_row.inputs] == [(30, 1), (1, 0)]


def test_layers_that_differ_in_sizes_of_1_share_a_kernel() -> None:
    steps = [Step(Identity(), (0,))]
    one, other = (elementwise(s, [("int8", s, False)], steps, "int8") for s in ((1, 8, 8, 3), (192,)))
    assert one == other


@pytest.mark.parametrize("count", [7, 40, 200])
@pytest.mark.parametrize("result", ["int8", "uint8", "int16", "int32"])
def test_limits_of_the_last_step(result: str, count: int, isa: InstructionSet) -> None:
    """Limits shared by all results, limits by channel, and limits of a step in the middle."""
    rng = np.random.default_rng(count)
    x = rng.integers(-300, 300, (6, count)).astype(np.int32)
    low, high = np.asarray(3, np.int32), np.asarray(90, np.int32)
    lows, highs = (np.sort(rng.integers(0, 120, (2, count)), 0)).astype(np.int32)
    dense = [("int32", x.shape, False)]

    def run(steps: list[Step], *constants: Array) -> Array:
        inputs = dense + [(str(c.dtype), c.shape, True) for c in constants]
        found = np.zeros(x.shape, result)
        kernel = elementwise(x.shape, inputs, steps, result)
        run_kernel(kernel, isa, {**{f"input_{i}": a for i, a in enumerate((x, *constants))}, "y": found})
        return found

    shared = run([Step(Identity(), (0, 1, 2), True)], low, high)
    np.testing.assert_array_equal(shared, np.clip(x, low, high))
    by_channel = run([Step(Identity(), (0, 1, 2), True)], lows, highs)
    np.testing.assert_array_equal(by_channel, np.clip(x, lows, highs))
    inner = run([Step(Smaller(), (0, 1, 1, 2), True), Step(Larger(), (3, 1))], low, high)
    np.testing.assert_array_equal(inner, np.maximum(np.clip(np.minimum(x, low), low, high), low))


@pytest.mark.parametrize("count", [5, 20, 500])
@pytest.mark.parametrize("result", ["int8", "uint8"])
def test_bytes_saturate_without_limits(result: str, count: int, isa: InstructionSet) -> None:
    for dtype in ("int32", "int64"):
        x = np.linspace(-(2**31), 2**31 - 1, count).astype(dtype)
        x[::2] = np.random.default_rng(count).integers(-300, 300, x[::2].size)
        found = np.zeros(count, result)
        kernel = elementwise((count,), [(dtype, x.shape, False)], [Step(Identity(), (0,))], result)
        run_kernel(kernel, isa, {"input_0": x, "y": found})
        info = np.iinfo(result)
        np.testing.assert_array_equal(found, np.clip(x, info.min, info.max))
