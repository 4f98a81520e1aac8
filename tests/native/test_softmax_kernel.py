"""Softmax and bilinear resize of native code, against the arithmetic's own definition in numpy."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_harness import NO_PRODUCTS, Array, isa_fixture, run_kernel

from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.kernels.resize import ResizeBilinear, resize_coordinates
from qcompiler.backends.tvm.kernels.softmax import GemmlowpSoftmaxRows, softmax_tables
from qcompiler.numerics import Quantization
from qcompiler.numerics.interpolation import LitertResizeBilinear
from qcompiler.numerics.softmax import GemmlowpSoftmax

isa = isa_fixture(but=NO_PRODUCTS)


def bounds_of(q: Quantization) -> Array:
    return np.asarray([q.qmin, q.qmax], np.int32)


def quantization(dtype: str, scale: float, zero_point: int = 0, margin: int = 0) -> Quantization:
    info = np.iinfo(dtype)
    return Quantization(
        np.asarray(scale, np.float32), np.asarray(zero_point), int(info.min) + margin, int(info.max) - margin
    )


@pytest.mark.parametrize(("source", "result"), [("int8", "int8"), ("uint8", "uint8"), ("int16", "int8")])
@pytest.mark.parametrize(("rows", "length"), [(3000, 9), (3, 1), (2, 4095)])
def test_softmax(source: str, result: str, rows: int, length: int, isa: InstructionSet) -> None:
    """Rows of equal numbers, a single winner, and sums from one term to as many as there may be."""
    rng = np.random.default_rng(length)
    info = np.iinfo(source)
    kernel = GemmlowpSoftmaxRows(rows, length, source, result)
    output = quantization(result, 1 / 256, int(np.iinfo(result).min))
    for scale in (0.001, 0.05, 0.7, 40.0):
        x = rng.integers(info.min, int(info.max) + 1, (rows, length)).astype(source)
        x[0] = info.min
        x[1, 0], x[1, 1:] = info.max, info.min
        rule = GemmlowpSoftmax()
        constants = rule.constants(quantization(source, scale), output)
        exponentials, terms = softmax_tables(rule, constants, source)
        found = np.ones((rows, length), result)
        arrays = {"x": x, "exponentials": exponentials, "terms": terms, "bounds": bounds_of(output), "y": found}
        run_kernel(kernel, isa, arrays)
        np.testing.assert_array_equal(found, rule.apply(x.astype(np.int64), output, constants))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16"])
@pytest.mark.parametrize("inner", [1, 5, 37])
@pytest.mark.parametrize(("half_pixel", "align_corners"), [(True, False), (False, True), (False, False)])
def test_resize(dtype: str, inner: int, half_pixel: bool, align_corners: bool, isa: InstructionSet) -> None:
    """Up and down; doubling hits ties. Weights of half a pixel before the first one are negative."""
    rule = LitertResizeBilinear()
    rng = np.random.default_rng(inner)
    info = np.iinfo(dtype)
    output = quantization(dtype, 0.1, 0, margin=3)
    for sizes, result_sizes in (((4, 6), (8, 12)), ((9, 7), (4, 5))):
        x = rng.choice([info.min, info.max, -1 if info.min else 0, 0, 1, 77], (2, *sizes, inner)).astype(dtype)
        kernel = ResizeBilinear(dtype, 2, *sizes, *result_sizes, inner)
        found = np.zeros((2, *result_sizes, inner), dtype)
        coordinates = resize_coordinates(rule, sizes, result_sizes, half_pixel, align_corners)
        run_kernel(kernel, isa, {"x": x, **coordinates, "bounds": bounds_of(output), "y": found})
        expected = rule.apply(x.astype(np.int64), result_sizes, output, half_pixel, align_corners)
        np.testing.assert_array_equal(found, expected)
