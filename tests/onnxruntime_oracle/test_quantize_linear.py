"""quantize and dequantize of ``cpu-int8`` against QuantizeLinear and DequantizeLinear."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from onnxruntime_oracle.qlinear_case import ROWS, Program, draw_scale, scale_of, seeds, uint8, zero_point_of
from onnxruntime_oracle.qlinear_model import run_operator
from qcompiler.ir import Affine, TensorType
from qcompiler.ir.scalar import F32, U8
from qcompiler.ops.quantization import Dequantize, Quantize

Array = NDArray[Any]


def quantized(x: Array, elem: Affine) -> Array:
    program = Program()
    source = program.graph.add_input("x", TensorType(x.shape, F32))
    arithmetic = ROWS["quantize"].arithmetic
    assert arithmetic is not None
    return program.run(program.build(Quantize(arithmetic), source, elem=elem), x=x)


def quantize_linear(x: Array, elem: Affine) -> Array:
    constants = {"s": scale_of(elem), "z": zero_point_of(elem)}
    return run_operator("QuantizeLinear", ["x", "s", "z"], {"x": x}, constants)


@pytest.mark.parametrize("zero_point", [0, 1, 100, 127, 128, 254, 255])
@pytest.mark.parametrize("scale", [0.25, 1.0, 0.7, 1 / 3])
def test_ties_and_saturation(scale: float, zero_point: int) -> None:
    elem = Affine.per_tensor(U8, scale, zero_point)
    x = np.arange(-700, 700).astype(np.float32) / np.float32(2) * np.float32(scale)
    beside = np.concatenate([x, np.nextafter(x, np.float32(np.inf)), np.nextafter(x, np.float32(-np.inf))])
    x = np.concatenate([beside, np.array([np.inf, -np.inf, 3e38, -3e38, 1e-40, -0.0], np.float32)])
    ours = quantized(x, elem)
    np.testing.assert_array_equal(ours, quantize_linear(x, elem))
    assert (ours.min(), ours.max()) == (0, 255)


def test_random_numbers() -> None:
    for rng in seeds(40):
        elem = uint8(rng, draw_scale(rng, ties=False, low=1e-6, high=1e3))
        x = (rng.normal(0, 128, int(rng.integers(1, 4000))) * float(scale_of(elem))).astype(np.float32)
        np.testing.assert_array_equal(quantized(x, elem), quantize_linear(x, elem))


def test_dequantize() -> None:
    q = np.arange(256, dtype=np.uint8)
    for rng in seeds(40):
        elem = uint8(rng, draw_scale(rng, ties=False, low=1e-6, high=1e3))
        program = Program()
        result = program.build(Dequantize(), program.graph.add_input("q", TensorType(q.shape, elem)))
        constants = {"s": scale_of(elem), "z": zero_point_of(elem)}
        theirs = run_operator("DequantizeLinear", ["q", "s", "z"], {"q": q}, constants, result=np.float32)
        np.testing.assert_array_equal(program.run(result, q=q), theirs)
