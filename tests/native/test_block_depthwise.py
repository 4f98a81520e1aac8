"""Depthwise convolutions of block floating point against the reference contraction, one channel at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kernel_harness import NO_LOOKUPS, Array, isa_fixture, run_kernel

from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.kernel_program import NoLowering
from qcompiler.backends.tvm.kernels.block_depthwise import BlockDepthwise
from qcompiler.backends.tvm.kernels.block_fixed_constants import bias_bits
from qcompiler.backends.tvm.kernels.block_fixed_depthwise import FixedBlockDepthwise
from qcompiler.backends.tvm.kernels.block_float_depthwise import FloatBlockDepthwise, products_are_exact
from qcompiler.numerics.block_accumulator import FixedPointAccumulator
from qcompiler.numerics.block_contraction import BlockOperand, contract, contract_float32
from qcompiler.numerics.rounding import SHIFT_ROUNDINGS

NEVER = -(10**6)
"""Exponent of padding: below all others."""


def random_operand(
    channels: int, length: int, places: tuple[int, int], rng: np.random.Generator, lowest: int, highest: int
) -> tuple[Array, Array]:
    """Mantissas ``[*places, channels]`` with both ends of their range, and exponents near one another but for a few."""
    blocks = (*places, -(-channels // length))
    mantissas = rng.choice(np.array([-128, 127, 0, 1, -1, *rng.integers(-128, 128, 9)]), (*places, channels))
    exponents = np.clip(rng.integers(lowest, highest + 1) + rng.integers(-3, 4, blocks), lowest, highest)
    far = rng.random(blocks) < 0.1
    exponents[far] = rng.integers(lowest, highest + 1, int(far.sum()))
    return mantissas.astype(np.int8), exponents.astype(np.int32)


class Case:
    """Operands of a depthwise convolution; weights have their channels last."""

    def __init__(self, shape: BlockDepthwise, rng: np.random.Generator, lowest: int, highest: int) -> None:
        self.shape = shape
        size, reach = (shape.height, shape.width), (lowest, highest)
        self.x, self.x_exponents = random_operand(shape.channels, shape.length, size, rng, *reach)
        self.weights, self.weight_exponents = random_operand(shape.channels, 1, shape.kernel, rng, *reach)

    def first(self) -> tuple[Array, Array]:
        """Weights and their exponents with channels first, as graphs have them."""
        return self.weights.transpose(2, 0, 1), self.weight_exponents.transpose(2, 0, 1)

    def windows(self, padding: int) -> tuple[BlockOperand, BlockOperand]:
        """Matrices ``[C, OH * OW, taps]`` and ``[C, taps, 1]``; every term is a block."""
        shape = self.shape
        rows, columns = shape.output_size
        x = np.zeros((shape.channels, rows, columns, *shape.kernel), np.int8)
        exponents = np.full(x.shape, padding)
        for r, c, ky, kx in np.ndindex(rows, columns, *shape.kernel):
            y = r * shape.strides[0] - shape.pads[0] + ky * shape.dilations[0]
            z = c * shape.strides[1] - shape.pads[1] + kx * shape.dilations[1]
            if 0 <= y < shape.height and 0 <= z < shape.width:
                x[:, r, c, ky, kx] = self.x[y, z]
                exponents[:, r, c, ky, kx] = self.by_channel(self.x_exponents)[y, z]
        size = (shape.channels, rows * columns, shape.taps)
        weights, own = (a.transpose(2, 0, 1).reshape(shape.channels, -1, 1)
                        for a in (self.weights, self.weight_exponents))
        return BlockOperand(x.reshape(size), exponents.reshape(size)), BlockOperand(weights, own)

    def by_channel(self, exponents: Array) -> Array:
        return np.repeat(exponents, self.shape.length, axis=-1)[..., : self.shape.channels]

    def image(self, results: Array) -> Array:
        """``[C, OH * OW, 1]`` as ``[OH, OW, C]``."""
        return results[..., 0].T.reshape(*self.shape.output_size, self.shape.channels)

    def run(self, kernel: Any, isa: InstructionSet, constants: dict[str, Array]) -> dict[str, Array]:
        """The kernel's results by name; items are done in pieces, the last ones first."""
        shape = (*kernel.output_size, kernel.channels)
        results = {a.name: np.zeros(shape, a.dtype) for a in kernel.own_arguments(isa) if a.role.value == "output"}
        arrays = {"x": self.x, "x_exponents": self.x_exponents, **constants, **results}
        items = kernel.items(isa)
        run_kernel(kernel, isa, arrays, items // 2, items)
        run_kernel(kernel, isa, arrays, 0, items // 2)
        return results


isa = isa_fixture(but=NO_LOOKUPS)

HYPOTHESIS = settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@st.composite
def geometries(draw: st.DrawFn) -> dict[str, Any]:
    """Depthwise convolutions of any kind, with all sizes small; windows of up to 35 taps."""
    pair = st.tuples(st.integers(1, 3), st.integers(1, 3))
    kernel, strides, dilations = draw(st.one_of(pair, st.just((5, 7)))), draw(pair), draw(pair)
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    # Every window holds a pixel of the input.
    reach = [st.integers(0, k // 2 if d == 1 else 0) for k, d in zip(kernel, dilations, strict=True)]
    return {
        "height": spans[0] + draw(st.integers(0, 6)),
        "width": spans[1] + draw(st.integers(0, 12)),
        "channels": draw(st.integers(1, 70)),
        "kernel": kernel, "strides": strides, "dilations": dilations,
        "pads": (draw(reach[0]), draw(reach[1]), draw(reach[0]), draw(reach[1])),
        "length": draw(st.sampled_from([1, 3, 8, 8, 16, 32, 100])),
        "pixels": draw(st.sampled_from([1, 3, 8])),
    }


@HYPOTHESIS
@given(
    geometry=geometries(), seed=st.integers(0, 1 << 32), has_bias=st.booleans(),
    reach=st.sampled_from([(-20, 0), (-133, -10), (-100, -60), (-85, -75), (0, 50)]),
)
def test_float32_accumulators(
    isa: InstructionSet, geometry: dict[str, Any], seed: int, has_bias: bool, reach: tuple[int, int]
) -> None:
    rng = np.random.default_rng(seed)
    case = Case(FloatBlockDepthwise(**geometry), rng, *reach)
    weights, exponents = case.first()
    exact = products_are_exact(weights, exponents, int(case.x_exponents.min()))
    kernel = FloatBlockDepthwise(**geometry, exact=exact)
    bias = np.ldexp(rng.standard_normal(kernel.channels), sum(reach)).astype(np.float32) if has_bias else None
    expected = case.image(contract_float32(*case.windows(0), 1))
    expected = expected if bias is None else expected + bias
    found = case.run(kernel, isa, kernel.pack(isa, weights, exponents, bias))["y"]
    np.testing.assert_array_equal(found.view(np.uint32), expected.view(np.uint32))


@HYPOTHESIS
@given(
    geometry=geometries(), seed=st.integers(0, 1 << 32), has_bias=st.booleans(),
    accumulator=st.sampled_from(["int32", "int64"]), rounding=st.sampled_from(list(SHIFT_ROUNDINGS)),
    fraction=st.sampled_from([0, 0, 1, 5, 20]), reach=st.sampled_from([(-8, 0), (-133, 121)]),
    bits=st.sampled_from([0, 24, 28, 30]),
)
def test_fixed_point_accumulators(
    isa: InstructionSet, geometry: dict[str, Any], seed: int, has_bias: bool, accumulator: str, rounding: str,
    fraction: int, reach: tuple[int, int], bits: int,
) -> None:
    rng = np.random.default_rng(seed)
    fraction = min(fraction, 5) if accumulator == "int32" else fraction
    bias = rng.integers(-(1 << bits), (1 << bits) + 1, geometry["channels"]).astype(np.int32) if has_bias else None
    kernel = FixedBlockDepthwise(
        **geometry, accumulator=accumulator, rounding=rounding, fraction=fraction, bias_bits=bias_bits(bias)
    )
    case = Case(kernel, rng, *reach)
    weights, exponents = case.first()
    exponent = int(case.x_exponents.max()) + int(case.weight_exponents.max()) + int(rng.integers(-36, 4))
    register = FixedPointAccumulator(62, "forbidden", rounding, fraction)
    at_least = None if bias is None else np.array(exponent)
    sums, targets = (case.image(a) for a in contract(*case.windows(NEVER), 1, register, at_least))
    if bias is not None:
        sums = register.add(sums, register.align(bias, np.array(exponent), targets))
    found = case.run(kernel, isa, kernel.pack(isa, weights, exponents, bias, exponent))
    np.testing.assert_array_equal(found["y_exponents"], targets)
    np.testing.assert_array_equal(found["y"], sums)


def square(channels: int, length: int) -> dict[str, Any]:
    """The fields of a padded 3x3 convolution of a 4x4 image."""
    return {
        "height": 4, "width": 4, "channels": channels, "kernel": (3, 3), "strides": (1, 1), "dilations": (1, 1),
        "pads": (1, 1, 1, 1), "length": length, "pixels": 4,
    }


def test_results_are_limited(isa: InstructionSet) -> None:
    kernel = FloatBlockDepthwise(**square(20, 8), limited=True)
    case = Case(kernel, np.random.default_rng(1), -10, -5)
    exact = case.image(contract_float32(*case.windows(0), 1))
    low, high = (np.quantile(exact, q).astype(np.float32) for q in (0.3, 0.8))
    constants = kernel.pack(isa, *case.first(), None) | {"low": np.array([low]), "high": np.array([high])}
    np.testing.assert_array_equal(case.run(kernel, isa, constants)["y"], np.clip(exact, low, high))


def test_rows_are_expanded_in_several_parts(isa: InstructionSet) -> None:
    fields = square(40, 8) | {"height": 30, "width": 70, "strides": (2, 1)}
    kernel = FloatBlockDepthwise(**fields)
    assert 1 < kernel.items(isa) < kernel.output_size[0]
    case = Case(kernel, np.random.default_rng(2), -30, -5)
    found = case.run(kernel, isa, kernel.pack(isa, *case.first(), None))["y"]
    np.testing.assert_array_equal(found, case.image(contract_float32(*case.windows(0), 1)))


def test_products_of_nothing_but_underflow_keep_their_sign(isa: InstructionSet) -> None:
    """A product rounds to -0.0 where it is negative and too small; a product of zero is 0.0."""
    kernel = FloatBlockDepthwise(**square(6, 8) | {"kernel": (2, 1), "pads": (0, 0, 0, 0)})
    case = Case(kernel, np.random.default_rng(3), -100, -100)
    case.x[...], case.weights[...] = 1, -1
    case.x[..., 1::3], case.weights[0, 0, 2::3] = 0, 0
    expected = case.image(contract_float32(*case.windows(0), 1))
    assert set(np.signbit(expected).reshape(-1)) == {False, True}
    found = case.run(kernel, isa, kernel.pack(isa, *case.first(), None))["y"]
    np.testing.assert_array_equal(found.view(np.uint32), expected.view(np.uint32))


@pytest.mark.parametrize("mantissa", [-128, 127])
def test_the_largest_mantissas_at_the_largest_exponent(isa: InstructionSet, mantissa: int) -> None:
    kernel = FloatBlockDepthwise(**square(5, 8), exact=True)
    case = Case(kernel, np.random.default_rng(4), 0, 0)
    case.x[...], case.x_exponents[...], case.weight_exponents[...] = mantissa, 121, -20
    expected = case.image(contract_float32(*case.windows(0), 1))
    found = case.run(kernel, isa, kernel.pack(isa, *case.first(), None))["y"]
    np.testing.assert_array_equal(found.view(np.uint32), expected.view(np.uint32))


def test_weights_that_are_no_float32_are_refused(isa: InstructionSet) -> None:
    kernel = FloatBlockDepthwise(**square(4, 8))
    weights, exponents = np.ones((4, 3, 3), np.int8), np.zeros((4, 3, 3), np.int32)
    kernel.pack(isa, weights, exponents - 157, None)
    for shift in (-158, 120):
        with pytest.raises(NoLowering, match="float32 numbers"):
            kernel.pack(isa, weights, exponents + shift, None)


def test_constants_are_what_the_arguments_say(isa: InstructionSet) -> None:
    weights, exponents = np.ones((3, 3, 3), np.int8), np.zeros((3, 3, 3), np.int32)
    flo, fixed = FloatBlockDepthwise(**square(3, 8)), FixedBlockDepthwise(**square(3, 8))
    for kernel, packed in (
        (flo, flo.pack(isa, weights, exponents, np.ones(3, np.float32))),
        (fixed, fixed.pack(isa, weights, exponents, np.ones(3, np.int32))),
    ):
        wanted = {a.name: (a.dtype, a.elements) for a in kernel.arguments(isa) if a.role.value == "constant"}
        assert {name: (str(a.dtype), a.size) for name, a in packed.items()} == wanted


def test_products_are_exact_down_to_the_smallest_float32() -> None:
    weights, exponents = np.array([[[1, 0]], [[0, 0]]], np.int8), np.array([[[-16, -133]], [[-133, -133]]])
    assert products_are_exact(weights, exponents, -133)
    assert not products_are_exact(weights, exponents, -134)
