"""The depthwise kernel against plain int64 sums, for all shapes and instruction sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kernel_harness import NO_LOOKUPS, Array, isa_fixture, run_kernel
from rounding_expressions import FloatRequantize

from qcompiler.backends.tvm.element import Stage, Step
from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.kernels.depthwise import Depthwise
from qcompiler.backends.tvm.kernels.depthwise_layout import dot_order, parts_of, tap_groups
from qcompiler.backends.tvm.kernels.epilogue import Epilogue, EpilogueInput, InputKind
from qcompiler.backends.tvm.lanes import Expr


@dataclass(frozen=True)
class Sum(Stage):
    """What two numbers add up to."""

    def expression(self, operands: Sequence[Expr]) -> Expr:
        return operands[0] + operands[1]


SCALAR, CHANNEL = EpilogueInput(InputKind.SCALAR, "int32"), EpilogueInput(InputKind.CHANNEL, "int32")
RATIO = EpilogueInput(InputKind.CHANNEL, "float32")


def float_requantize(result: str) -> Epilogue:
    """Inputs: ratio by channel, zero point, low, high."""
    return Epilogue((Step(FloatRequantize(), (0, 1, 2, 3, 4), True),), (RATIO, SCALAR, SCALAR, SCALAR), result)


def depthwise(height: int, width: int, channels: int, window: int, stride: int = 1, result: str = "uint8") -> Depthwise:
    """A convolution that keeps the size, or divides it by the stride."""
    return Depthwise(
        height, width, channels, (window, window), (stride, stride), (1, 1), (window // 2,) * 4, "uint8",
        float_requantize(result),
    )


isa = isa_fixture(but=NO_LOOKUPS)


class Case:
    """A convolution with numbers for it, the ends of their ranges among them."""

    def __init__(self, kernel: Depthwise, rng: np.random.Generator) -> None:
        info: Any = np.iinfo(kernel.stored)
        self.kernel = kernel
        shape = (kernel.height, kernel.width, kernel.channels)
        self.x = rng.choice([info.min, info.max, 0, *rng.integers(info.min, info.max + 1, 9)], shape)
        self.x = self.x.astype(kernel.stored)
        weights = rng.choice([-128, 127, *rng.integers(-128, 128, 9)], (kernel.channels, *kernel.kernel))
        self.weights = weights.astype(np.int8)
        self.bias = rng.integers(-(1 << 14), 1 << 14, kernel.channels).astype(np.int32)
        self.zero_point = int(rng.choice([info.min, info.max, rng.integers(info.min, info.max + 1)]))

    def sums(self) -> Array:
        """Exact sums."""
        kernel = self.kernel
        top, left, bottom, right = kernel.pads
        padded = np.pad(self.x.astype(np.int64) - self.zero_point, ((top, bottom), (left, right), (0, 0)))
        rows, columns = kernel.output_size
        result = np.zeros((rows, columns, kernel.channels), np.int64) + self.bias
        (sy, sx), (dy, dx) = kernel.strides, kernel.dilations
        for i in range(kernel.kernel[0]):
            for j in range(kernel.kernel[1]):
                seen = padded[i * dy :, j * dx :][: (rows - 1) * sy + 1 : sy, : (columns - 1) * sx + 1 : sx]
                result += seen * self.weights[:, i, j].astype(np.int64)
        return result

    def run(self, isa: InstructionSet, inputs: Sequence[Array]) -> Array:
        """The kernel's result; items are done in two calls, the last ones first."""
        kernel = self.kernel
        constants = kernel.pack(self.weights, self.bias, self.zero_point, isa)
        arrays = {"x": self.x, **dict(zip(("weights", "bias", "fill"), constants, strict=False))}
        for number, (entry, array) in enumerate(zip(kernel.epilogue.inputs, inputs, strict=True), 1):
            packed = kernel.pack_channels(array, isa) if entry.kind is InputKind.CHANNEL else np.atleast_1d(array)
            arrays[f"input_{number}"] = packed.astype(entry.dtype)
        shape = (*kernel.output_size, kernel.channels)
        first, second = (np.full(shape, fill, kernel.epilogue.result) for fill in (1, 1))
        middle = kernel.items(isa) // 2
        run_kernel(kernel, isa, {**arrays, "y": second}, middle)
        run_kernel(kernel, isa, {**arrays, "y": first}, 0, middle)
        # Items of different calls may write the same result, but then the same number.
        return np.where(first == 1, second, first)


def ratios(sums: Array, rng: np.random.Generator) -> Array:
    """Ratios by channel that spread sums over some 600 numbers: a part saturates. Powers of two meet ties."""
    ratio = rng.uniform(100, 600, sums.shape[-1]) / (np.abs(sums).max(axis=(0, 1)) + 1.0)
    mixed = np.where(rng.random(ratio.shape) < 0.5, np.exp2(np.rint(np.log2(ratio))), ratio)
    return np.asarray(mixed.astype(np.float32))


def requantized(sums: Array, ratio: Array, zero_point: int, low: int, high: int) -> Array:
    return np.clip(np.rint(sums.astype(np.float32) * ratio).astype(np.int64) + zero_point, low, high)


def check(kernel: Depthwise, isa: InstructionSet, rng: np.random.Generator) -> None:
    """The kernel equals numpy for random numbers, limits and zero points."""
    case = Case(kernel, rng)
    sums = case.sums()
    info = np.iinfo(kernel.epilogue.result)
    low, high = sorted(int(n) for n in rng.choice([info.min, info.max, *rng.integers(info.min, info.max, 2)], 2))
    ratio, zero_point = ratios(sums, rng), int(rng.integers(-100, 200))
    inputs = [ratio, *(np.asarray(n) for n in (zero_point, low, high))]
    np.testing.assert_array_equal(case.run(isa, inputs), requantized(sums, ratio, zero_point, low, high))


@st.composite
def kernels(draw: st.DrawFn) -> Depthwise:
    """Depthwise convolutions of any kind, with all sizes small."""
    kernel = draw(st.tuples(st.integers(1, 6), st.integers(1, 6)))
    strides = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    dilations = draw(st.one_of(st.just((1, 1)), st.tuples(st.integers(1, 3), st.integers(1, 3))))
    pads = draw(st.one_of(st.just((0, 0, 0, 0)), st.tuples(*[st.integers(0, 4)] * 4)))
    least = [max(1, (kernel[i] - 1) * dilations[i] + 1 - pads[i] - pads[i + 2]) for i in (0, 1)]
    return Depthwise(
        height=least[0] + draw(st.integers(0, 6)),
        width=least[1] + draw(st.integers(0, 32)),
        channels=draw(st.one_of(st.integers(1, 80), st.sampled_from([96, 128, 144, 150, 176, 200]))),
        kernel=kernel, strides=strides, dilations=dilations, pads=pads,
        stored=draw(st.sampled_from(["uint8", "int8"])),
        epilogue=float_requantize(draw(st.sampled_from(["uint8", "int8", "int16"]))),
    )


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(kernel=kernels(), seed=st.integers(0, 1 << 32))
def test_any_depthwise_convolution_is_exact(isa: InstructionSet, kernel: Depthwise, seed: int) -> None:
    check(kernel, isa, np.random.default_rng(seed))


@pytest.mark.parametrize(
    ("channels", "rows"),
    [(64, 1), (32, 3), (32, 1), (16, 3), (16, 7), (50, 2), (96, 3), (144, 3), (144, 5), (240, 2), (75, 3), (3, 3)],
)
def test_every_channel_tail_with_every_rest_of_rows(isa: InstructionSet, channels: int, rows: int) -> None:
    check(depthwise(rows, 5, channels, 3), isa, np.random.default_rng(rows))


@pytest.mark.parametrize("width", [15, 45])
@pytest.mark.parametrize("stride", [1, 2])
def test_rows_of_several_tiles(isa: InstructionSet, width: int, stride: int) -> None:
    check(depthwise(3, width, 32, 3, stride), isa, np.random.default_rng(width))


@pytest.mark.parametrize("window", [(31, 31), (1, 70), (70, 1)])
def test_large_windows(isa: InstructionSet, window: tuple[int, int]) -> None:
    kernel = replace(depthwise(6, 6, 20, 3), kernel=window, pads=(window[0] // 2, window[1] // 2) * 2)
    check(kernel, isa, np.random.default_rng(window[0]))


@pytest.mark.parametrize(("window", "stride"), [((2, 2), 1), ((5, 5), 2), ((1, 4), 1), ((3, 3), 3)])
def test_a_window_far_outside_sees_the_zero_point(isa: InstructionSet, window: tuple[int, int], stride: int) -> None:
    kernel = replace(depthwise(4, 12, 20, 2, stride), kernel=window, pads=(5, 40, 4, 80))
    check(kernel, isa, np.random.default_rng(2))


@pytest.mark.parametrize("group", [1, 2, 4])
@pytest.mark.parametrize("only_vertical", [False, True])
def test_every_tap_is_in_one_group(group: int, only_vertical: bool) -> None:
    for window in np.ndindex(9, 9):
        height, width = window[0] + 1, window[1] + 1
        groups = tap_groups((height, width), group, only_vertical)
        taps = [tap for entry in groups for tap in entry.taps if tap is not None]
        assert sorted(taps) == [(y, x) for y in range(height) for x in range(width)]
        assert all(len(entry.taps) == group for entry in groups)
        if not only_vertical:
            assert len(groups) <= -(-height // group) * width


@pytest.mark.parametrize("stored", ["uint8", "int8"])
@pytest.mark.parametrize("end", ["min", "max"])
def test_the_largest_sums(isa: InstructionSet, stored: str, end: str) -> None:
    kernel = replace(depthwise(6, 6, 70, 5), stored=stored, epilogue=Epilogue((), (), "int32"))
    case = Case(kernel, np.random.default_rng(0))
    case.x[:] = getattr(np.iinfo(stored), end)
    case.weights[:] = np.where(np.arange(70) % 2, -128, 127)[:, None, None]
    case.zero_point = int(np.iinfo(stored).min + np.iinfo(stored).max - case.x.flat[0])
    sums = case.sums()
    assert np.abs(sums).max() > 25 * 255 * 127
    np.testing.assert_array_equal(case.run(isa, []), sums)


def test_ties_go_to_even_and_results_saturate_without_limits(isa: InstructionSet) -> None:
    epilogue = Epilogue((Step(FloatRequantize(), (0, 1, 2)),), (RATIO, SCALAR), "uint8")
    case = Case(replace(depthwise(5, 9, 72, 3), epilogue=epilogue), np.random.default_rng(1))
    case.weights[:] = 0
    case.weights[:, 1, 1] = 1
    case.bias[:] = np.arange(72) * 17 - 500
    exact = case.sums() * 0.5
    assert (exact % 1 == 0.5).any()
    assert exact.min() < -128
    assert exact.max() > 255
    result = case.run(isa, [np.full(72, 0.5, np.float32), np.asarray(0)])
    np.testing.assert_array_equal(result, np.clip(np.rint(exact), 0, 255))


@pytest.mark.parametrize("channels", [5, 144])
def test_a_residual_is_added_to_the_right_number(isa: InstructionSet, channels: int) -> None:
    residual = EpilogueInput(InputKind.TENSOR, "uint8")
    inputs = (RATIO, SCALAR, residual, CHANNEL, SCALAR, SCALAR)
    steps = (
        Step(FloatRequantize(), (0, 1, 2)), Step(Sum(), (7, 3)), Step(Sum(), (8, 4, 5, 6), True),
    )
    rng = np.random.default_rng(9)
    case = Case(replace(depthwise(5, 6, channels, 3), epilogue=Epilogue(steps, inputs, "int8")), rng)
    sums = case.sums()
    added = rng.integers(0, 256, sums.shape).astype(np.uint8)
    ratio, further = ratios(sums, rng), rng.integers(-90, 90, channels)
    expected = np.clip(requantized(sums, ratio, 5, -(10**6), 10**6) + added + further, -100, 90)
    scalars = [np.asarray(n) for n in (5, -100, 90)]
    result = case.run(isa, [ratio, scalars[0], added, further, *scalars[1:]])
    np.testing.assert_array_equal(result, expected)


def test_packing_to_bytes_restores_the_order_of_channels(isa: InstructionSet) -> None:
    order = dot_order(isa)
    np.testing.assert_array_equal(np.sort(order), np.arange(isa.register_bytes))
    if isa.group == 4 and isa.register_bytes > 16:
        assert (order != np.arange(isa.register_bytes)).any(), "interleaving within 16 bytes permutes"


def test_parts_cover_all_channels_and_nothing_else(isa: InstructionSet) -> None:
    for channels in range(1, 300):
        covered: set[int] = set()
        for part in parts_of(channels, isa):
            assert part.width * part.rows == isa.register_bytes
            assert len(part.starts) == part.count
            for start in part.starts:
                covered.update(range(start, start + part.used))
        assert covered == set(range(channels))


def test_equal_shapes_share_code_and_every_constant_is_an_argument(isa: InstructionSet) -> None:
    kernel = depthwise(5, 5, 40, 3)
    constants = kernel.pack(np.ones((40, 3, 3), np.int8), np.zeros(40, np.int32), 9, isa)
    taken = [a for a in kernel.arguments(isa) if a.name in ("weights", "bias", "fill")]
    assert [(a.dtype, a.elements) for a in taken] == [(str(c.dtype), c.size) for c in constants]
    assert kernel.pack_channels(np.arange(40), isa).size == next(
        a.elements for a in kernel.arguments(isa) if a.name == "input_1"
    )
