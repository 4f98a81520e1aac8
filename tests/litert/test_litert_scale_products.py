"""The width of the product of input scales, kernel by kernel.

The output scale is twice the float32 product of the input scales, so that the ratio is exactly 1/2 where the
product is rounded to float32, and every odd accumulator is a tie; where it is not rounded the same accumulators lie
beside the tie. One value, one weight 1: the accumulator is the input less its zero point.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from ai_edge_litert.schema_py_generated import Padding
from numpy.typing import NDArray

from litert.tflite_model import Operator, constant, run_model, variable, write_model
from litert.witness import seeds
from qcompiler import numerics
from qcompiler.ir import Affine, TensorType
from qcompiler.ir.scalar import I8
from qcompiler.ops.quantized import tensor_parameters

Array = NDArray[Any]

_UNIT = {"padding": Padding.VALID, "strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}


@dataclass(frozen=True)
class Kernel:
    """A LiteRT kernel, and the form that it follows.

    Attributes:
        shape: of the input.
        weights: shape of the weights of one output channel.
        channels: equal output channels; two make the weights quantized per channel.
        rounding: registered form.
    """

    operator: Operator
    shape: tuple[int, ...]
    weights: tuple[int, ...]
    channels: int
    rounding: str

    def __str__(self) -> str:
        return f"{self.operator.code}-{'per-tensor' if self.channels == 1 else 'per-channel'}"


KERNELS = [
    Kernel(Operator("CONV_2D", 3, "Conv2D", _UNIT), (1, 256, 1, 1), (1, 1, 1), 1, "double"),
    Kernel(Operator("CONV_2D", 3, "Conv2D", _UNIT), (1, 256, 1, 1), (1, 1, 1), 2, "double"),
    Kernel(Operator("FULLY_CONNECTED", 4, "FullyConnected"), (256, 1), (1,), 1, "float64-away"),
    Kernel(Operator("FULLY_CONNECTED", 5, "FullyConnected"), (256, 1), (1,), 2, "float64-away"),
]


def draw_scales(rng: np.random.Generator) -> tuple[Any, Any, Any]:
    """Input scales whose product is not a float32, and twice its float32 rounding."""
    while True:
        first, second = np.exp2(rng.uniform(-8, -2, 2)).astype(np.float32)
        rounded = np.float32(first * second)
        if np.float64(first) * np.float64(second) < np.float64(rounded):
            return first, second, np.float32(2) * rounded


def expected(rounding: str, float32_product: bool, x: Array, types: tuple[Affine, Affine, Affine]) -> Array:
    """``x`` through a requantize of the given form, the product of input scales rounded to float32 or not."""
    source, weight, result = types
    form = numerics.requantize_form(rounding)
    scales = [source.scale.array, weight.scale.array]
    if float32_product:
        scales = [scales[0] * scales[1]]
    centered = tensor_parameters(TensorType((), Affine.per_tensor(I8, 1, int(source.zero_point.array))))
    output = tensor_parameters(TensorType((), result))
    return numerics.requantize(form, x.astype(np.int64), form.constants(scales, result.scale.array), centered, output)


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_kernels_with_weights(kernel: Kernel) -> None:
    for rng in seeds(6):
        first, second, output = draw_scales(rng)
        source = Affine.per_tensor(I8, first, int(rng.integers(-9, 9)))
        weight, result = Affine.per_tensor(I8, second), Affine.per_tensor(I8, output, int(rng.integers(-9, 9)))
        x = np.arange(-128, 128, dtype=np.int8)
        channels = kernel.channels
        ones = np.ones((channels, *kernel.weights), np.int8)
        model = write_model(
            kernel.operator,
            [
                variable(TensorType(kernel.shape, source)), constant(ones, [second] * channels),
                constant(np.zeros(channels, np.int32), [first * second] * channels),
            ],
            variable(TensorType((*kernel.shape[:-1], channels), result)),
        )
        theirs = run_model(model, [x.reshape(kernel.shape)]).reshape(256, channels)
        types = (source, weight, result)
        for channel in theirs.T:
            np.testing.assert_array_equal(expected(kernel.rounding, False, x, types), channel)
            assert (expected(kernel.rounding, True, x, types) != channel).any()


def test_batch_matmul() -> None:
    for rng in seeds(6):
        first, second, output = draw_scales(rng)
        source = Affine.per_tensor(I8, first, int(rng.integers(-9, 9)))
        weight, result = Affine.per_tensor(I8, second, 0), Affine.per_tensor(I8, output, int(rng.integers(-9, 9)))
        x = np.arange(-128, 128, dtype=np.int8)
        model = write_model(
            Operator("BATCH_MATMUL", 2, "BatchMatMul"),
            [variable(TensorType((1, 256, 1), source)), variable(TensorType((1, 1, 1), weight))],
            variable(TensorType((1, 256, 1), result)),
        )
        theirs = run_model(model, [x.reshape(1, 256, 1), np.ones((1, 1, 1), np.int8)]).reshape(-1)
        types = (source, weight, result)
        np.testing.assert_array_equal(expected("double-f32-product", False, x, types), theirs)
        assert (expected("double", False, x, types) != theirs).any()


def test_multipliers_to_their_last_bit() -> None:
    """Accumulators of 31 bits on both sides of every step of the result: one unit in the multiplier moves the steps.

    The input is its zero point, so that the accumulators are the biases.
    """
    for rng in seeds(12):
        source = Affine.per_tensor(I8, np.float32(rng.uniform(0.5, 1)), 3)
        weight = Affine.per_tensor(I8, np.float32(rng.uniform(0.5, 1)) * np.float32(2.0**-12))
        result = Affine.per_tensor(I8, np.float32(2.0**11) * np.float32(rng.uniform(0.5, 1)))
        first, second, output = (float(t.scale.array) for t in (source, weight, result))
        steps = (np.arange(-127, 127) + 0.5) / (first * second / output)
        bias = (np.floor(steps)[:, None] + np.arange(-3, 5)).reshape(-1)
        bias = bias[np.abs(bias) < 2.0**31 - 1].astype(np.int32)
        model = write_model(
            Operator("CONV_2D", 3, "Conv2D", _UNIT),
            [
                variable(TensorType((1, 1, 1, 1), source)), constant(np.ones((len(bias), 1, 1, 1), np.int8), [second]),
                constant(bias, [np.float32(first * second)]),
            ],
            variable(TensorType((1, 1, 1, len(bias)), result)),
        )
        theirs = run_model(model, [np.full((1, 1, 1, 1), 3, np.int8)]).reshape(-1)
        form = numerics.requantize_form("double")
        constants = form.constants([source.scale.array, weight.scale.array], result.scale.array)
        assert np.clip(form.scale(bias.astype(np.int64), constants), -128, 127).tolist() == theirs.tolist()
        assert len(np.unique(theirs)) > 50
