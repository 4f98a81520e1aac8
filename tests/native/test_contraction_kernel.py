"""The convolution kernel against plain int64 sums, for all shapes, instruction sets and tiles."""

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
from tvm import tirx

from qcompiler.backends.tvm.element import Stage, Step
from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.kernels.contraction import Convolution, Tile
from qcompiler.backends.tvm.kernels.contraction_tiles import candidate_tiles, choose_tile
from qcompiler.backends.tvm.kernels.contraction_weights import pack_channels, pack_constants
from qcompiler.backends.tvm.kernels.epilogue import Epilogue, EpilogueInput, InputKind
from qcompiler.backends.tvm.lanes import Expr, convert, rounded_product


@dataclass(frozen=True)
class WideShift(Stage):
    """(accumulator * multiplier + 2^30) >> 31 in int64, the multiplier by channel."""

    def expression(self, operands: Sequence[Expr]) -> Expr:
        accumulator, multiplier = (convert(operand, "int64") for operand in operands)
        half, shift = (tirx.Broadcast(tirx.const(n, "int64"), _lanes(accumulator)) for n in (1 << 30, 31))
        return (accumulator * multiplier + half) >> shift


@dataclass(frozen=True)
class Sum(Stage):
    """What two numbers add up to."""

    def expression(self, operands: Sequence[Expr]) -> Expr:
        return operands[0] + operands[1]


@dataclass(frozen=True)
class Scaled(Stage):
    """f32(accumulator) * ratio."""

    def expression(self, operands: Sequence[Expr]) -> Expr:
        return rounded_product(convert(operands[0], "float32"), operands[1])


def _lanes(expr: Expr) -> int:
    return int(str(expr.ty).partition("x")[2])


SCALAR, CHANNEL, TENSOR = InputKind.SCALAR, InputKind.CHANNEL, InputKind.TENSOR


def float_requantize(result: str, limited: bool = True) -> Epilogue:
    """Inputs: ratio by channel, zero point, and low and high limits if there are any."""
    scalar = EpilogueInput(SCALAR, "int32")
    inputs = (EpilogueInput(CHANNEL, "float32"), *[scalar] * (3 if limited else 1))
    return Epilogue((Step(FloatRequantize(), tuple(range(len(inputs) + 1)), limited),), inputs, result)


def accumulators(kernel: Convolution, x: Array, weights: Array, bias: Array, zero_point: int) -> Array:
    """Exact sums."""
    top, left, bottom, right = kernel.pads
    padded = np.pad(x.astype(np.int64) - zero_point, ((top, bottom), (left, right), (0, 0)))
    rows, columns = kernel.output_size
    result = np.zeros((rows, columns, kernel.outputs), np.int64) + bias
    channels, outputs = kernel.channels // kernel.groups, kernel.outputs // kernel.groups
    (sy, sx), (dy, dx) = kernel.strides, kernel.dilations
    for i in range(kernel.kernel[0]):
        for j in range(kernel.kernel[1]):
            seen = padded[i * dy :, j * dx :][: (rows - 1) * sy + 1 : sy, : (columns - 1) * sx + 1 : sx]
            for g in range(kernel.groups):
                out = slice(g * outputs, (g + 1) * outputs)
                result[..., out] += seen[..., g * channels : (g + 1) * channels] @ weights[out, i, j].T.astype(np.int64)
    return result


def epilogue_constants(kernel: Convolution, isa: InstructionSet, constants: Sequence[Any]) -> dict[str, Array]:
    """The epilogue's scalars and numbers by channel, given in order, by the name of the argument."""
    arrays = iter(constants)
    packed: dict[str, Array] = {}
    for number, entry in enumerate(kernel.epilogue.inputs, 1):
        if entry.kind is SCALAR:
            packed[f"input_{number}"] = np.asarray(next(arrays), entry.dtype).reshape(1)
        elif entry.kind is CHANNEL:
            packed[f"input_{number}"] = pack_channels(kernel, isa, np.asarray(next(arrays), entry.dtype))
    return packed


@dataclass
class Case:
    """A convolution with numbers for it."""

    kernel: Convolution
    x: Array
    weights: Array
    bias: Array
    zero_point: int
    sums: Array

    @staticmethod
    def random(kernel: Convolution, rng: np.random.Generator) -> Case:
        """Activations and weights with the ends of their ranges among them, at any zero point."""
        info = np.iinfo(kernel.activation)
        shape = (kernel.height, kernel.width, kernel.channels)
        x = rng.choice(np.array([info.min, info.max, 0, *rng.integers(info.min, info.max + 1, 9)]), shape)
        window = (kernel.outputs, *kernel.kernel, kernel.channels // kernel.groups)
        weights = rng.choice(np.array([-128, 127, *rng.integers(-128, 128, 9)]), window).astype(np.int8)
        bias = rng.integers(-(1 << 20), 1 << 20, kernel.outputs).astype(np.int32)
        zero_point = int(rng.choice(np.array([info.min, info.max, rng.integers(info.min, info.max + 1)])))
        x = x.astype(kernel.activation)
        return Case(kernel, x, weights, bias, zero_point, accumulators(kernel, x, weights, bias, zero_point))

    def run(self, isa: InstructionSet, constants: Sequence[Any] = (), tensors: dict[str, Array] | None = None) -> Array:
        """The kernel's result; items are done in pieces, the last ones first."""
        packed = pack_constants(self.kernel, isa, self.weights, self.bias, self.zero_point)
        packed |= epilogue_constants(self.kernel, isa, constants)
        y = np.zeros((*self.kernel.output_size, self.kernel.outputs), self.kernel.epilogue.result)
        arrays = {"x": self.x, "y": y, **packed, **(tensors or {})}
        items = self.kernel.items(isa)
        run_kernel(self.kernel, isa, arrays, items // 2, items)
        run_kernel(self.kernel, isa, arrays, 0, items // 2)
        return y


def requantized(sums: Array, ratio: Array, zero_point: int, low: int, high: int) -> Array:
    rounded = np.rint(sums.astype(np.float32) * ratio).astype(np.int64)
    return np.asarray(np.clip(rounded + zero_point, low, high))


def ratios(sums: Array, rng: np.random.Generator) -> Array:
    """Ratios by channel that spread sums over some 600 numbers: a part saturates. Powers of two meet ties."""
    spread = np.abs(sums).reshape(-1, sums.shape[-1]).max(axis=0) + 1.0
    ratio = rng.uniform(100, 600, sums.shape[-1]) / spread
    power = np.exp2(np.rint(np.log2(ratio)))
    chosen: Array = np.where(rng.random(ratio.shape) < 0.5, power, ratio).astype(np.float32)
    return chosen


isa = isa_fixture(but=NO_LOOKUPS)


@st.composite
def convolutions(draw: st.DrawFn) -> Convolution:
    """Convolutions of any kind, with all sizes small, and any tile."""
    pair = st.tuples(st.integers(1, 3), st.integers(1, 3))
    kernel, strides, dilations = draw(pair), draw(pair), draw(pair)
    if draw(st.booleans()):
        kernel, strides = (1, 1), draw(st.sampled_from([(1, 1), (1, 1), (2, 2), (1, 2)]))
    pads = draw(st.one_of(st.just((0, 0, 0, 0)), st.tuples(*[st.integers(0, 3)] * 4)))
    groups = draw(st.sampled_from([1, 1, 1, 2, 3]))
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    least = [max(1, span - pads[axis] - pads[axis + 2]) for axis, span in enumerate(spans)]
    return Convolution(
        height=least[0] + draw(st.integers(0, 6)),
        width=least[1] + draw(st.integers(0, 30)),
        channels=groups * draw(st.integers(1, 21)),
        outputs=groups * draw(st.integers(1, 150 if groups == 1 else 40)),
        kernel=kernel, strides=strides, dilations=dilations, pads=pads, groups=groups,
        activation=draw(st.sampled_from(["uint8", "int8"])),
        epilogue=float_requantize(draw(st.sampled_from(["uint8", "int8", "int16"]))),
        tile=Tile(*draw(st.sampled_from([(1, 1), (4, 4), (6, 4), (5, 3), (14, 2), (3, 1), (1, 8)]))),
    )


HYPOTHESIS = settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@HYPOTHESIS
@given(kernel=convolutions(), seed=st.integers(0, 1 << 32))
def test_any_convolution_is_exact(isa: InstructionSet, kernel: Convolution, seed: int) -> None:
    rng = np.random.default_rng(seed)
    case = Case.random(kernel, rng)
    info = np.iinfo(kernel.epilogue.result)
    limits = np.array([info.min, info.max, *rng.integers(info.min, info.max, 2)])
    low, high = sorted(int(n) for n in rng.choice(limits, 2))
    ratio, zero_point = ratios(case.sums, rng), int(rng.integers(-100, 200))
    expected = requantized(case.sums, ratio, zero_point, low, high)
    np.testing.assert_array_equal(case.run(isa, [ratio, zero_point, low, high]), expected)


def _square(size: int, pads: int, channels: int, outputs: int, activation: str, tile: Tile) -> Convolution:
    """A convolution whose window reaches ``pads`` to each side."""
    window = (2 * pads + 1,) * 2
    epilogue = float_requantize(activation)
    return Convolution(
        size, size, channels, outputs, window, (1, 1), (1, 1), (pads,) * 4, 1, activation, epilogue, tile
    )


SHAPES = {
    "pointwise": _square(9, 0, 37, 72, "uint8", Tile(4, 4)),
    "padded": _square(14, 1, 5, 50, "uint8", Tile(4, 2)),
    "one row": _square(1, 0, 203, 250, "int8", Tile(1, 8)),
}


@pytest.mark.parametrize("name", SHAPES)
def test_every_candidate_tile_computes_the_same(isa: InstructionSet, name: str) -> None:
    shape = SHAPES[name]
    rng = np.random.default_rng(7)
    case = Case.random(shape, rng)
    ratio = ratios(case.sums, rng)
    info = np.iinfo(shape.epilogue.result)
    expected = requantized(case.sums, ratio, 3, int(info.min), int(info.max))
    tiles = candidate_tiles(shape, isa)
    assert tiles[0] == choose_tile(shape, isa)
    for tile in {tiles[0], tiles[-1], *rng.choice(np.array(tiles, object), 5)}:
        case.kernel = replace(shape, tile=tile)
        result = case.run(isa, [ratio, 3, int(info.min), int(info.max)])
        np.testing.assert_array_equal(result, expected, err_msg=str(tile))


def test_ties_go_to_even_and_results_saturate_without_limits(isa: InstructionSet) -> None:
    kernel = replace(SHAPES["pointwise"], epilogue=float_requantize("uint8", limited=False))
    case = Case.random(kernel, np.random.default_rng(1))
    case.weights[:] = 0
    case.weights[:, 0, 0, 0] = 1
    case.bias[:] = np.arange(kernel.outputs) * 17 - 500
    case.sums = accumulators(kernel, case.x, case.weights, case.bias, case.zero_point)
    exact = case.sums * 0.5
    assert (exact % 1 == 0.5).any()
    assert exact.min() < -128
    assert exact.max() > 255
    ratio = np.full(kernel.outputs, 0.5, np.float32)
    np.testing.assert_array_equal(case.run(isa, [ratio, 0]), np.clip(np.rint(exact), 0, 255))


@pytest.mark.parametrize("result", ["int32", "float32"])
def test_wide_results(isa: InstructionSet, result: str) -> None:
    scaled = Epilogue((Step(Scaled(), (0, 1)),), (EpilogueInput(CHANNEL, "float32"),), "float32")
    epilogue = scaled if result == "float32" else Epilogue((), (), "int32")
    case = Case.random(replace(SHAPES["padded"], epilogue=epilogue), np.random.default_rng(5))
    ratio = np.random.default_rng(6).random(case.kernel.outputs).astype(np.float32)
    expected = case.sums.astype(np.float32) * ratio if result == "float32" else case.sums
    np.testing.assert_array_equal(case.run(isa, [ratio] if result == "float32" else []), expected)


@pytest.mark.parametrize("residual", ["uint8", "int8", "int32"])
@pytest.mark.parametrize("name", SHAPES)
def test_a_residual_is_added_to_the_right_pixel(isa: InstructionSet, name: str, residual: str) -> None:
    first = float_requantize("int8", limited=False)
    inputs = (*first.inputs, EpilogueInput(TENSOR, residual), *[EpilogueInput(SCALAR, "int32")] * 2)
    steps = (Step(FloatRequantize(), (0, 1, 2)), Step(Sum(), (6, 3, 4, 5), True))
    case = Case.random(replace(SHAPES[name], epilogue=Epilogue(steps, inputs, "int8")), np.random.default_rng(8))
    rng = np.random.default_rng(9)
    info = np.iinfo(residual)
    added = rng.integers(max(info.min, -300), min(info.max, 300) + 1, case.sums.shape).astype(residual)
    ratio = ratios(case.sums, rng)
    expected = np.clip(requantized(case.sums, ratio, 5, -(10**6), 10**6) + added, -100, 90)
    result = case.run(isa, [ratio, 5, -100, 90], {"input_3": added})
    np.testing.assert_array_equal(result, expected)


def test_wide_steps_are_limited_before_they_are_narrowed(isa: InstructionSet) -> None:
    inputs = (EpilogueInput(CHANNEL, "int32"), *[EpilogueInput(SCALAR, "int32")] * 2)
    epilogue = Epilogue((Step(WideShift(), (0, 1, 2, 3), True),), inputs, "uint8")
    case = Case.random(replace(SHAPES["pointwise"], epilogue=epilogue), np.random.default_rng(3))
    case.bias[::3] = np.int32(2**31 - 1 - 2**21)
    case.sums = accumulators(case.kernel, case.x, case.weights, case.bias, case.zero_point)
    multiplier = np.random.default_rng(4).integers(1 << 20, (1 << 31) - 1, case.kernel.outputs).astype(np.int32)
    exact = (case.sums * multiplier + (1 << 30)) >> 31
    assert exact.max() > 2**16
    np.testing.assert_array_equal(case.run(isa, [multiplier, 7, 201]), np.clip(exact, 7, 201))


def test_equal_shapes_share_code_and_every_constant_is_an_argument(isa: InstructionSet) -> None:
    kernel = SHAPES["padded"]
    constants = pack_constants(kernel, isa, np.ones((50, 3, 3, 5), np.int8), np.zeros(50, np.int32), 9)
    constants |= epilogue_constants(kernel, isa, [np.ones(50), 0, 0, 255])
    named = {a.name: a for a in kernel.arguments(isa)}
    assert set(constants) == {name for name, a in named.items() if a.role.value == "constant"}
    for name, array in constants.items():
        assert (str(array.dtype), array.size) == (named[name].dtype, named[name].elements), name
