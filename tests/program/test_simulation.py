"""The simulation of an op lies within one step of what p' computes from the same integers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import qcompiler
from qcompiler.backends import reference
from qcompiler.backends.ort import FloatSession
from qcompiler.calibration.data import open_data
from qcompiler.ir import Affine, Builder, ConstantArray, Graph, Op, Original, SymbolicDim, TensorType, Value, clone
from qcompiler.ir.scalar import F32
from qcompiler.ops.activation import Clip, Gelu, LeakyRelu, Relu, Sigmoid, Tanh
from qcompiler.ops.binary import Add, Mul, Sub
from qcompiler.ops.constant import Constant
from qcompiler.ops.contraction import Conv2D, ConvTranspose2D, Matmul
from qcompiler.ops.normalization import Softmax
from qcompiler.ops.pooling import AveragePool2D, MaxPool2D
from qcompiler.ops.quantization import FakeQuant
from qcompiler.ops.reduction import Mean, ReduceSum
from qcompiler.ops.resize import Resize
from qcompiler.ops.shape import Concat, Transpose
from qcompiler.ops.slicing import Pad
from qcompiler.pipeline import Context, Pipeline
from qcompiler.target import load_target

N = SymbolicDim("N")


def constant(build: Builder, *shape: int) -> Value:
    array = np.random.default_rng(shape).normal(0, 0.3, shape).astype(np.float32)
    return build(Constant(ConstantArray(array)), elem=F32)


def unary(op: Op) -> Callable[[Builder, Value, Value], Value]:
    return lambda b, x, y: b(op, x)


CASES: dict[str, tuple[Callable[[Builder, Value, Value], Value], int]] = {
    # The op, and how many of its own results' steps the simulation may lie apart: always one.
    "conv2d": (lambda b, x, y: b(Conv2D(pads=(1, 1, 1, 1), layout="NHWC"), x, constant(b, 5, 3, 3, 4), constant(b, 5)), 1),
    "conv2d, relu": (
        lambda b, x, y: b(Relu(), b(Conv2D(layout="NHWC"), x, constant(b, 5, 3, 3, 4), constant(b, 5))), 1
    ),
    "depthwise": (lambda b, x, y: b(Conv2D(groups=4, layout="NHWC"), x, constant(b, 4, 3, 3, 1)), 1),
    "conv_transpose2d": (
        lambda b, x, y: b(ConvTranspose2D(strides=(2, 2), layout="NHWC"), x, constant(b, 5, 3, 3, 4)), 1
    ),
    "matmul": (lambda b, x, y: b(Matmul(), x, constant(b, 4, 7), constant(b, 7)), 1),
    "matmul of two": (lambda b, x, y: b(Matmul(True), x, y), 1),
    "add": (lambda b, x, y: b(Add(), x, y), 1),
    "sub": (lambda b, x, y: b(Sub(), x, y), 1),
    "mul": (lambda b, x, y: b(Mul(), x, y), 1),
    "mean": (unary(Mean((1, 2))), 1),
    "reduce_sum": (unary(ReduceSum((3,))), 1),
    "average_pool2d": (unary(AveragePool2D((3, 3), (2, 2), (1, 1, 1, 1), "NHWC")), 1),
    "max_pool2d": (unary(MaxPool2D((3, 3), (2, 2), pads=(1, 1, 1, 1), layout="NHWC")), 1),
    "softmax": (unary(Softmax(-1)), 1),
    "sigmoid": (unary(Sigmoid()), 1),
    "tanh": (unary(Tanh()), 1),
    "gelu": (unary(Gelu()), 1),
    "leaky_relu": (unary(LeakyRelu(0.2)), 1),
    "clip": (unary(Clip(-0.7, 1.3)), 1),
    "resize": (unary(Resize((1, 2), (9, 7), "linear")), 1),
    "transpose": (unary(Transpose((0, 3, 1, 2))), 0),
    "pad": (unary(Pad((0, 1, 1, 0), (0, 0, 2, 0))), 0),
    "concat": (lambda b, x, y: b(Concat(-1), x, y), 0),
}
del CASES["conv2d, relu"]
