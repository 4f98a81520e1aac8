"""Estimates from high bytes: never 2**31 or more away, and what becomes of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel_harness import NO_PRODUCTS, isa_fixture, run_kernel
from numpy.typing import NDArray

from qcompiler.backends.tvm.element import Step
from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.kernels.elementwise import elementwise
from qcompiler.backends.tvm.kernels.wide_estimate import PLACES, estimate_weights, high_bytes_kernel, zero_point_of
from qcompiler.backends.tvm.kernels.wide_partial_sums import CombineEstimate

isa = isa_fixture(but=NO_PRODUCTS)

Array = NDArray[Any]

LOWEST, HIGHEST = -(1 << 15), (1 << 15) - 1


def distances(weights: Array, x: Array) -> Array:
    """How far each output's sum is from its estimate; ``x`` is ``[N, K]``, activations for each output."""
    found = estimate_weights(weights.astype(np.int16))
    assert found is not None
    assert found.high.dtype == np.int8
    estimate = ((x >> 8) * found.high).sum(axis=1) + found.bias
    distance: Array = (x * weights).sum(axis=1) - (estimate << PLACES)
    # What the estimate leaves out, and half a place where the bytes' sum is odd.
    left = weights - (found.high.astype(np.int64) << 8)
    left_out = (((x & ~255) + 128) * left + ((x & 255) - 128) * weights).sum(axis=1)
    np.testing.assert_array_equal(distance - left_out, (found.high.sum(axis=1) % 2) << 15)
    return distance


@given(st.integers(1, 900), st.integers(0, 1 << 32))
def test_estimates_are_near_for_the_worst_activations(terms: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    weights = np.clip(rng.normal(0, rng.choice([100, 9000, 30_000]), (4, terms)), LOWEST, HIGHEST).astype(np.int64)
    weights[rng.random(weights.shape) < 0.1] = rng.choice([LOWEST, HIGHEST, 127, 128, -128, -129])
    found = estimate_weights(weights.astype(np.int16))
    if found is None:
        return
    left = weights - (found.high.astype(np.int64) << 8)
    farthest = np.where(left > 0, HIGHEST, LOWEST), np.where(left > 0, LOWEST, HIGHEST)
    low_bytes = np.where(weights > 0, 255, 0)
    for x in (*farthest, (farthest[0] & ~255) + low_bytes, (farthest[1] & ~255) + 255 - low_bytes):
        assert np.abs(distances(weights, x)).max() < 1 << 31


def test_what_is_refused_could_go_wrong() -> None:
    """The bound is no wider than needed: one more term and an estimate is too far away."""
    weights = np.full((1, 5000), -128 - 256, np.int16)
    terms = next(k for k in range(1, 5000) if estimate_weights(weights[:, :k]) is None)
    x = np.full((1, terms), LOWEST)
    assert (x * weights[:, :terms].astype(np.int64)).sum() > 0
    assert np.abs(distances(weights[:, : terms - 1].astype(np.int64), x[:, :-1])).max() > (1 << 31) * 0.98


def test_one_bad_output_is_enough_to_refuse() -> None:
    weights = np.zeros((5, 1000), np.int16)
    assert estimate_weights(weights) is not None
    weights[3] = 128
    assert estimate_weights(weights) is None


@pytest.mark.parametrize("stored", ["int8", "uint8"])
@pytest.mark.parametrize("count", [1, 50, 4099])
def test_high_bytes(isa: InstructionSet, stored: str, count: int) -> None:
    rng = np.random.default_rng(count)
    x = rng.choice([LOWEST, HIGHEST, 0, -1, 255, 256, -256, -257, *rng.integers(LOWEST, HIGHEST, 9)], count)
    y = np.zeros(count, stored)
    run_kernel(high_bytes_kernel(count, stored), isa, {"input_0": x.astype(np.int16), "y": y})
    np.testing.assert_array_equal(y.astype(np.int64) - zero_point_of(stored), x // 256)


def test_the_nearest_sum_with_the_low_bits_is_found(isa: InstructionSet) -> None:
    rng = np.random.default_rng(5)
    count = 1003
    estimate = rng.choice([0, -1, 1, (1 << 31) - 1, -(1 << 31), *rng.integers(-(1 << 31), 1 << 31, 9)], count)
    ends = [0, 1, -1, (1 << 31) - 1, 1 - (1 << 31)]
    distance = rng.choice([*ends, *rng.integers(-(1 << 31) + 1, 1 << 31, 9)], count)
    sums = (estimate << PLACES) + distance
    low = sums.astype(np.uint32).view(np.int32)
    kernel = elementwise(
        (count,), [("int32", (count,), False)] * 2, [Step(CombineEstimate(PLACES), (0, 1))], "int64"
    )
    y = np.zeros(count, np.int64)
    run_kernel(kernel, isa, {"input_0": low, "input_1": estimate.astype(np.int32), "y": y})
    np.testing.assert_array_equal(y, sums)
