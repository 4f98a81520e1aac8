"""Programs of one quantized contraction, and what its sums can be by definition."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcompiler.backends import reference
from qcompiler.ir import Affine, Builder, ConstantArray, Graph, Node, Scalar, TensorType
from qcompiler.ir.dimension import static_shape
from qcompiler.ir.scalar import I32
from qcompiler.ops.constant import Constant
from qcompiler.ops.contraction import Contraction, Conv2D, ConvTranspose2D, Matmul

Array = NDArray[Any]


@dataclass
class ContractionProgram:
    """``y = op(x, w) + b`` on integers, with an input of one sample.

    Attributes:
        graph: the program; its output is the accumulator.
        node: the contraction.
        x: type of the input.
        weights: stored integers.
        bias: ``[channels]`` integers.
    """

    graph: Graph
    node: Node
    x: TensorType
    weights: Array
    bias: Array

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the input."""
        return static_shape(self.x.shape)

    def run(self, x: Array) -> Array:
        """The accumulators, by the reference interpreter."""
        return reference.run(self.graph, {"x": x.astype(self.x.storage.dtype)})["y"]

    def coefficients(self) -> Array:
        """``[results, inputs]`` integers: the sums as a matrix, found by contracting unit vectors."""
        op = self.node.op
        assert isinstance(op, Contraction)
        units = np.eye(int(np.prod(self.shape)), dtype=np.int64).reshape(-1, *self.shape)
        weights = self.weights.astype(np.int64)
        return np.stack([op.contract(unit, weights).reshape(-1) for unit in units], 1).astype(np.int64)

    def channels(self) -> Array:
        """The output channel of each result, in the order of :meth:`coefficients`."""
        op, shape = self.node.op, static_shape(self.node.result.type.shape)
        assert isinstance(op, Contraction)
        axis = op.result_channel_axis(len(shape))
        return np.broadcast_to(
            np.arange(shape[axis]).reshape([-1 if i == axis else 1 for i in range(len(shape))]), shape
        ).reshape(-1)


def contraction_program(
    op: Contraction, x: TensorType, weights: Array, bias: Array, w_storage: Scalar, storage: Scalar = I32
) -> ContractionProgram:
    """A program of one contraction; weights have zero point 0, scales are 1."""
    graph = Graph("case")
    build = Builder(graph, loc=("layer",))
    value = graph.add_input("x", x)
    w = build(
        Constant(ConstantArray(weights.astype(w_storage.dtype))), elem=Affine.per_tensor(w_storage, 1.0)
    )
    shape = op.infer_shapes([x, w.type])[0]
    elem = op.accumulator([x, w.type], shape, storage)
    b = build(
        Constant(ConstantArray(bias.astype(storage.dtype))),
        elem=op.accumulator([x, w.type], shape, storage, of_bias=True),
    )
    y = build(op, value, w, b, elem=elem)
    graph.set_outputs([("y", y)])
    assert y.producer is not None
    return ContractionProgram(graph, y.producer, x, weights, bias)


CASES: dict[str, tuple[Contraction, tuple[int, ...], tuple[int, ...]]] = {
    "conv": (Conv2D(pads=(1, 1, 1, 1), layout="NHWC"), (1, 5, 4, 3), (4, 3, 3, 3)),
    "conv NCHW, strided": (Conv2D(strides=(2, 1), pads=(0, 1, 1, 0)), (1, 3, 6, 5), (2, 3, 3, 2)),
    "grouped": (Conv2D(groups=2, layout="NHWC"), (1, 4, 4, 4), (6, 2, 2, 2)),
    "depthwise": (Conv2D(groups=3, pads=(1, 1, 1, 1), layout="NHWC"), (1, 4, 4, 3), (3, 3, 3, 1)),
    "dilated": (Conv2D(dilations=(2, 2), pads=(2, 2, 2, 2), layout="NHWC"), (1, 5, 6, 2), (3, 3, 3, 2)),
    "kernel larger than the input": (Conv2D(pads=(2, 2, 2, 2), layout="NHWC"), (1, 2, 3, 2), (3, 5, 5, 2)),
    "dilated beyond the input": (
        Conv2D(dilations=(4, 1), pads=(4, 0, 4, 0), layout="NHWC"), (1, 3, 3, 2), (2, 3, 1, 2),
    ),
    "transposed": (ConvTranspose2D(strides=(2, 2), layout="NHWC"), (1, 4, 3, 2), (3, 3, 3, 2)),
    "transposed NCHW, cut": (
        ConvTranspose2D(strides=(2, 1), pads=(1, 0, 1, 1), output_padding=(1, 0)), (1, 2, 3, 4), (3, 2, 4, 2),
    ),
    "transposed, grouped, dilated": (
        ConvTranspose2D(strides=(3, 2), dilations=(2, 1), groups=2, layout="NHWC"), (1, 3, 3, 4), (4, 3, 4, 2),
    ),
    "matmul": (Matmul(), (1, 3, 17), (17, 5)),
    "matmul transposed, batched": (Matmul(transpose_b=True), (2, 3, 6), (2, 4, 6)),
}
"""Contractions of every kind: op, shape of the input, shape of the weights."""


def output_channels(op: Contraction, weights: tuple[int, ...]) -> int:
    """How many output channels weights of this shape have."""
    return weights[op.weight_channel_axis(len(weights))]
