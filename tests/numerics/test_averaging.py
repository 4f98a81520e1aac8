"""Integer averages, means and sums, against Python integers: every possible sum of a window."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from numerics.exact_arithmetic import clamp, half_away
from numerics.exact_kernels import Scaled, exact_mean, exact_sum
from qcompiler.numerics import Quantization, resolve

COUNTS = [1, 2, 3, 4, 5, 6, 9, 16, 25, 49, 64]


def sums_of_int8(count: int) -> np.ndarray:
    return np.arange(-128 * count, 127 * count + 1)


@pytest.mark.parametrize("count", COUNTS)
def test_average_of_every_sum(count: int) -> None:
    sums = sums_of_int8(count)
    output = Quantization(np.asarray(0.1, np.float32), np.asarray(-7), -100, 127)
    found = resolve("average_pool2d", "average-half-away").apply(sums, np.full(sums.shape, count), output)
    assert found.tolist() == [clamp(half_away(Fraction(int(v), count)), -100, 127) for v in sums]


SCALES = [((0.5, 3), (0.5, 3)), ((0.25, -128), (0.125, 127)), ((0.037, 11), (0.0211, -50)), ((0.002, 0), (0.9, 0))]


@pytest.mark.parametrize("scales", SCALES, ids=str)
@pytest.mark.parametrize("count", [*COUNTS, 7, 1000])
@pytest.mark.parametrize(("op", "name"), [("mean", "litert-mean"), ("reduce_sum", "litert-sum")])
def test_reduction_of_sums_from_end_to_end(
    op: str, name: str, count: int, scales: tuple[tuple[float, int], tuple[float, int]]
) -> None:
    sums = sums_of_int8(count)
    sums = sums[:: max(len(sums) // 1000, 1)]
    source, output = (Quantization(np.asarray(s, np.float32), np.asarray(z), -128, 127) for s, z in scales)
    rule = resolve(op, name)
    found = rule.apply(sums, count, source, output, rule.constants(count, source, output))
    definition = exact_mean if op == "mean" else exact_sum
    exact_source, exact_output = (Scaled(Fraction(float(np.float32(s))), z) for s, z in scales)
    assert found.tolist() == [definition(int(v), count, exact_source, exact_output) for v in sums]


def test_mean_keeps_the_multiplier_of_tiny_ratios_within_32_bits() -> None:
    """31 + exponent limits how far the multiplier may be shifted before the division by the count."""
    source, output = (Quantization(np.asarray(s, np.float32), np.asarray(0), -128, 127) for s in (2.0**-28, 1.0))
    rule = resolve("mean", "litert-mean")
    constants = rule.constants(4096, source, output)
    assert int(constants["shift"]) == -31
    assert int(constants["multiplier"]) == (2**30 << 4) // 4096
