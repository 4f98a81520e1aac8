"""Measured extremes of partial sums are those of the definition."""

from __future__ import annotations

import numpy as np
import pytest
from contraction_programs import CASES, contraction_program, output_channels

from qcompiler.analysis.accumulators import contraction_sums
from qcompiler.calibration.accumulator_extremes import measure_sums
from qcompiler.calibration.data import open_data
from qcompiler.ir import Affine, TensorType
from qcompiler.ir.scalar import I8


@pytest.mark.parametrize("name", CASES)
def test_positive_and_negative_products_are_summed_apart(name: str) -> None:
    op, shape, weights_shape = CASES[name]
    rng = np.random.default_rng(7)
    x = TensorType(shape, Affine.per_tensor(I8, 1.0, -5))
    bias = rng.integers(-900, 900, output_channels(op, weights_shape))
    case = contraction_program(op, x, rng.integers(-127, 128, weights_shape), bias, I8)
    sample = rng.integers(-128, 128, (3 * shape[0], *shape[1:])).astype(np.int8)
    (interval,) = measure_sums(case.graph, open_data({"x": sample}, case.graph)).values()
    matrix, channels = case.coefficients(), case.channels()
    products = matrix * (sample.reshape(3, 1, -1).astype(np.int64) + 5)
    highs = np.maximum(products, 0).sum(2) + np.maximum(bias, 0)[channels]
    lows = np.minimum(products, 0).sum(2) + np.minimum(bias, 0)[channels]
    assert interval == (int(lows.min()), int(highs.max()))
    low, high = contraction_sums(case.node).all.interval
    assert low <= interval[0] < 0 < interval[1] <= high


def test_samples_are_as_many_as_asked_for() -> None:
    op, shape, weights_shape = CASES["matmul"]
    x = TensorType(shape, Affine.per_tensor(I8, 1.0))
    case = contraction_program(op, x, np.ones(weights_shape, np.int64), np.zeros(5, np.int64), I8)
    data = np.zeros((40, *shape[1:]), np.int8)
    data[-1] = 100
    source = open_data({"x": data}, case.graph)
    assert measure_sums(case.graph, source, 8) == {case.node.result: (0, 0)}
    assert measure_sums(case.graph, source, 40) == {case.node.result: (0, 1700)}
