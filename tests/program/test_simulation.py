"""The simulation of an op lies within one step of what p' computes from the same integers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import qcompiler
from qcompiler import plugins
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

plugins.load()

N = SymbolicDim("N")


def constant(build: Builder, *shape: int) -> Value:
    array = np.random.default_rng(shape).normal(0, 0.3, shape).astype(np.float32)
    return build(Constant(ConstantArray(array)), elem=F32)


def unary(op: Op) -> Callable[[Builder, Value, Value], Value]:
    return lambda b, x, y: b(op, x)


CASES: dict[str, tuple[Callable[[Builder, Value, Value], Value], int]] = {
    "conv2d": (
        lambda b, x, y: b(Conv2D(pads=(1, 1, 1, 1), layout="NHWC"), x, constant(b, 5, 3, 3, 4), constant(b, 5)), 1
    ),
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
"""What is computed from two inputs ``[N, 6, 5, 4]``, and how many steps of the result the simulation may lie apart."""


def program_of(make: Callable[[Builder, Value, Value], Value]) -> Graph:
    graph = Graph()
    x, y = (graph.add_input(name, TensorType((N, 6, 5, 4), F32), Original(name)) for name in ("x", "y"))
    result = make(Builder(graph, loc=("layer",)), x, y)
    result.origin = Original("result")
    used = [v for v in (x, y) if v.uses]
    graph.inputs[:] = used
    graph.set_outputs([("result", result)])
    return graph


def on_grid(elem: Affine, shape: tuple[int, ...], seed: int) -> NDArray[np.float32]:
    """Real numbers that the type holds exactly, its ends and its zero among them."""
    rng = np.random.default_rng(seed)
    q = rng.integers(elem.qmin, elem.qmax + 1, shape)
    q.reshape(-1)[:3] = elem.qmin, elem.qmax, int(elem.zero_point.array)
    return np.asarray((q - elem.zero_point.array) * np.float64(elem.scale.array), np.float32)


@pytest.mark.parametrize("case", CASES)
def test_within_one_step_of_the_program(case: str) -> None:
    make, steps = CASES[case]
    graph = program_of(make)
    rng = np.random.default_rng(3)
    data: dict[str, Any] = {
        v.name: rng.normal(0.2, 1.5, (20, 6, 5, 4)).clip(-3, 3).astype(np.float32) for v in graph.inputs
    }
    context = Context(load_target("tpu-int8"), open_data(data, graph))
    simulated = Pipeline.parse("annotate,calibrate").run(clone(graph), context)
    exact = qcompiler.compile(graph, target="tpu-int8", data=data, pipeline="annotate,calibrate,realize,verify-legal")
    feeds = {}
    for index, value in enumerate(simulated.inputs):
        (mark,) = (u.op for u in value.users if isinstance(u.op, FakeQuant))
        feeds[value.name] = on_grid(mark.elem, (20, 6, 5, 4), index)
    (found,) = FloatSession(simulated).run(feeds)
    (expected,) = reference.run(exact.graph, feeds).values()
    dequantize = exact.graph.outputs[0].value.producer
    assert dequantize is not None
    elem = dequantize.operands[0].type.elem
    assert isinstance(elem, Affine)
    apart = np.rint(np.abs(found.astype(np.float64) - expected) / np.float64(elem.scale.array))
    assert apart.max() <= steps
    # The op reaches much of its grid, so that the comparison means something.
    assert len(np.unique(expected)) > 40
