"""Pooling and reduction kernels against numpy and the ops' own definitions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kernel_harness import NO_PRODUCTS, Array, isa_fixture, run_kernel
from rounding_expressions import round_to_int32

from qcompiler.backends.tvm.element import Stage, Step
from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.kernels.epilogue import Epilogue, EpilogueInput, InputKind
from qcompiler.backends.tvm.kernels.pooling import MaxPool, SumPool, Windows
from qcompiler.backends.tvm.kernels.reduction import ArgMax, Reducer, Reduction
from qcompiler.backends.tvm.lanes import Expr, convert, rounded_product
from qcompiler.backends.tvm.stages.averaging import AverageHalfAway
from qcompiler.numerics.rounding import divide_half_away
from qcompiler.ops.pooling import MaxPool2D

LIMIT = EpilogueInput(InputKind.SCALAR, "int32")
PIXEL_COUNT = EpilogueInput(InputKind.PIXEL, "int32")
FORMATS = ("uint8", "int8", "int16")

EXAMPLES = settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@dataclass(frozen=True)
class Centered(Stage):
    """rint((sum - zero points) * ratio) + further, which belongs to a channel."""

    def expression(self, operands: Sequence[Expr]) -> Expr:
        total, zero_points, ratio, further = operands
        return round_to_int32(rounded_product(convert(total - zero_points, "float32"), ratio)) + further


isa = isa_fixture(but=NO_PRODUCTS)


def numbers(shape: tuple[int, ...], dtype: str, rng: np.random.Generator) -> Array:
    """Numbers of a format, its ends among them."""
    info = np.iinfo(dtype)
    return rng.choice([info.min, info.max, *rng.integers(info.min, info.max + 1, 20)], shape).astype(dtype)


@st.composite
def windows(draw: st.DrawFn) -> Windows:
    """Windows of any kind, with all sizes small; each has a cell inside the input."""
    kernel = draw(st.tuples(st.integers(1, 6), st.integers(1, 6)))
    dilations = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    # Cells beside a window that lies within the input are no farther away than its reach.
    reach = [(kernel[i] - 1) * dilations[i] for i in (0, 1)]
    pads = tuple(draw(st.integers(0, min(3, r // 2))) for r in (*reach, *reach))
    least = [max(1, reach[i] + 1 - pads[i] - pads[i + 2]) for i in (0, 1)]
    return Windows(
        least[0] + draw(st.integers(0, 7)), least[1] + draw(st.integers(0, 7)), draw(st.integers(1, 150)), kernel,
        draw(st.tuples(st.integers(1, 3), st.integers(1, 3))), dilations, (pads[0], pads[1], pads[2], pads[3]),
    )


def cells(shape: Windows, x: Array, fill: int) -> Array:
    """All windows ``[OH, OW, C, KH, KW]``, borders filled."""
    op = MaxPool2D(shape.kernel, shape.strides, shape.dilations, shape.pads, "NHWC")
    found: Array = op.padded_windows(x[None], fill)[0]
    return found


@EXAMPLES
@given(shape=windows(), dtype=st.sampled_from(FORMATS), seed=st.integers(0, 1 << 32))
def test_max_pool(isa: InstructionSet, shape: Windows, dtype: str, seed: int) -> None:
    x = numbers((shape.height, shape.width, shape.channels), dtype, np.random.default_rng(seed))
    y = np.zeros((*shape.output_size, shape.channels), dtype)
    run_kernel(MaxPool(shape, dtype), isa, {"x": x, "y": y})
    np.testing.assert_array_equal(y, cells(shape, x, int(np.iinfo(dtype).min)).max((-1, -2)))


@pytest.mark.parametrize("dtype", FORMATS)
def test_padding_never_wins_even_over_the_lowest_number(isa: InstructionSet, dtype: str) -> None:
    shape = Windows(3, 3, 70, (5, 5), (1, 1), (1, 1), (4, 4, 4, 4))
    lowest = np.iinfo(dtype).min
    y = np.zeros((*shape.output_size, 70), dtype)
    run_kernel(MaxPool(shape, dtype), isa, {"x": np.full((3, 3, 70), lowest, dtype), "y": y})
    assert (y == lowest).all()


@EXAMPLES
@given(shape=windows(), dtype=st.sampled_from(FORMATS), seed=st.integers(0, 1 << 32))
def test_average_pool_divides_by_the_cells_inside(isa: InstructionSet, shape: Windows, dtype: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = numbers((shape.height, shape.width, shape.channels), dtype, rng)
    counts = cells(shape, np.ones((shape.height, shape.width, 1), np.int64), 0).sum((-1, -2)).astype(np.int32)
    low, high = sorted(int(n) for n in rng.integers(np.iinfo(dtype).min, np.iinfo(dtype).max + 1, 2))
    step = Step(AverageHalfAway("float64"), (0, 1, 2, 3), True)
    kernel = SumPool(shape, dtype, Epilogue((step,), (PIXEL_COUNT, LIMIT, LIMIT), dtype))
    y = np.zeros((*shape.output_size, shape.channels), dtype)
    scalars = {f"input_{n}": np.array([v], np.int32) for n, v in ((2, low), (3, high))}
    middle = kernel.items(isa) // 2
    late = y.copy()
    arrays = {"x": x, "input_1": counts, **scalars}
    run_kernel(kernel, isa, {**arrays, "y": late}, middle)
    run_kernel(kernel, isa, {**arrays, "y": y}, 0, middle)
    y[middle:] = late[middle:]
    expected = divide_half_away(cells(shape, x.astype(np.int64), 0).sum((-1, -2)), counts)
    np.testing.assert_array_equal(y, np.clip(expected, low, high))


def test_averages_round_ties_away_from_zero(isa: InstructionSet) -> None:
    shape = Windows(1, 2, 40, (1, 2), (1, 1), (1, 1), (0, 0, 0, 0))
    x = np.stack([np.arange(-20, 20), np.arange(-20, 20) + 1])[None].astype(np.int8)
    kernel = SumPool(shape, "int8", Epilogue((Step(AverageHalfAway("float32"), (0, 1)),), (LIMIT,), "int8"))
    y = np.zeros((1, 1, 40), np.int8)
    run_kernel(kernel, isa, {"x": x, "input_1": np.array([2], np.int32), "y": y})
    np.testing.assert_array_equal(y[0, 0], [n if n < 0 else n + 1 for n in range(-20, 20)])


@st.composite
def reductions(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """A shape and some of its axes."""
    shape = tuple(draw(st.lists(st.integers(1, 6), min_size=1, max_size=4)))
    shape = (*shape[:-1], shape[-1] * draw(st.sampled_from([1, 1, 13, 27])))
    axes = draw(st.sets(st.integers(0, len(shape) - 1), min_size=1))
    return shape, tuple(sorted(axes))


@EXAMPLES
@given(case=reductions(), dtype=st.sampled_from(FORMATS), seed=st.integers(0, 1 << 32))
def test_sums_over_any_axes_and_their_requantization(
    isa: InstructionSet, case: tuple[tuple[int, ...], tuple[int, ...]], dtype: str, seed: int
) -> None:
    shape, axes = case
    rng = np.random.default_rng(seed)
    x = numbers(shape, dtype, rng)
    sums = x.sum(axes, dtype=np.int64)
    ratio_input, further_input = EpilogueInput(InputKind.SCALAR, "float32"), EpilogueInput(InputKind.CHANNEL, "int32")
    inputs = (LIMIT, ratio_input, further_input, LIMIT, LIMIT)
    kernel = Reduction(
        shape, axes, Reducer.SUM, dtype, Epilogue((Step(Centered(), tuple(range(6)), True),), inputs, "uint8")
    )
    zero_points, ratio = int(rng.integers(-300, 300)), np.float32(2.0 ** rng.integers(-9, 1))
    further = rng.integers(-50, 300, sums.shape[-1] if sums.ndim else 1).astype(np.int32)
    rounded = np.rint((sums - zero_points).astype(np.float32) * ratio).astype(np.int64)
    constants = [np.array([zero_points], np.int32), np.array([ratio]), kernel.pack_channels(further, isa)]
    constants += [np.array([n], np.int32) for n in (3, 250)]
    y = np.zeros(sums.shape, np.uint8)
    run_kernel(kernel, isa, {"x": x, "y": y, **{f"input_{n}": c for n, c in enumerate(constants, 1)}})
    np.testing.assert_array_equal(y, np.clip(rounded + further.reshape(sums.shape[-1:]), 3, 250))


@EXAMPLES
@given(
    case=reductions(), dtype=st.sampled_from([*FORMATS, "int32"]), reducer=st.sampled_from(list(Reducer)),
    seed=st.integers(0, 1 << 32),
)
def test_reductions_without_steps(
    isa: InstructionSet, case: tuple[tuple[int, ...], tuple[int, ...]], dtype: str, reducer: Reducer, seed: int
) -> None:
    shape, axes = case
    x = numbers(shape, dtype, np.random.default_rng(seed))
    if reducer is Reducer.SUM:
        x = x >> 20 if dtype == "int32" else x
        expected, result = x.sum(axes, dtype=np.int64), "int32"
    else:
        expected, result = getattr(x, reducer.value)(axes), dtype
    kernel = Reduction(shape, axes, reducer, dtype, Epilogue((), (), result))
    y = np.zeros(expected.shape, result)
    middle = kernel.items(isa) // 2
    late = y.copy()
    run_kernel(kernel, isa, {"x": x, "y": late}, middle)
    run_kernel(kernel, isa, {"x": x, "y": y}, 0, middle)
    np.testing.assert_array_equal(np.where(late != 0, late, y), expected)


@EXAMPLES
@given(
    sizes=st.tuples(st.integers(1, 5), st.integers(1, 40), st.integers(1, 5)),
    dtype=st.sampled_from([*FORMATS, "int32"]), seed=st.integers(0, 1 << 32),
)
def test_argmax_takes_the_first_of_equals(
    isa: InstructionSet, sizes: tuple[int, int, int], dtype: str, seed: int
) -> None:
    # Few different numbers: most rows hold their largest one more than once.
    x = np.random.default_rng(seed).choice(np.array([np.iinfo(dtype).min, 3, 5, np.iinfo(dtype).max]), sizes)
    y = np.zeros((sizes[0], sizes[2]), np.int64)
    run_kernel(ArgMax(*sizes, dtype), isa, {"x": x.astype(dtype), "y": y})
    np.testing.assert_array_equal(y, x.astype(dtype).argmax(1))
