"""Pooling, mean and softmax against LiteRT's reference kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ai_edge_litert.schema_py_generated import Padding

from litert.padding import pads_for
from litert.tflite_model import Operator, constant
from litert.witness import SCALES, Program, Scales, assert_equals_litert, int8, integers, seeds
from qcompiler.ir import Affine, TensorType
from qcompiler.ir.scalar import I8
from qcompiler.ops.normalization import Softmax
from qcompiler.ops.pooling import AveragePool2D, MaxPool2D
from qcompiler.ops.reduction import Mean

POOLS = [
    # height, width, kernel, strides, padding
    (9, 9, (3, 3), (2, 2), "SAME"),
    (8, 8, (2, 2), (2, 2), "VALID"),
    (7, 9, (3, 2), (1, 2), "SAME"),
    (7, 7, (7, 7), (1, 1), "VALID"),
    (6, 6, (1, 2), (1, 1), "VALID"),
    (5, 8, (4, 5), (1, 3), "SAME"),
]


@pytest.mark.parametrize("pool", POOLS, ids=str)
@pytest.mark.parametrize("kind", ["average", "max"])
def test_pooling(kind: str, pool: Any) -> None:
    height, width, kernel, strides, padding = pool
    pads = pads_for(padding, (height, width), kernel, strides)
    fields = {
        "filterHeight": kernel[0], "filterWidth": kernel[1], "strideH": strides[0], "strideW": strides[1],
        "padding": getattr(Padding, padding),
    }
    for rng in seeds(4):
        type = TensorType((2, height, width, 24), int8(rng, 0.05))
        program = Program()
        x = program.input(type, integers(rng, type))
        if kind == "average":
            y = program.cited(AveragePool2D(kernel, strides, pads, "NHWC"), "average-half-away", x)
        else:
            y = program.build(MaxPool2D(kernel, strides, (1, 1), pads, "NHWC"), x)
        assert_equals_litert(program, y, Operator(f"{kind.upper()}_POOL_2D", 2, "Pool2D", fields))


def test_average_pool_saturated_windows_and_ties() -> None:
    """Windows of equal cells at both ends of int8, and pairs whose sums are odd."""
    type = TensorType((1, 1, 512, 1), Affine.per_tensor(I8, 0.1, -7))
    ends = [-128, -128, 127, 127, -128, 127, 127, -128]
    consecutive = np.stack([np.arange(-128, 124), np.arange(-127, 125)], -1).reshape(-1)
    data = np.concatenate([ends, consecutive]).astype(np.int8).reshape(1, 1, 512, 1)
    program = Program()
    pool = AveragePool2D((1, 2), (1, 2), (0, 0, 0, 0), "NHWC")
    y = program.cited(pool, "average-half-away", program.input(type, data))
    fields = {"filterHeight": 1, "filterWidth": 2, "strideH": 1, "strideW": 2, "padding": Padding.VALID}
    assert_equals_litert(program, y, Operator("AVERAGE_POOL_2D", 2, "Pool2D", fields))


@pytest.mark.parametrize("scales", SCALES, ids=str)
@pytest.mark.parametrize(
    ("shape", "axes", "keepdims"),
    [
        ((3, 7, 7, 32), (1, 2), False), ((3, 8, 8, 32), (1, 2), True), ((3, 4, 4, 32), (1, 2), True),
        ((5, 60), (1,), False), ((4, 2, 3, 90), (3,), True), ((4, 6, 50), (1,), False),
    ],
)
def test_mean(shape: Any, axes: tuple[int, ...], keepdims: bool, scales: Scales) -> None:
    for rng in seeds(6):
        source, result = int8(rng, scales.draw(rng)), int8(rng, scales.draw(rng, factor=0.25))
        program = Program()
        type = TensorType(shape, source)
        # Each sum gets its own offset, so that means spread over the range and saturate.
        kept = [1 if i in axes else d for i, d in enumerate(shape)]
        data = np.clip(rng.integers(-150, 151, kept) + rng.integers(-60, 61, shape), -128, 127).astype(np.int8)
        y = program.cited(Mean(axes, keepdims), "litert-mean", program.input(type, data), elem=result)
        operator = Operator("MEAN", 2, "Reducer", {"keepDims": keepdims})
        assert_equals_litert(program, y, operator, [constant(np.asarray(axes, np.int32))])


@pytest.mark.parametrize("shape", [(16, 10), (4, 6, 33), (1, 500), (2, 3, 4, 2), (8, 1)], ids=str)
def test_softmax(shape: tuple[int, ...]) -> None:
    result = Affine.per_tensor(I8, 1 / 256, -128)
    for rng in seeds(8):
        # From nearly uniform rows to one winner each.
        type = TensorType(shape, int8(rng, np.exp2(rng.uniform(-9, 0))))
        program = Program()
        y = program.cited(Softmax(-1), "gemmlowp-softmax", program.input(type, integers(rng, type)), elem=result)
        assert_equals_litert(program, y, Operator("SOFTMAX", 2, "Softmax", {"beta": 1.0}))


@pytest.mark.parametrize("exponent", range(-10, 3))
def test_softmax_of_every_difference(exponent: int) -> None:
    """Rows of two: the maximum, and each of the 255 differences to it."""
    type = TensorType((256, 2), Affine.per_tensor(I8, 2.0**exponent, 3))
    data = np.stack([np.full(256, 127), np.arange(-128, 128)], -1).astype(np.int8)
    program = Program()
    result = Affine.per_tensor(I8, 1 / 256, -128)
    y = program.cited(Softmax(-1), "gemmlowp-softmax", program.input(type, data), elem=result)
    assert_equals_litert(program, y, Operator("SOFTMAX", 2, "Softmax", {"beta": 1.0}))
