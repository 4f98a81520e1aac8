"""Small ONNX models with seeded weights. Together they use every op that the frontend and tpu-int8 have."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

Array = NDArray[Any]
Feeds = dict[str, Array]


class ModelWriter:
    """Collects ONNX nodes and initializers. Values and nodes are named after their op and a running number."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def node(self, op_type: str, *operands: str, outputs: int = 1, **attributes: Any) -> Any:
        """Append a node; returns the name of its output, or a list of names."""
        number = len(self.nodes)
        name = f"{op_type.lower()}{number}"
        names = [f"{name}_{i}" for i in range(outputs)] if outputs > 1 else [name]
        self.nodes.append(helper.make_node(op_type, list(operands), names, name=f"{op_type}_{number}", **attributes))
        return names if outputs > 1 else names[0]

    def constant(self, array: Any, dtype: Any = np.float32) -> str:
        """An initializer."""
        name = f"w{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.asarray(array, dtype), name))
        return name

    def normal(self, *shape: int, scale: float = 1.0) -> str:
        """An initializer of normally distributed numbers."""
        return self.constant(self.rng.normal(0, scale, shape))

    def conv(
        self, x: str, inputs: int, outputs: int, kernel: int = 3, groups: int = 1, bias: bool = True, **rest: Any
    ) -> str:
        """Convolution with weights scaled to keep the variance."""
        fan_in = inputs // groups * kernel * kernel
        weights = self.normal(outputs, inputs // groups, kernel, kernel, scale=math.sqrt(2 / fan_in))
        operands = [x, weights, self.normal(outputs, scale=0.1)] if bias else [x, weights]
        rest.setdefault("pads", [kernel // 2] * 4)
        return str(self.node("Conv", *operands, kernel_shape=[kernel, kernel], group=groups, **rest))

    def batch_norm(self, x: str, channels: int) -> str:
        """Batch normalization with statistics away from 0 and 1."""
        operands = [
            self.constant(self.rng.uniform(0.5, 1.5, channels)), self.normal(channels, scale=0.2),
            self.normal(channels, scale=0.2), self.constant(self.rng.uniform(0.5, 1.5, channels)),
        ]
        return str(self.node("BatchNormalization", x, *operands, epsilon=1e-3))

    def gemm(self, x: str, inputs: int, outputs: int) -> str:
        """A fully connected layer."""
        weights = self.normal(outputs, inputs, scale=1 / math.sqrt(inputs))
        return str(self.node("Gemm", x, weights, self.normal(outputs, scale=0.1), transB=1))

    def model(
        self, inputs: Mapping[str, Sequence[int | str]], outputs: Sequence[str], opset: int = 17
    ) -> onnx.ModelProto:
        """The finished model."""
        graph = helper.make_graph(
            self.nodes, "test_model",
            [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, list(s)) for n, s in inputs.items()],
            [helper.make_value_info(name, onnx.TypeProto()) for name in outputs],
            self.initializers,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
        model.ir_version = 8
        return onnx.shape_inference.infer_shapes(model)


def residual_cnn(batch: int | str = "batch") -> onnx.ModelProto:
    """Convolutions with batch norm, two residual blocks, global average, classifier."""
    w = ModelWriter(1)
    x = w.node("Relu", w.batch_norm(w.conv("image", 3, 8, bias=False), 8))
    inner = w.node("Relu", w.batch_norm(w.conv(x, 8, 8, bias=False), 8))
    x = w.node("Relu", w.node("Add", w.batch_norm(w.conv(inner, 8, 8, bias=False), 8), x))
    inner = w.node("Relu", w.batch_norm(w.conv(x, 8, 12, strides=[2, 2], bias=False), 12))
    inner = w.batch_norm(w.conv(inner, 12, 12, bias=False), 12)
    x = w.node("Relu", w.node("Add", w.conv(x, 8, 12, kernel=1, strides=[2, 2]), inner))
    x = w.node("Flatten", w.node("GlobalAveragePool", x))
    return w.model({"image": [batch, 3, 12, 12]}, [w.gemm(x, 12, 10)])


def depthwise_net() -> onnx.ModelProto:
    """Inverted residual blocks with relu6 and explicit pads."""
    w = ModelWriter(2)
    low, high = w.constant(0.0), w.constant(6.0)
    x = w.node("Pad", "image", w.constant([0, 0, 0, 0, 0, 0, 1, 1], np.int64))
    x = w.node("Clip", w.batch_norm(w.conv(x, 3, 8, strides=[2, 2], pads=[0, 0, 0, 0], bias=False), 8), low, high)
    for _ in range(2):
        y = w.node("Clip", w.conv(x, 8, 16, kernel=1), low, high)
        y = w.node("Clip", w.batch_norm(w.conv(y, 16, 16, groups=16, bias=False), 16), low, high)
        x = w.node("Add", x, w.conv(y, 16, 8, kernel=1))
    x = w.node("ReduceMean", x, axes=[2, 3], keepdims=0)
    return w.model({"image": ["batch", 3, 12, 12]}, [w.node("Softmax", w.gemm(x, 8, 5), axis=-1)])


def branching_net() -> onnx.ModelProto:
    """Concatenation, split, sigmoid gates, hard swish and silu spelled out, softmax over channels; two outputs."""
    w = ModelWriter(3)
    stem = w.conv("image", 4, 8)
    gate = w.node("Sigmoid", w.conv(stem, 8, 8, kernel=1))
    gated = w.node("Mul", stem, gate)
    clipped = w.node("Clip", w.node("Add", gated, w.constant(3.0)), w.constant(0.0), w.constant(6.0))
    hard = w.node("Div", clipped, w.constant(6.0))
    left = w.node("Mul", gated, hard)
    convolved = w.conv(stem, 8, 4)
    right = w.node("Mul", convolved, w.node("Sigmoid", convolved))
    joined = w.node("Concat", left, right, w.node("Tanh", convolved), axis=1)
    first, second = w.node("Split", joined, w.constant([6, 10], np.int64), outputs=2, axis=1)
    scores = w.node("Softmax", w.conv(second, 10, 3, kernel=1), axis=1)
    pooled = w.node("Flatten", w.node("GlobalMaxPool", first))
    return w.model({"image": ["batch", 4, 8, 8]}, [scores, w.gemm(pooled, 6, 4)])


def pooling_net() -> onnx.ModelProto:
    """Max and average pools with padding, nearest and linear resize, slice, leaky relu, prelu, sub, transposed conv."""
    w = ModelWriter(4)
    x = w.node("LeakyRelu", w.conv("image", 2, 6), alpha=0.2)
    maximum = w.node("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    average = w.node("AveragePool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    joined = w.node("Sub", maximum, average)
    slope = w.constant(w.rng.uniform(0.05, 0.4, (6, 1, 1)))
    activated = w.node("PRelu", joined, slope)
    upsampled = w.node(
        "Resize", activated, "", w.constant([1, 1, 2, 2]), mode="nearest",
        coordinate_transformation_mode="asymmetric", nearest_mode="floor",
    )
    smooth = w.node("Resize", activated, "", w.constant([1, 1, 2, 2]), mode="linear")
    weights = w.normal(6, 3, 2, 2, scale=0.4)
    grown = w.node("ConvTranspose", activated, weights, w.normal(3, scale=0.1), strides=[2, 2], kernel_shape=[2, 2])
    mixed = w.node("Concat", w.node("Add", upsampled, smooth), grown, axis=1)
    part = w.node(
        "Slice", mixed, w.constant([1, 0], np.int64), w.constant([9, 8], np.int64), w.constant([1, 3], np.int64),
        w.constant([2, 2], np.int64),
    )
    return w.model({"image": ["batch", 2, 8, 8]}, [w.conv(part, 4, 3, kernel=1)])


def token_mixer() -> onnx.ModelProto:
    """Sequences: gelu (erf) spelled out, products of two computed tensors, softmax, transpose, gather, maximum."""
    w = ModelWriter(5)
    projected = w.node("Add", w.node("MatMul", "tokens", w.normal(8, 8, scale=0.35)), w.normal(8, scale=0.1))
    erf = w.node("Erf", w.node("Div", projected, w.constant(math.sqrt(2))))
    gelu = w.node("Mul", w.node("Mul", projected, w.node("Add", erf, w.constant(1.0))), w.constant(0.5))
    keys = w.node("Transpose", gelu, perm=[0, 2, 1])
    scores = w.node("Mul", w.node("MatMul", projected, keys), w.constant(0.35))
    mixed = w.node("MatMul", w.node("Softmax", scores, axis=-1), gelu)
    other = w.node("Max", mixed, w.node("Abs", projected))
    picked = w.node("Gather", other, w.constant([0, 2, 5], np.int64), axis=1)
    flat = w.node("Reshape", picked, w.constant([-1, 24], np.int64))
    return w.model({"tokens": ["batch", 6, 8]}, [w.gemm(flat, 24, 4)])


def two_inputs_fixed_batch() -> onnx.ModelProto:
    """Two inputs whose batch is fixed at 3."""
    w = ModelWriter(6)
    left, right = w.gemm("left", 5, 6), w.node("Relu", w.gemm("right", 4, 6))
    total = w.node("Add", w.node("Mul", left, right), left)
    return w.model({"left": [3, 5], "right": [3, 4]}, [w.gemm(total, 6, 2)])


MODELS: dict[str, Callable[[], onnx.ModelProto]] = {
    "residual_cnn": residual_cnn,
    "depthwise_net": depthwise_net,
    "branching_net": branching_net,
    "pooling_net": pooling_net,
    "token_mixer": token_mixer,
    "two_inputs_fixed_batch": two_inputs_fixed_batch,
}
"""Builders by name."""

FREE_BATCH = [name for name in MODELS if name != "two_inputs_fixed_batch"]


@cache
def model(name: str) -> onnx.ModelProto:
    """The model of this name; built once, not to be changed."""
    return MODELS[name]()


def samples(name: str, count: int, seed: int = 0) -> Feeds:
    """Random inputs of a model: float32, normally distributed, a few of them large."""
    rng = np.random.default_rng([seed, *name.encode()])
    feeds: Feeds = {}
    for value in model(name).graph.input:
        shape = [d.dim_value for d in value.type.tensor_type.shape.dim][1:]
        array = rng.normal(0, 1, (count, *shape)).astype(np.float32)
        array.reshape(-1)[:: 97] *= 3
        feeds[value.name] = array
    return feeds
