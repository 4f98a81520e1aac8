"""Convolutions of block floating point against the reference contraction of windows laid out by hand."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kernel_harness import NO_LOOKUPS, Array, isa_fixture, run_kernel

from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.kernel_program import NoLowering
from qcompiler.backends.tvm.kernels.block_fixed_constants import bias_bits, pack_fixed_constants
from qcompiler.backends.tvm.kernels.block_fixed_convolution import FixedBlockConvolution
from qcompiler.backends.tvm.kernels.block_float_constants import dots_are_exact, pack_float_constants
from qcompiler.backends.tvm.kernels.block_float_convolution import FloatBlockConvolution
from qcompiler.backends.tvm.kernels.block_geometry import BlockGeometry, choose_block_tile
from qcompiler.backends.tvm.kernels.contraction_geometry import Tile
from qcompiler.numerics.block_accumulator import FixedPointAccumulator
from qcompiler.numerics.block_contraction import BlockOperand, contract, contract_float32
from qcompiler.numerics.rounding import SHIFT_ROUNDINGS

NEVER = -(10**6)
"""Exponent of padding: below all others."""


@dataclass
class Numbers:
    """Operands of a convolution: mantissas with the exponents of their blocks."""

    x: Array
    x_exponents: Array
    weights: Array
    weight_exponents: Array

    @staticmethod
    def random(shape: BlockGeometry, rng: np.random.Generator, lowest: int, highest: int, step: int) -> Numbers:
        """Mantissas with both ends of their range, blocks of zeros, and single large numbers.

        Args:
            shape: the convolution.
            rng: where numbers come from.
            lowest, highest: range of the sums of exponents, shared out to both operands.
            step: exponents of an operand lie within so many of one another, but for a few blocks.
        """
        middle = int(rng.integers(lowest // 2, highest // 2 + 1))

        def operand(blocks: tuple[int, ...], channels: int) -> tuple[Array, Array]:
            choices = np.array([-128, 127, 0, 1, -1, *rng.integers(-128, 128, 9)])
            mantissas = rng.choice(choices, (*blocks[:-1], channels))
            exponents = np.clip(middle + rng.integers(-step, step + 1, blocks), lowest // 2, highest // 2)
            far = rng.random(blocks) < 0.1
            exponents[far] = rng.integers(lowest // 2, highest // 2 + 1, int(far.sum()))
            return mantissas.astype(np.int8), exponents.astype(np.int32)

        x, x_exponents = operand((shape.height, shape.width, shape.pixel_exponents), shape.channels)
        weights, weight_exponents = operand((shape.outputs, *shape.kernel, shape.tap_blocks), shape.group_channels)
        x[rng.random(x.shape[:2]) < 0.1] = 0
        x_exponents[(x == 0).all(axis=-1)] = lowest // 2
        weights[rng.random(weights.shape[:3]) < 0.1] = 0
        return Numbers(x, x_exponents, weights, weight_exponents)

    def windows(self, shape: BlockGeometry, padding: int) -> list[tuple[BlockOperand, BlockOperand]]:
        """Each group's operands as matrices ``[OH * OW, terms]``, ``[terms, outputs]``, blocks filled up with zeros."""
        rows, columns = shape.output_size
        blocks, fill = shape.tap_blocks, shape.tap_blocks * shape.length
        channels = shape.group_channels
        result = []
        for group in range(shape.groups):
            x = np.zeros((rows, columns, *shape.kernel, fill), np.int8)
            x_exponents = np.full((rows, columns, *shape.kernel, blocks), padding)
            for r, c, ky, kx in np.ndindex(rows, columns, *shape.kernel):
                y = r * shape.strides[0] - shape.pads[0] + ky * shape.dilations[0]
                z = c * shape.strides[1] - shape.pads[1] + kx * shape.dilations[1]
                if 0 <= y < shape.height and 0 <= z < shape.width:
                    x[r, c, ky, kx, :channels] = self.x[y, z, group * channels : (group + 1) * channels]
                    x_exponents[r, c, ky, kx] = self.x_exponents[y, z, group * blocks : (group + 1) * blocks]
            own = slice(group * shape.group_outputs, (group + 1) * shape.group_outputs)
            weights = np.zeros((shape.group_outputs, *shape.kernel, fill), np.int8)
            weights[..., :channels] = self.weights[own]
            result.append((
                BlockOperand(x.reshape(rows * columns, -1), x_exponents.reshape(rows * columns, -1)),
                BlockOperand(weights.reshape(shape.group_outputs, -1).T,
                             self.weight_exponents[own].reshape(shape.group_outputs, -1).T),
            ))
        return result


def run(kernel: Any, isa: InstructionSet, numbers: Numbers, constants: dict[str, Array]) -> dict[str, Array]:
    """The kernel's results by name; items are done in pieces, the last ones first."""
    shape = (*kernel.output_size, kernel.outputs)
    results = {a.name: np.zeros(shape, a.dtype) for a in kernel.own_arguments(isa) if a.role.value == "output"}
    arrays = {"x": numbers.x, "x_exponents": numbers.x_exponents, **constants, **results}
    items = kernel.items(isa)
    run_kernel(kernel, isa, arrays, items // 2, items)
    run_kernel(kernel, isa, arrays, 0, items // 2)
    return results


def float_sums(kernel: FloatBlockConvolution, numbers: Numbers, bias: Array | None) -> Array:
    sums = [contract_float32(x, w, kernel.length) for x, w in numbers.windows(kernel, 0)]
    total = np.concatenate(sums, axis=-1).reshape(*kernel.output_size, kernel.outputs)
    return total if bias is None else total + bias


def fixed_sums(
    kernel: FixedBlockConvolution, numbers: Numbers, bias: Array | None, bias_exponent: int
) -> tuple[Array, Array]:
    register = FixedPointAccumulator(62, "forbidden", kernel.rounding, kernel.fraction)
    at_least = None if bias is None else np.array(bias_exponent)
    parts = [contract(x, w, kernel.length, register, at_least) for x, w in numbers.windows(kernel, NEVER)]
    shape = (*kernel.output_size, kernel.outputs)
    # Where there is but one block for all results, exponents may come with axes of length 1.
    sums, exponents = (
        np.concatenate([np.broadcast_to(p[i], p[0].shape) for p in parts], axis=-1).reshape(shape) for i in (0, 1)
    )
    if bias is not None:
        sums = register.add(sums, register.align(bias, np.array(bias_exponent), exponents))
    return sums, exponents


def assert_same_bits(found: Array, expected: Array) -> None:
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found.view(np.uint32), expected.view(np.uint32))


isa = isa_fixture(but=NO_LOOKUPS)

HYPOTHESIS = settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@st.composite
def geometries(draw: st.DrawFn) -> dict[str, Any]:
    """Convolutions of any kind, with all sizes small, and any tile."""
    pair = st.tuples(st.integers(1, 3), st.integers(1, 3))
    kernel, strides, dilations = draw(pair), draw(pair), draw(pair)
    if draw(st.booleans()):
        kernel, strides = (1, 1), draw(st.sampled_from([(1, 1), (1, 1), (2, 2), (1, 2)]))
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    # Every window holds a pixel of the input.
    reach = [st.integers(0, k // 2 if d == 1 else 0) for k, d in zip(kernel, dilations, strict=True)]
    pads = (draw(reach[0]), draw(reach[1]), draw(reach[0]), draw(reach[1]))
    groups = draw(st.sampled_from([1, 1, 1, 2, 3]))
    return {
        "height": spans[0] + draw(st.integers(0, 4)),
        "width": spans[1] + draw(st.integers(0, 12)),
        "channels": groups * draw(st.integers(1, 40)),
        "outputs": groups * draw(st.integers(1, 70 if groups == 1 else 20)),
        "kernel": kernel, "strides": strides, "dilations": dilations, "pads": pads, "groups": groups,
        "length": draw(st.sampled_from([1, 3, 4, 8, 8, 16, 32, 100])),
        "tile": Tile(*draw(st.sampled_from([(1, 1), (4, 2), (6, 2), (5, 1), (3, 4), (1, 8)]))),
    }


@HYPOTHESIS
@given(
    geometry=geometries(), seed=st.integers(0, 1 << 32), has_bias=st.booleans(),
    reach=st.sampled_from([(-20, 0), (-260, -20), (-290, -250), (0, 100)]), step=st.sampled_from([0, 2, 20]),
)
def test_float32_accumulators(
    isa: InstructionSet, geometry: dict[str, Any], seed: int, has_bias: bool, reach: tuple[int, int], step: int
) -> None:
    rng = np.random.default_rng(seed)
    kernel = FloatBlockConvolution(**geometry)
    lowest = max(reach[0], -250)
    numbers = Numbers.random(kernel, rng, lowest, reach[1], step)
    if reach[0] < lowest:
        numbers.x_exponents -= 24
    kernel = replace(kernel, exact=dots_are_exact(
        numbers.weights, numbers.weight_exponents, kernel.length, int(numbers.x_exponents.min())
    ))
    bias = np.ldexp(rng.standard_normal(kernel.outputs), (reach[0] + reach[1]) // 2).astype(np.float32)
    expected = float_sums(kernel, numbers, bias if has_bias else None)
    constants = pack_float_constants(
        kernel, isa, numbers.weights, numbers.weight_exponents, bias if has_bias else None
    )
    assert_same_bits(run(kernel, isa, numbers, constants)["y"], expected)


@HYPOTHESIS
@given(
    geometry=geometries(), seed=st.integers(0, 1 << 32), has_bias=st.booleans(),
    accumulator=st.sampled_from(["int32", "int64"]), rounding=st.sampled_from(list(SHIFT_ROUNDINGS)),
    fraction=st.sampled_from([0, 0, 1, 5, 12]), step=st.sampled_from([0, 2, 10, 60]),
    bits=st.sampled_from([0, 24, 28, 30]),
)
def test_fixed_point_accumulators(
    isa: InstructionSet, geometry: dict[str, Any], seed: int, has_bias: bool, accumulator: str, rounding: str,
    fraction: int, step: int, bits: int,
) -> None:
    rng = np.random.default_rng(seed)
    fraction = min(fraction, 2) if accumulator == "int32" else fraction
    bias = rng.integers(-(1 << bits), (1 << bits) + 1, geometry["outputs"]).astype(np.int32)
    kernel = FixedBlockConvolution(
        **geometry, accumulator=accumulator, rounding=rounding, fraction=fraction,
        bias_bits=bias_bits(bias if has_bias else None),
    )
    numbers = Numbers.random(kernel, rng, -200, 200, step)
    around = int(numbers.x_exponents.max()) + int(numbers.weight_exponents.max()) - 6
    exponent = around + int(rng.integers(-30, 10))
    expected, exponents = fixed_sums(kernel, numbers, bias if has_bias else None, exponent)
    assert np.abs(expected).max() < 1 << 31
    constants = pack_fixed_constants(
        kernel, isa, numbers.weights, numbers.weight_exponents, bias if has_bias else None, exponent
    )
    found = run(kernel, isa, numbers, constants)
    np.testing.assert_array_equal(found["y_exponents"], exponents)
    np.testing.assert_array_equal(found["y"], expected)


def pointwise(channels: int, length: int, outputs: int = 20, pixels: int = 5) -> dict[str, Any]:
    """The fields of a matrix product."""
    return {
        "height": 1, "width": pixels, "channels": channels, "outputs": outputs, "kernel": (1, 1), "strides": (1, 1),
        "dilations": (1, 1), "pads": (0, 0, 0, 0), "groups": 1, "length": length, "tile": choose_block_tile(pixels),
    }


@pytest.mark.parametrize("pixels", [1, 5])
def test_long_blocks_run_in_loops(isa: InstructionSet, pixels: int) -> None:
    rng = np.random.default_rng(1)
    kernel = FloatBlockConvolution(**pointwise(300, 128, 70, pixels))
    numbers = Numbers.random(kernel, rng, -40, 0, 3)
    constants = pack_float_constants(kernel, isa, numbers.weights, numbers.weight_exponents, None)
    assert_same_bits(run(kernel, isa, numbers, constants)["y"], float_sums(kernel, numbers, None))


def test_results_are_limited(isa: InstructionSet) -> None:
    rng = np.random.default_rng(2)
    kernel = FloatBlockConvolution(**pointwise(24, 8), limited=True)
    numbers = Numbers.random(kernel, rng, -20, -10, 3)
    constants = pack_float_constants(kernel, isa, numbers.weights, numbers.weight_exponents, None)
    exact = float_sums(kernel, numbers, None)
    low, high = (np.quantile(exact, q).astype(np.float32) for q in (0.3, 0.8))
    constants |= {"low": np.array([low]), "high": np.array([high])}
    assert_same_bits(run(kernel, isa, numbers, constants)["y"], np.clip(exact, low, high))


@pytest.mark.parametrize("fraction", [0, 1, 16])
@pytest.mark.parametrize("rounding", ["half-even", "half-up"])
def test_ties(isa: InstructionSet, rounding: str, fraction: int) -> None:
    """Every second block lies one place below what the accumulator keeps: its odd dots are ties."""
    rng = np.random.default_rng(3)
    kernel = FixedBlockConvolution(**pointwise(16, 4), accumulator="int64", rounding=rounding, fraction=fraction)
    numbers = Numbers.random(kernel, rng, -10, 10, 3)
    numbers.x_exponents[...] = [0, -1 - fraction, 0, -1 - fraction]
    numbers.weight_exponents[...] = 0
    dots = [int(numbers.x[0, i, 4:8].astype(int) @ w[0, 0, 4:8].astype(int)) for i in range(5) for w in numbers.weights]
    assert {dot % 4 for dot in dots} >= {1, 3}
    expected, exponents = fixed_sums(kernel, numbers, None, 0)
    constants = pack_fixed_constants(kernel, isa, numbers.weights, numbers.weight_exponents, None)
    found = run(kernel, isa, numbers, constants)
    np.testing.assert_array_equal(found["y"], expected)
    np.testing.assert_array_equal(found["y_exponents"], exponents)


@pytest.mark.parametrize("above", [10, 30, 31, 32, 100])
def test_one_large_block_leaves_of_the_others_what_rounding_makes_of_them(isa: InstructionSet, above: int) -> None:
    kernel = FixedBlockConvolution(**pointwise(40, 8), rounding="floor")
    numbers = Numbers.random(kernel, np.random.default_rng(4), 0, 0, 0)
    numbers.x_exponents[...] = [0, 0, above, 0, 0]
    expected, exponents = fixed_sums(kernel, numbers, None, 0)
    assert (exponents == above).all()
    constants = pack_fixed_constants(kernel, isa, numbers.weights, numbers.weight_exponents, None)
    np.testing.assert_array_equal(run(kernel, isa, numbers, constants)["y"], expected)


def test_sums_of_nothing_but_underflow_keep_their_sign(isa: InstructionSet) -> None:
    """A dot rounds to -0.0 where it is negative and too small, and to 0.0 where it is zero."""
    kernel = FloatBlockConvolution(**pointwise(8, 4, 3, 2))
    x = np.full((1, 2, 8), 1, np.int8)
    x[0, 1, 4:] = 0
    weights = np.full((3, 1, 1, 8), -1, np.int8)
    numbers = Numbers(x, np.full((1, 2, 2), -100, np.int32), weights, np.full((3, 1, 1, 2), -100, np.int32))
    found = run(kernel, isa, numbers, pack_float_constants(kernel, isa, weights, numbers.weight_exponents, None))["y"]
    np.testing.assert_array_equal(np.signbit(found[0]), [[True] * 3, [False] * 3])
    assert_same_bits(found, float_sums(kernel, numbers, None))


def test_padding_has_no_say_in_exponents(isa: InstructionSet) -> None:
    """The corner taps outweigh the others, but for the first pixel they lie on padding."""
    kernel = FixedBlockConvolution(3, 3, 4, 2, (3, 3), (1, 1), (1, 1), (1, 1, 1, 1), 1, 4, Tile(1, 1))
    numbers = Numbers.random(kernel, np.random.default_rng(5), 0, 0, 0)
    numbers.x_exponents[...] = -133
    numbers.weight_exponents[:, 0, 0] = 121
    _, exponents = fixed_sums(kernel, numbers, None, 0)
    assert set(exponents.reshape(-1)) == {-133, -12}
    constants = pack_fixed_constants(kernel, isa, numbers.weights, numbers.weight_exponents, None)
    np.testing.assert_array_equal(run(kernel, isa, numbers, constants)["y_exponents"], exponents)


def test_constants_are_what_the_arguments_say(isa: InstructionSet) -> None:
    shape = pointwise(21, 8)
    weights, exponents = np.ones((20, 1, 1, 21), np.int8), np.zeros((20, 1, 1, 3), np.int32)
    flo, fixed = FloatBlockConvolution(**shape), FixedBlockConvolution(**shape)
    for kernel, packed in (
        (flo, pack_float_constants(flo, isa, weights, exponents, np.ones(20, np.float32))),
        (fixed, pack_fixed_constants(fixed, isa, weights, exponents, np.ones(20, np.int32))),
    ):
        wanted = {a.name: (a.dtype, a.elements) for a in kernel.arguments(isa) if a.role.value == "constant"}
        assert {name: (str(a.dtype), a.size) for name, a in packed.items()} == wanted


def test_weights_whose_scales_float32_cannot_apply_exactly_are_refused(isa: InstructionSet) -> None:
    kernel = FloatBlockConvolution(**pointwise(1025, 1025, 2))
    weights, exponents = np.full((2, 1, 1, 1025), -128, np.int8), np.zeros((2, 1, 1, 1), np.int32)
    with pytest.raises(NoLowering, match="dot products"):
        pack_float_constants(kernel, isa, weights, exponents, None)
    weights[..., 0] = 0
    pack_float_constants(kernel, isa, weights, exponents - 126, None)
    for shift in (-127, 103):
        with pytest.raises(NoLowering, match="normal float32"):
            pack_float_constants(kernel, isa, weights, exponents + shift, None)
    # Blocks of zeros have the smallest exponent of their format; processors are slow at denormal scales.
    weights[...] = 0
    packed = pack_float_constants(kernel, isa, weights, exponents - 133, None)
    assert set(packed["weight_scales"][:2]) == {1.0}


def test_dots_are_exact_down_to_the_smallest_float32() -> None:
    weights, exponents = np.array([[1, 0, 0, 0]], np.int8), np.array([[-16, -133]])
    assert dots_are_exact(weights, exponents, 2, -133)
    assert not dots_are_exact(weights, exponents, 2, -134)
    assert dots_are_exact(np.full((1, 1024), -128, np.int8), np.zeros((1, 1)), 1024, 0)
    assert not dots_are_exact(np.full((1, 1025), -128, np.int8), np.zeros((1, 1)), 1025, 0)


def test_tiles_share_a_row_out_evenly() -> None:
    assert [choose_block_tile(n).pixels for n in (1, 2, 4, 5, 7, 9, 16)] == [1, 2, 4, 3, 4, 3, 4]
