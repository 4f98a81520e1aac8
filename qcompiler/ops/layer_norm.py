"""Layer normalization."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qcompiler.ir.dimension import Shape
from qcompiler.ir.op import Array, Op, Tensor, op, require
from qcompiler.ir.types import Elem, TensorType
from qcompiler.ops.inference import broadcast, float_elem, normalize_axis, operand_count, static_dim


@op("layer_norm")
class LayerNorm(Op):
    """(x - mean) / sqrt(variance + epsilon) * scale + shift, with mean and variance over ``axes``.

    Operands: x, scale and shift, real numbers. Scale and shift are broadcast to the shape of x. Axes are counted from
    the front, distinct and in order.
    """

    axes: tuple[int, ...]
    epsilon: float = 1e-5

    def infer_shapes(self, operands: Sequence[TensorType]) -> tuple[Shape, ...]:
        operand_count(operands, 3)
        shape = operands[0].shape
        require(
            len(self.axes) > 0 and list(self.axes) == sorted({normalize_axis(a, len(shape)) for a in self.axes}),
            f"axes {self.axes} must be distinct, in order, and counted from the front",
        )
        for axis in self.axes:
            static_dim(shape[axis], f"normalized axis {axis}")
        for operand in operands[1:]:
            require(broadcast([operands[0], operand]) == shape, f"{operand} cannot be broadcast to {operands[0]}")
        return (shape,)

    def infer_elems(self, operands: Sequence[TensorType]) -> tuple[Elem | None, ...]:
        return (float_elem(operands),)

    def normalized(self, x: Array) -> Array:
        """x less its mean, over its deviation; in float64."""
        centered = x.astype(np.float64) - x.mean(self.axes, dtype=np.float64, keepdims=True)
        variance = np.square(centered).mean(self.axes, keepdims=True)
        return np.asarray(centered / np.sqrt(variance + self.epsilon))

    def evaluate(self, operands: Sequence[Tensor], results: Sequence[TensorType]) -> tuple[Array, ...]:
        x, scale, shift = (t.data for t in operands)
        return ((self.normalized(x) * scale + shift).astype(results[0].storage.dtype),)
