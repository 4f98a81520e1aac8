"""QUANTIZE, DEQUANTIZE and fused activations against LiteRT's reference kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ai_edge_litert.schema_py_generated import ActivationFunctionType, Padding
from numpy.typing import NDArray

from litert.tflite_model import Operator, constant
from litert.witness import SCALES, Program, Scales, assert_equals_litert, int8, integers, seeds
from qcompiler.ir import Affine, Arithmetic, ConstantArray, TensorType
from qcompiler.ir.scalar import F32, I8, I16, I32
from qcompiler.numerics import AffineQuantize
from qcompiler.ops.constant import Constant
from qcompiler.ops.contraction import Conv2D
from qcompiler.ops.quantization import Clamp, Dequantize, Quantize
from qcompiler.ops.quantized import tensor_parameters

Array = NDArray[Any]


def reals(result: Affine, rng: np.random.Generator) -> Array:
    """Ties and their neighbours, beyond both ends of the range, and random numbers."""
    scale = result.scale.array
    halves = (np.arange(-400, 401).astype(np.float32) / np.float32(2)) * scale
    near = np.concatenate([halves, np.nextafter(halves, np.float32(-np.inf)), np.nextafter(halves, np.float32(np.inf))])
    far = np.array([np.inf, -np.inf, 3e38, -3e38, 0.0, -0.0], np.float32)
    return np.concatenate([near, far, rng.normal(0, 60, 1000).astype(np.float32) * scale]).astype(np.float32)


@pytest.mark.parametrize("scales", SCALES, ids=str)
@pytest.mark.parametrize("storage", [I8, I16], ids=str)
def test_quantize_from_float(storage: Any, scales: Scales) -> None:
    for rng in seeds(12):
        zero = int(rng.integers(-60, 60)) if storage == I8 else 0
        result = Affine.per_tensor(storage, float(scales.draw(rng)), zero)
        x = reals(result, rng)
        # Beyond int32 the kernel's conversion to integers is undefined in C++.
        x = x[np.abs(x.astype(np.float64) / float(result.scale.array)) < 2**30]
        program = Program()
        quantize = Quantize(Arithmetic.parse("affine{rounding=half-away}"))
        y = program.build(quantize, program.input(TensorType(x.shape, F32), x), elem=result)
        assert_equals_litert(program, y, Operator("QUANTIZE", 2, "Quantize"))


@pytest.mark.parametrize("scales", SCALES, ids=str)
@pytest.mark.parametrize("storages", [(I8, I8), (I8, I16), (I16, I8), (I16, I16)], ids=str)
def test_requantize(storages: Any, scales: Scales) -> None:
    for rng in seeds(12):
        source, result = (
            Affine.per_tensor(
                s, float(scales.draw(rng, factor=1 if s == I8 else 1 / 256)), int(rng.integers(-40, 41)) * (s == I8)
            )
            for s in storages
        )
        first = source.storage.minimum
        data = np.arange(first, source.storage.maximum + 1).astype(source.storage.dtype)
        program = Program()
        x = program.input(TensorType(data.shape, source), data)
        y = program.requantize(x, "double", [source.scale.array], result)
        assert_equals_litert(program, y, Operator("QUANTIZE", 2, "Quantize"))


@pytest.mark.parametrize("scales", SCALES, ids=str)
@pytest.mark.parametrize("storage", [I8, I16], ids=str)
def test_dequantize(storage: Any, scales: Scales) -> None:
    for rng in seeds(12):
        zero = int(rng.integers(-128, 128)) if storage == I8 else 0
        source = Affine.per_tensor(storage, float(scales.draw(rng)), zero)
        data = np.arange(storage.minimum, storage.maximum + 1).astype(storage.dtype)
        program = Program()
        y = program.build(Dequantize(), program.input(TensorType(data.shape, source), data))
        assert_equals_litert(program, y, Operator("DEQUANTIZE", 3 if storage == I16 else 2, "Dequantize"))


def activation_bound(value: float, result: Affine) -> int:
    """The stored bound of an activation: the affine quantization, ties away from zero, of the real bound."""
    q = AffineQuantize().apply(np.asarray(value, np.float32), tensor_parameters(TensorType((), result)))
    return int(q)


ACTIVATIONS = {"RELU": (0.0, None), "RELU6": (0.0, 6.0), "RELU_N1_TO_1": (-1.0, 1.0)}


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
@pytest.mark.parametrize(
    # 6/scale is a tie in exact arithmetic (4, 12), a tie in float32 alone (0.8, 0.16), below 1 (13), or neither.
    "scale", [4.0, 12.0, 0.8, 0.16, 12 / 75, 2 / 23, 13.0, 0.05, 0.023528477]
)
def test_activation_fused_into_conv2d_is_a_clamp_after_the_zero_point(activation: str, scale: float) -> None:
    low, high = ACTIVATIONS[activation]
    for rng in seeds(4):
        result = int8(rng, scale)
        program = Program()
        source = Affine.per_tensor(I8, 0.25, int(rng.integers(-20, 20)))
        type = TensorType((1, 64, 64, 1), source)
        x = program.input(type, integers(rng, type))
        # One tap of weight 1: the accumulator is the input less its zero point.
        weight_scale = np.asarray([scale * 4 * 2.5], np.float32)
        weight, bias = np.ones((1, 1, 1, 1), np.int8), np.zeros(1, np.int32)
        w_elem = Affine.per_tensor(I8, weight_scale[0], 0, -127, 127)
        w = program.build(Constant(ConstantArray(weight)), elem=w_elem)
        op = Conv2D(layout="NHWC")
        acc_elem = op.accumulator([x.type, w.type], x.type.shape, I32)
        acc = program.build(op, x, w, elem=acc_elem)
        y = program.requantize(acc, "double", [source.scale.array, weight_scale.reshape(())], result)
        bounds = activation_bound(low, result), result.qmax if high is None else activation_bound(high, result)
        y = program.build(Clamp(*bounds), y)
        fields = {
            "padding": Padding.VALID, "strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1,
            "fusedActivationFunction": getattr(ActivationFunctionType, activation),
        }
        operands = [constant(weight, weight_scale), constant(bias, acc_elem.scale.array)]
        found = assert_equals_litert(program, y, Operator("CONV_2D", 3, "Conv2D", fields), operands)
        assert (found.min(), found.max()) == bounds


def test_the_bound_of_an_activation_is_a_float32_quotient() -> None:
    """6 / 0.8 is 7.5 in float32, a tie, and just below in float64: LiteRT clamps at zero point + 8."""
    result = Affine.per_tensor(I8, 0.8, 0)
    assert np.float64(6) / np.float64(result.scale.array) < 7.5
    assert activation_bound(6.0, result) == 8
