"""Contractions of int16 activations with int16 weights against plain int64 sums."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kernel_harness import NO_PRODUCTS, isa_fixture, run_kernel
from numpy.typing import NDArray

from qcompiler.backends.tvm.instruction_set import INSTRUCTION_SETS, InstructionSet
from qcompiler.backends.tvm.kernel import Role
from qcompiler.backends.tvm.kernels.direct_contraction import DirectMatmul
from qcompiler.backends.tvm.kernels.weight_digits import split_into_digits
from qcompiler.backends.tvm.kernels.wide_carry_convolution import CarryConvolution
from qcompiler.backends.tvm.kernels.wide_contraction import (
    ContractionGeometry,
    WideContraction,
    by_carries,
    by_digits,
    by_estimate,
    wide_contraction,
)
from qcompiler.backends.tvm.kernels.wide_estimate import estimate_weights
from qcompiler.backends.tvm.kernels.wide_kernel import WideKernel
from qcompiler.backends.tvm.kernels.wide_partial_sums import CombineDigits, CombineEstimate

isa = isa_fixture(but=NO_PRODUCTS)

Array = NDArray[Any]

LOWEST, HIGHEST = -(1 << 15), (1 << 15) - 1


def exact_sums(geometry: ContractionGeometry, x: Array, weights: Array) -> Array:
    """``[height, width, outputs]``."""
    top, left, bottom, right = geometry.pads
    padded = np.pad(x.astype(np.int64), ((top, bottom), (left, right), (0, 0)))
    rows, columns = geometry.output_size
    result = np.zeros((rows, columns, geometry.outputs), np.int64)
    channels, outputs = geometry.channels // geometry.groups, geometry.outputs // geometry.groups
    (sy, sx), (dy, dx) = geometry.strides, geometry.dilations
    for i in range(geometry.kernel[0]):
        for j in range(geometry.kernel[1]):
            seen = padded[i * dy :, j * dx :][: (rows - 1) * sy + 1 : sy, : (columns - 1) * sx + 1 : sx]
            for g in range(geometry.groups):
                out = slice(g * outputs, (g + 1) * outputs)
                part = seen[..., g * channels : (g + 1) * channels]
                result[..., out] += part @ weights[out, i, j].T.astype(np.int64)
    return result


def computed_sums(way: WideContraction, x: Array, isa: InstructionSet) -> Array:
    """As a program runs it, for samples ``[samples, height, width, channels]``; int64 ``[samples, ...]``, flat."""
    samples, sums = len(x), way.sums
    parts = np.zeros((samples, sums.elements), np.int32)
    for sample, into in zip(x, parts, strict=True):
        high = np.zeros(0)
        if way.high_bytes is not None:
            high = np.zeros(sample.shape, isa.activation)
            run_kernel(way.high_bytes, isa, {"input_0": sample, "y": high})
        # Calls are independent: the last one goes first, and the last half of its items.
        for call in reversed(way.calls):
            size = next(a.elements for a in call.kernel.arguments(isa) if a.role is Role.OUTPUT)
            y = into[call.offset : call.offset + size]
            source = high if call.takes_high_bytes else sample
            items = call.kernel.items(isa)
            for begin, end in ((items // 2, items), (0, items // 2)):
                run_kernel(call.kernel, isa, {"x": source, **call.constants, "y": y}, begin, end)
    result = np.zeros(samples * sums.outer * sums.inner, np.int64)
    views = {f"input_{i}": parts.reshape(-1)[offset:] for i, offset in enumerate(sums.offsets)}
    kernel = sums.combination(samples)
    for argument in kernel.arguments(isa)[:-1]:
        views[argument.name] = views[argument.name][: argument.elements]
    run_kernel(kernel, isa, views | {"y": result})
    return result.reshape(samples, -1)


def check(geometry: ContractionGeometry, x: Array, weights: Array, isa: InstructionSet) -> dict[str, WideContraction]:
    """All ways, and the chosen one, give exact sums; the ways that there are."""
    x, weights = x.astype(np.int16), weights.astype(np.int16)
    expected = np.stack([exact_sums(geometry, sample, weights).reshape(-1) for sample in x])
    ways = {"digits": by_digits(geometry, *split_into_digits(weights), isa)}
    estimate = estimate_weights(weights)
    if estimate is not None and isa.group == 4:
        ways["estimate"] = by_estimate(geometry, weights, estimate, isa)
    with_carries = None if geometry.is_depthwise else by_carries(geometry, weights, isa)
    if with_carries is not None:
        ways["carries"] = with_carries
    for way in ways.values():
        np.testing.assert_array_equal(computed_sums(way, x, isa), expected)
    chosen, found = wide_contraction(geometry, weights, isa), ways.values()
    assert (chosen.sums, [c.kernel for c in chosen.calls]) in [(w.sums, [c.kernel for c in w.calls]) for w in found]
    return ways


def numbers(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """int16 with the ends of their range among them."""
    return rng.choice([LOWEST, HIGHEST, 0, *rng.integers(LOWEST, HIGHEST + 1, 9)], shape)


def weights_of(geometry: ContractionGeometry, rng: np.random.Generator) -> Array:
    return numbers(rng, (geometry.outputs, *geometry.kernel, geometry.channels // geometry.groups))


def samples_of(geometry: ContractionGeometry, rng: np.random.Generator, count: int = 1) -> Array:
    return numbers(rng, (count, geometry.height, geometry.width, geometry.channels))


@st.composite
def geometries(draw: st.DrawFn) -> ContractionGeometry:
    """Contractions of any kind, with all sizes small."""
    pair = st.tuples(st.integers(1, 3), st.integers(1, 3))
    kernel, strides, dilations = draw(pair), draw(pair), draw(pair)
    if draw(st.booleans()):
        kernel, strides = (1, 1), draw(st.sampled_from([(1, 1), (2, 2)]))
    pads = draw(st.one_of(st.just((0, 0, 0, 0)), st.tuples(*[st.integers(0, 3)] * 4)))
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    least = [max(1, span - pads[axis] - pads[axis + 2]) for axis, span in enumerate(spans)]
    size = least[0] + draw(st.integers(0, 6)), least[1] + draw(st.integers(0, 30))
    if draw(st.booleans()):
        groups = draw(st.integers(2, 70))
        return ContractionGeometry(*size, groups, groups, kernel, strides, dilations, pads, groups)
    groups = draw(st.sampled_from([1, 1, 1, 2, 3]))
    channels, outputs = (groups * draw(st.integers(1, 40)) for _ in range(2))
    return ContractionGeometry(*size, channels, outputs, kernel, strides, dilations, pads, groups)


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(geometry=geometries(), samples=st.sampled_from([1, 3]), seed=st.integers(0, 1 << 32))
def test_any_contraction_is_exact(isa: InstructionSet, geometry: ContractionGeometry, samples: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    check(geometry, samples_of(geometry, rng, samples), weights_of(geometry, rng), isa)


SHAPES = {
    "padded": ContractionGeometry(7, 9, 16, 16, (3, 3), pads=(1,) * 4),
    "tails": ContractionGeometry(5, 6, 5, 21, (3, 2), (2, 1), pads=(0, 1, 1, 2)),
    "grouped": ContractionGeometry(5, 6, 6, 40, (3, 3), groups=2, pads=(1,) * 4),
    "multiplied": ContractionGeometry(5, 6, 6, 12, (3, 3), groups=6, pads=(1,) * 4),
    "depthwise": ContractionGeometry(6, 7, 21, 21, (3, 3), groups=21, pads=(1,) * 4),
    "matrices": ContractionGeometry.of_matrices(5, 77, 10),
}


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("weight", [LOWEST, HIGHEST, "alternating"], ids=str)
@pytest.mark.parametrize("activation", [LOWEST, HIGHEST])
def test_the_largest_sums(isa: InstructionSet, name: str, weight: int | str, activation: int) -> None:
    geometry = SHAPES[name]
    x = np.full((1, geometry.height, geometry.width, geometry.channels), activation)
    weights = np.full((geometry.outputs, *geometry.kernel, geometry.channels // geometry.groups), LOWEST)
    if weight == "alternating":
        weights[1::2] = HIGHEST
    elif weight == HIGHEST:
        weights[:] = HIGHEST
    ways = check(geometry, x, weights, isa)
    assert ways["digits"].sums.parts == 2
    # Two weights at the lower end are too much for a chunk; where channels are seen one by one, each step has one.
    has_carries = isa.wide.group == 1 or name == "multiplied" or weight == HIGHEST
    expected = {"digits", *["estimate"] * (isa.group == 4), *["carries"] * (has_carries and name != "depthwise")}
    assert set(ways) == expected


@pytest.mark.parametrize("name", SHAPES)
def test_small_weights_need_one_part(isa: InstructionSet, name: str) -> None:
    geometry, rng = SHAPES[name], np.random.default_rng(2)
    weights = np.sign(weights_of(geometry, rng))
    check(geometry, samples_of(geometry, rng, 2), weights, isa)
    way = wide_contraction(geometry, weights.astype(np.int16), isa)
    assert (way.sums.parts, way.high_bytes) == (1, None)


def test_many_terms_need_more_digits_and_allow_no_estimate(isa: InstructionSet) -> None:
    geometry, rng = ContractionGeometry.of_matrices(3, 3000, 20), np.random.default_rng(3)
    weights = rng.integers(LOWEST // 2, HIGHEST // 2, (20, 1, 1, 3000)) * 2 - 1
    weights[:, :, :, ::2] //= 2
    ways = check(geometry, rng.choice([LOWEST, HIGHEST], (1, 1, 3, 3000)), weights, isa)
    assert {name: way.sums.parts for name, way in ways.items()} == {"digits": 3, "carries": 2}


def test_products_of_bytes_replace_a_digit_where_they_take_less() -> None:
    """With four products of bytes to a lane; not where products of 16 bits are as fast."""
    rng = np.random.default_rng(4)
    stages = {}
    for name in ("avx512-vnni", "aarch64-dotprod", "avx2", "generic"):
        for shape in ("padded", "depthwise"):
            weights = weights_of(SHAPES[shape], rng).astype(np.int16)
            stages[name, shape] = type(wide_contraction(SHAPES[shape], weights, INSTRUCTION_SETS[name]).sums.stage)
    by_bytes = {key for key, stage in stages.items() if stage is CombineEstimate}
    assert by_bytes == {("avx512-vnni", "padded"), ("aarch64-dotprod", "padded")}
    assert all(stage is CombineDigits for key, stage in stages.items() if key not in by_bytes)


def test_weights_that_are_mostly_small_take_carries(isa: InstructionSet) -> None:
    geometry, rng = SHAPES["padded"], np.random.default_rng(6)
    shape = (geometry.outputs, *geometry.kernel, geometry.channels // geometry.groups)
    # Three times what one part holds.
    spread = 3 * (1 << 16) / np.prod(shape[1:])
    weights = np.clip(rng.laplace(0.0, spread, shape), LOWEST, HIGHEST).astype(np.int16)
    (call,) = wide_contraction(geometry, weights, isa).calls
    assert isinstance(call.kernel, WideKernel)
    assert isinstance(call.kernel.kernel, CarryConvolution)


@pytest.mark.parametrize("name", SHAPES)
def test_every_constant_is_an_argument(isa: InstructionSet, name: str) -> None:
    rng = np.random.default_rng(5)
    weights = weights_of(SHAPES[name], rng).astype(np.int16)
    for call in wide_contraction(SHAPES[name], weights, isa).calls:
        taken = {a.name: (a.dtype, a.elements) for a in call.kernel.arguments(isa) if a.role is Role.CONSTANT}
        assert taken == {key: (str(array.dtype), array.size) for key, array in call.constants.items()}


def test_partial_sums_of_samples_lie_side_by_side(isa: InstructionSet) -> None:
    sums = wide_contraction(SHAPES["grouped"], np.full((40, 3, 3, 3), 9999, np.int16), isa).sums
    assert sums.elements == 5 * 6 * 40 * sums.parts
    for samples in (1, 4):
        arguments = sums.combination(samples).arguments(isa)
        reach = [o + a.elements for o, a in zip(sums.offsets, arguments[:-1], strict=True)]
        assert max(reach) == samples * sums.elements
        assert arguments[-1].elements == samples * 5 * 6 * 40


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("terms", [1, 300])
def test_two_computed_matrices(isa: InstructionSet, transposed: bool, terms: int) -> None:
    """The plain kernel with int64 sums, for what is not constant."""
    rng = np.random.default_rng(terms)
    rows, columns = 5, 37
    x, w = numbers(rng, (2, rows, terms)).astype(np.int16), numbers(rng, (terms, columns)).astype(np.int16)
    x[0], w[:, 0] = LOWEST, LOWEST
    stored = np.ascontiguousarray(w.T) if transposed else w
    kernel = DirectMatmul(
        (2,), rows, columns, terms, (rows * terms, terms, 1), (0, terms, 1) if transposed else (0, 1, columns), x.size,
        w.size, "int16", "int16", "int64",
    )
    y = np.zeros((2, rows, columns), np.int64)
    arrays: dict[str, Array] = {"x": x, "w": stored, "bias": np.zeros(columns, np.int64), "accumulator": y}
    run_kernel(kernel, isa, arrays | {f"{name}_zero_point": np.zeros(1, np.int64) for name in "xw"})
    np.testing.assert_array_equal(y, x.astype(np.int64) @ w.astype(np.int64))
    assert y[0, 0, 0] == terms << 30
