"""Pooling over windows of two spatial axes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qcompiler.ir.arithmetic import Arithmetic
from qcompiler.ir.dimension import Shape
from qcompiler.ir.op import Array, Constants, Fact, Op, Tensor, op, require
from qcompiler.ir.types import Elem, TensorType
from qcompiler.numerics import Intermediate
from qcompiler.ops.convolution_kernel import windows
from qcompiler.ops.inference import operand_count, per_tensor_elem, static_dim
from qcompiler.ops.quantized import ArithmeticOp, is_quantized, parameters, resolve, store, tensor_parameters

Pair = tuple[int, int]
Pads = tuple[int, int, int, int]


class Pool2D(Op):
    """Base: the result keeps the operand's element type."""

    kernel: Pair
    strides: Pair
    dilations: Pair = (1, 1)
    pads: Pads
    layout: str

    def infer_shapes(self, operands: Sequence[TensorType]) -> tuple[Shape, ...]:
        operand_count(operands, 1)
        shape = operands[0].shape
        require(len(shape) == 4, f"needs an operand of rank 4, found {len(shape)}")
        first = 1 if self.layout == "NHWC" else 2
        sizes = []
        for i in (0, 1):
            padded = static_dim(shape[first + i], "spatial size") + self.pads[i] + self.pads[i + 2]
            sizes.append((padded - (self.kernel[i] - 1) * self.dilations[i] - 1) // self.strides[i] + 1)
        require(min(sizes) > 0, f"kernel {self.kernel} is larger than the padded input")
        return ((*shape[:first], *sizes, *shape[first + 2 :]),)

    def infer_elems(self, operands: Sequence[TensorType]) -> tuple[Elem | None, ...]:
        return (per_tensor_elem(operands[0], self.name),)

    def channels_last(self, x: Array) -> Array:
        return x if self.layout == "NHWC" else x.transpose(0, 2, 3, 1)

    def restore_layout(self, y: Array) -> Array:
        return y if self.layout == "NHWC" else y.transpose(0, 3, 1, 2)

    def padded_windows(self, x: Array, fill: float) -> Array:
        """All windows ``[N, OH, OW, C, KH, KW]`` of channels-last ``x``, borders filled with ``fill``."""
        top, left, bottom, right = self.pads
        if any(self.pads):
            x = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=fill)
        return windows(x, self.kernel, self.strides, self.dilations)


@op("max_pool2d")
class MaxPool2D(Pool2D):
    """Largest value of each window; padding never wins."""

    facts = Fact.VALUE_PRESERVING
    kernel: Pair
    strides: Pair = (1, 1)
    dilations: Pair = (1, 1)
    pads: Pads = (0, 0, 0, 0)
    layout: str = "NCHW"

    def evaluate(self, operands: Sequence[Tensor], results: Sequence[TensorType]) -> tuple[Array, ...]:
        x = self.channels_last(operands[0].data)
        storage = operands[0].type.storage
        lowest = -np.inf if storage.is_float else storage.minimum
        return (self.restore_layout(self.padded_windows(x, lowest).max((-1, -2))),)


@op("average_pool2d")
class AveragePool2D(Pool2D, ArithmeticOp):
    """Average of each window's cells that lie inside the input: padding does not count."""

    kernel: Pair
    strides: Pair = (1, 1)
    pads: Pads = (0, 0, 0, 0)
    layout: str = "NCHW"
    arithmetic: Arithmetic | None = None
    constants: Constants = Constants()

    def infer_shapes(self, operands: Sequence[TensorType]) -> tuple[Shape, ...]:
        shapes = super().infer_shapes(operands)
        first = 1 if self.layout == "NHWC" else 2
        for i in (0, 1):
            size, results = (static_dim(shape[first + i], "spatial size") for shape in (operands[0].shape, shapes[0]))
            last = (results - 1) * self.strides[i] - self.pads[i]
            sees_cells = self.pads[i] < self.kernel[i] and last < size
            require(sees_cells, f"a window of kernel {self.kernel} lies in the padding {self.pads} alone: no average")
        return shapes

    def derive_constants(self, operands: Sequence[TensorType], results: Sequence[TensorType]) -> Constants:
        resolve(self, self.arithmetic)
        return Constants()

    def intermediates(
        self, operands: Sequence[TensorType], results: Sequence[TensorType]
    ) -> Sequence[Intermediate]:
        cells = self.kernel[0] * self.kernel[1]
        found: list[Intermediate] = resolve(self, self.arithmetic).intermediates(cells, tensor_parameters(operands[0]))
        return found

    def evaluate(self, operands: Sequence[Tensor], results: Sequence[TensorType]) -> tuple[Array, ...]:
        x = self.channels_last(operands[0].data)
        counts = self.padded_windows(np.ones((1, *x.shape[1:3], 1), np.int64), 0).sum((-1, -2))
        if not is_quantized([operands[0].type]):
            sums = self.padded_windows(x, 0).sum((-1, -2))
            return (self.restore_layout((sums / counts).astype(results[0].storage.dtype)),)
        sums = self.padded_windows(x, 0).sum((-1, -2), dtype=np.int64)
        averages = resolve(self, self.arithmetic).apply(sums, counts, parameters(results[0]))
        return (self.restore_layout(store(averages, results[0])),)

