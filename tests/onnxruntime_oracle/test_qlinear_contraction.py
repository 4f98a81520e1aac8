"""conv2d and matmul of ``cpu-int8``, with requantize, against QLinearConv and QLinearMatMul."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from onnxruntime_oracle.qlinear_case import (
    Rng,
    Weights,
    count_ties,
    draw_scale,
    integers,
    run_contraction,
    run_product,
    scale_of,
    seeds,
    uint8,
    zero_point_of,
)
from onnxruntime_oracle.qlinear_model import run_operator
from qcompiler.ir import Affine
from qcompiler.ops.contraction import Conv2D, Matmul

Array = NDArray[Any]


def result_elem(rng: Rng, ties: bool, x: Affine, weight_scales: Array, terms: int) -> Affine:
    """A result type that accumulators of ``terms`` random products fill, and leave at both ends."""
    typical = float(np.median(weight_scales)) * float(scale_of(x)) * 74 * 74 * terms**0.5 / 60
    return uint8(rng, np.exp2(np.floor(np.log2(typical))) if ties else typical)


def qlinear_conv(x: Array, elem: Affine, weights: Weights, result: Affine, op: Conv2D) -> Array:
    """ONNX Runtime's convolution; operands and result are ``[N, H, W, C]``, weights ``[O, KH, KW, C / groups]``."""
    constants = {
        "sx": scale_of(elem), "zx": zero_point_of(elem), "w": weights.array.transpose(0, 3, 1, 2).copy(),
        "sw": weights.scales, "zw": np.zeros(weights.scales.shape, np.int8), "sy": scale_of(result),
        "zy": zero_point_of(result), **({} if weights.bias is None else {"b": weights.bias}),
    }
    names = ["x", "sx", "zx", "w", "sw", "zw", "sy", "zy", *(() if weights.bias is None else ("b",))]
    found = run_operator(
        "QLinearConv", names, {"x": np.ascontiguousarray(x.transpose(0, 3, 1, 2))}, constants,
        strides=op.strides, dilations=op.dilations, pads=op.pads, group=op.groups,
    )
    return found.transpose(0, 2, 3, 1)


def draw_convolution(rng: Rng) -> tuple[Conv2D, tuple[int, ...], tuple[int, ...]]:
    """An op with the shapes of its input and weights: dense, grouped or depthwise."""
    groups = int(rng.choice([1, 1, 2, 5]))
    inputs = int(rng.integers(1, 20)) if groups < 5 else 1
    outputs = groups * int(rng.integers(1, 20 if groups < 5 else 3))
    kernel = tuple(int(k) for k in rng.integers(1, 5, 2))
    strides, dilations = (tuple(int(v) for v in rng.integers(1, 3, 2)) for _ in range(2))
    pads = tuple(int(rng.integers(0, kernel[i % 2])) for i in range(4))
    height, width = (int(rng.integers((kernel[i] - 1) * dilations[i] + 1, 13)) for i in (0, 1))
    op = Conv2D(strides, dilations, pads, groups, "NHWC")  # type: ignore[arg-type]
    shape = (int(rng.integers(1, 3)), height, width, inputs * groups)
    return op, shape, (outputs, *kernel, inputs)


@pytest.mark.parametrize("ties", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_convolution(ties: bool, bias: bool) -> None:
    found_ties, ends = 0, set()
    for rng in seeds(100):
        op, x_shape, w_shape = draw_convolution(rng)
        elem = uint8(rng, draw_scale(rng, ties))
        x, outputs, terms = integers(rng, x_shape), w_shape[0], int(np.prod(w_shape[1:]))
        limit = int(74 * 74 * terms**0.5)
        weights = Weights(
            integers(rng, w_shape, -127, 127, np.int8), draw_scale(rng, ties, outputs, 0.01),
            rng.integers(-limit, limit, outputs).astype(np.int32) if bias else None,
        )
        result = result_elem(rng, ties, elem, weights.scales, terms)
        ours, scaled = run_contraction(op, x, elem, weights, result)
        np.testing.assert_array_equal(ours, qlinear_conv(x, elem, weights, result, op))
        found_ties += count_ties(scaled)
        ends |= {int(ours.min()), int(ours.max())}
    assert {0, 255} <= ends
    assert found_ties > 100 or not ties


@pytest.mark.parametrize("power", [4, 9, 18, 22, 23])
def test_accumulators_at_and_beside_ties(power: int) -> None:
    """A convolution of zeros gives its bias: every accumulator can be seeded, those that float32 must round too."""
    halves = (np.arange(-300, 300)[:, None] * 2 + 1) * (1 << (power - 1)) + np.arange(-2, 3)
    bias = halves.reshape(-1)[np.abs(halves.reshape(-1)) < 1 << 31].astype(np.int32)
    for zero_point in (0, 1, 128, 255):
        elem = Affine.per_tensor(uint8(np.random.default_rng(0), 1).storage, 0.25, zero_point)
        result = Affine.per_tensor(elem.storage, 2.0 ** (power - 5), 255 - zero_point // 2)
        x = np.full((1, 1, 1, 1), zero_point, np.uint8)
        weights = Weights(np.ones((len(bias), 1, 1, 1), np.int8), np.full(len(bias), 0.125, np.float32), bias)
        ours, scaled = run_contraction(Conv2D(layout="NHWC"), x, elem, weights, result)
        assert count_ties(scaled) >= len(bias) // 5
        np.testing.assert_array_equal(ours, qlinear_conv(x, elem, weights, result, Conv2D(layout="NHWC")))


def test_any_accumulator() -> None:
    """Random accumulators of up to 31 bits, with a random ratio for each."""
    for rng in seeds(20):
        count = 2000
        bias = (rng.integers(-(2**31), 2**31, count) >> rng.integers(0, 28, count)).astype(np.int32)
        elem = uint8(rng, 0.5)
        x = np.full((1, 1, 1, 1), zero_point_of(elem))
        scales = (rng.uniform(1, 300, count) / np.maximum(np.abs(bias.astype(float)), 1)).astype(np.float32)
        weights = Weights(np.ones((count, 1, 1, 1), np.int8), scales, bias)
        ours, _ = run_contraction(Conv2D(layout="NHWC"), x, elem, weights, result := uint8(rng, 0.7))
        np.testing.assert_array_equal(ours, qlinear_conv(x, elem, weights, result, Conv2D(layout="NHWC")))
        assert len(np.unique(ours)) > 100


def qlinear_matmul(
    x: Array, elem: Affine, y: dict[str, Array], y_scale: Any, y_zero: Any, result: Affine, feeds: dict[str, Array]
) -> Array:
    constants = {
        "sx": scale_of(elem), "zx": zero_point_of(elem), "sw": y_scale, "zw": y_zero, "sy": scale_of(result),
        "zy": zero_point_of(result), **y,
    }
    return run_operator("QLinearMatMul", ["x", "sx", "zx", "w", "sw", "zw", "sy", "zy"], {"x": x, **feeds}, constants)


@pytest.mark.parametrize("ties", [True, False])
def test_matmul_by_weights(ties: bool) -> None:
    found_ties, ends = 0, set()
    for rng in seeds(60):
        rows, terms, columns = (int(v) for v in rng.integers(1, 70, 3))
        elem = uint8(rng, draw_scale(rng, ties))
        x = integers(rng, (rows, terms))
        weights = Weights(integers(rng, (terms, columns), -127, 127, np.int8), draw_scale(rng, ties, columns, 0.01))
        result = result_elem(rng, ties, elem, weights.scales, terms)
        ours, scaled = run_contraction(Matmul(), x, elem, weights, result)
        zeros = np.zeros(columns, np.int8)
        theirs = qlinear_matmul(x, elem, {"w": weights.array}, weights.scales, zeros, result, {})
        np.testing.assert_array_equal(ours, theirs)
        found_ties += count_ties(scaled)
        ends |= {int(ours.min()), int(ours.max())}
    assert {0, 255} <= ends
    assert found_ties > 100 or not ties


@pytest.mark.parametrize("ties", [True, False])
def test_matmul_of_two_computed_operands(ties: bool) -> None:
    ends = set()
    for rng in seeds(60):
        batch, rows, terms, columns = (int(v) for v in rng.integers(1, 30, 4))
        elems = uint8(rng, draw_scale(rng, ties)), uint8(rng, draw_scale(rng, ties))
        x, y = integers(rng, (batch, rows, terms)), integers(rng, (batch, terms, columns))
        result = result_elem(rng, ties, elems[0], elems[1].scale.array, 2 * terms)
        ours = run_product(Matmul(), x, y, elems, result)
        theirs = qlinear_matmul(x, elems[0], {}, scale_of(elems[1]), zero_point_of(elems[1]), result, {"w": y})
        np.testing.assert_array_equal(ours, theirs)
        ends |= {int(ours.min()), int(ours.max())}
    assert {0, 255} <= ends
