"""Inputs on which every registered arithmetic differs from its neighbours: ties, near-ties, saturation.

``SEEDS`` has an entry for each (op, arithmetic). An entry runs any rule of that op on fixed cases and returns the
results of each case, or None for a case outside the rule's domain (a ratio that is no power of two, for ``shift``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcompiler.errors import QCompilerError
from qcompiler.numerics import Quantization, requantize

Array = NDArray[Any]
Results = list[Array | None]

INT8 = np.arange(-128, 128)


def quantization(scale: Any, zero_point: int = 0, low: int = -128, high: int = 127) -> Quantization:
    return Quantization(np.asarray(scale, np.float32), np.asarray(zero_point), low, high)


def within_domain(compute: Callable[[], Array]) -> Array | None:
    try:
        return compute()
    except QCompilerError:
        return None


def requantize_results(form: Any) -> Results:
    """Small and large accumulators; the last case has a product of scales that float32 must round."""
    small, large = np.arange(-2000, 2001), np.arange(-(2**31), 2**31, 9973 * 7)
    first, second = np.float32(0.1), np.float32(0.3)
    cases: list[tuple[Array, list[Any], Any, int]] = [
        (small, [0.5, 0.5], 1.0, 3), (small, [0.25, 0.5], 1.0, 0), (small, [2.0**-6, 1.0], 1.0, -20),
        (small, [1.0, 1.0], 2.0, 7), (large, [2.0**-12, 2.0**-10], 0.5, 5), (large, [0.003, 0.00001], 0.7, -4),
        (small, [0.37, 0.21], 0.9, 0), (small, [first, second], np.float32(2) * (first * second), 0),
        (small, [0.9, 0.7], 0.11, 0),
    ]

    def case(x: Array, inputs: list[Any], output: Any, zero_point: int) -> Callable[[], Array]:
        source, result = quantization(1, 2, -(2**31), 2**31 - 1), quantization(output, zero_point)
        scales = [np.asarray(s, np.float32) for s in inputs]
        return lambda: requantize(form, x, form.constants(scales, result.scale), source, result)

    return [within_domain(case(*c)) for c in cases]


BELOW_ONE = 1 - 2.0**-24
"""The largest float32 below 1: half of it lies beside a tie by less than the fixed-point forms resolve."""


def binary_results(triples: list[tuple[Any, Any, Any]]) -> Callable[[Any], Results]:
    """All pairs of int8 for each triple of scales."""

    def run(rule: Any) -> Results:
        def case(triple: tuple[Any, Any, Any]) -> Callable[[], Array]:
            inputs, output = [quantization(triple[0], 1), quantization(triple[1], 1)], quantization(triple[2], -5)
            return lambda: rule.apply(
                INT8[:, None], INT8[None, :], inputs, output, rule.constants(inputs, output)
            )

        return [within_domain(case(t)) for t in triples]

    return run


def average_results(rule: Any) -> Results:
    output = quantization(0.1, 3, -100, 100)
    return [rule.apply(np.arange(-128 * n, 127 * n + 1), np.asarray(n), output) for n in (1, 2, 3, 4, 9)]


def reduction_results(rule: Any) -> Results:
    """Every sum of small windows; scales with ties, beside ties, and with saturation at both ends."""
    cases = [
        (4, 1.0, 1.0), (2, 0.5, 1.0), (2, 0.25, 1.0), (8, 1.0, 0.5), (3, 0.1, 0.03), (6, 0.37, 0.9),
        (2, BELOW_ONE, 1.0), (1, BELOW_ONE, 2.0), (100, 0.05, 0.04),
    ]

    def case(count: int, scale: float, result: float) -> Callable[[], Array]:
        source, output = quantization(scale, 3), quantization(result, -7)
        sums = np.arange(-128 * count, 127 * count + 1)
        return lambda: rule.apply(sums, count, source, output, rule.constants(count, source, output))

    return [within_domain(case(*c)) for c in cases]


def quantize_results(rule: Any) -> Results:
    output = quantization(0.5, 3)
    x = np.arange(-400, 401).astype(np.float32) / np.float32(4)
    return [rule.apply(x, output)]


def softmax_results(rule: Any) -> Results:
    output = quantization(1 / 256, -128)
    rows = np.random.default_rng(5).integers(-128, 128, (50, 9))
    rows[0], rows[1, 0], rows[1, 1:] = 5, 127, -128

    def case(scale: float) -> Callable[[], Array]:
        return lambda: rule.apply(rows, output, rule.constants(quantization(scale), output))

    return [within_domain(case(s)) for s in (0.01, 0.1, 0.7)]


def table_softmax_results(rule: Any) -> Results:
    """A rule for other results takes none of these."""
    output = quantization(2.0**-15, 0, -(1 << 15), (1 << 15) - 1)
    rows = np.random.default_rng(7).integers(-(1 << 15), 1 << 15, (50, 9))
    rows[0], rows[1, 0], rows[1, 1:] = 5, 32767, -32768
    rows[2, :8], rows[2, 8] = 32767, -32768
    row = np.full((1, 1), 77)

    def case(scale: float, x: Array) -> Callable[[], Array]:
        return lambda: rule.apply(x, output, rule.constants(quantization(scale), output))

    return [within_domain(case(s, x)) for s in (2.0**-14, 2.0**-11, 0.1) for x in (rows, row)]


def resize_results(rule: Any) -> Results:
    output = quantization(0.1, 0, -100, 100)
    image = np.random.default_rng(6).integers(-128, 128, (1, 5, 6, 3))
    return [rule.apply(image, (10, 12), output, half, align) for half, align in ((True, False), (False, False))]


# In the first a tie depends on the zero point of the result; in the others, on what is fused with an addition.
FLOAT_TRIPLES = [(0.5, 0.25, 1.0), (0.03, 0.11, 0.04), (0.17 * 7 / 8, 0.17 / 8, 0.17), (0.11 * 3 / 8, 0.11, 0.11)]


# Ties; operands so far apart that the finer one is rounded first; saturation. LiteRT's sum rounds them the same way
# unless its second stage, away from zero, meets a negative tie.
POWERS = [(1.0, 1.0, 2.0), (0.5, 0.25, 1.0), (2.0**17, 1.0, 2.0**14), (1.0, 1.0, 0.5)]


SEEDS: dict[tuple[str, str], Callable[[Any], Results]] = {
    **{
        ("requantize", name): requantize_results
        for name in ("double", "double-f32-product", "ruy", "single", "i64", "float-rne", "float64-away", "shift")
    },
    ("add", "litert-add"): binary_results(
        [(1.0, 1.0, 2.0), (0.5, 0.25, 1.0), (BELOW_ONE, BELOW_ONE, 2.0), (0.03, 0.11, 0.04)]
    ),
    ("sub", "litert-add"): binary_results(
        [(1.0, 1.0, 2.0), (0.5, 0.25, 1.0), (BELOW_ONE, BELOW_ONE, 2.0), (0.03, 0.11, 0.04)]
    ),
    ("mul", "litert-mul"): binary_results([(0.5, 0.5, 1.0), (0.25, 0.25, 1.0), (0.1, 0.07, 0.3), (1.0, 1.0, 4.0)]),
    ("add", "onnxruntime-add"): binary_results(FLOAT_TRIPLES),
    ("sub", "onnxruntime-add"): binary_results(FLOAT_TRIPLES),
    ("mul", "onnxruntime-mul"): binary_results([(0.5, 0.5, 1.0), (0.25, 0.25, 1.0), (0.1, 0.07, 0.3), (1.0, 1.0, 4.0)]),
    ("add", "shift-add"): binary_results(POWERS),
    ("sub", "shift-add"): binary_results(POWERS),
    ("mul", "shift-mul"): binary_results([(0.5, 0.5, 1.0), (0.25, 0.25, 1.0), (1.0, 1.0, 4.0)]),
    ("average_pool2d", "average-half-away"): average_results,
    ("average_pool2d", "average"): average_results,
    ("mean", "shift-mean"): reduction_results,
    ("reduce_sum", "shift-sum"): reduction_results,
    ("mean", "litert-mean"): reduction_results,
    ("reduce_sum", "litert-sum"): reduction_results,
    ("quantize", "affine"): quantize_results,
    ("softmax", "gemmlowp-softmax"): softmax_results,
    ("softmax", "table-softmax"): table_softmax_results,
    ("resize", "litert-resize-bilinear"): resize_results,
}
