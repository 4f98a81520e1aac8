"""Batch normalization and softmax."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qcompiler.ir.arithmetic import Arithmetic
from qcompiler.ir.dimension import Shape
from qcompiler.ir.op import Array, Constants, Op, Tensor, op, require
from qcompiler.ir.types import Elem, TensorType
from qcompiler.numerics import Intermediate
from qcompiler.ops.inference import float_elem, normalize_axis, open_if_quantized, operand_count, static_dim
from qcompiler.ops.quantized import (
    ArithmeticOp,
    constants_from,
    is_quantized,
    parameters,
    resolve,
    store,
    tensor_parameters,
)


@op("batch_norm")
class BatchNorm(Op):
    """(x - mean) / sqrt(variance + epsilon) * scale + shift, by channel on axis 1.

    Operands: x, scale, shift, mean, variance.
    """

    epsilon: float = 1e-5

    def infer_shapes(self, operands: Sequence[TensorType]) -> tuple[Shape, ...]:
        operand_count(operands, 5)
        require(operands[0].rank >= 2, "needs an operand of rank 2 or more")
        channels = operands[0].shape[1]
        for operand in operands[1:]:
            require(operand.shape == (channels,), f"needs {channels} parameters, found {operand.shape}")
        return (operands[0].shape,)

    def infer_elems(self, operands: Sequence[TensorType]) -> tuple[Elem | None, ...]:
        return (float_elem(operands),)

    def factor_and_offset(self, scale: Array, shift: Array, mean: Array, variance: Array) -> tuple[Array, Array]:
        """The normalization as ``factor * x + offset``, in float64."""
        with np.errstate(all="ignore"):
            factor = scale.astype(np.float64) / np.sqrt(variance.astype(np.float64) + self.epsilon)
            return factor, shift.astype(np.float64) - mean.astype(np.float64) * factor

    def evaluate(self, operands: Sequence[Tensor], results: Sequence[TensorType]) -> tuple[Array, ...]:
        x, *rest = (t.data for t in operands)
        factor, offset = self.factor_and_offset(*rest)
        shape = (-1, *[1] * (x.ndim - 2))
        return ((x * factor.reshape(shape) + offset.reshape(shape)).astype(results[0].storage.dtype),)


@op("softmax")
class Softmax(ArithmeticOp):
    """exp(x) / sum(exp(x)) along ``axis``."""

    bounds = (0.0, 1.0)
    axis: int = -1
    arithmetic: Arithmetic | None = None
    constants: Constants = Constants()

    def infer_shapes(self, operands: Sequence[TensorType]) -> tuple[Shape, ...]:
        operand_count(operands, 1)
        shape = operands[0].shape
        static_dim(shape[normalize_axis(self.axis, len(shape))], "softmax axis")
        return (shape,)

    def infer_elems(self, operands: Sequence[TensorType]) -> tuple[Elem | None, ...]:
        return (open_if_quantized(operands),)

    def derive_constants(self, operands: Sequence[TensorType], results: Sequence[TensorType]) -> Constants:
        rule = resolve(self, self.arithmetic)
        return constants_from(rule.constants(tensor_parameters(operands[0]), tensor_parameters(results[0])))

    def intermediates(
        self, operands: Sequence[TensorType], results: Sequence[TensorType]
    ) -> Sequence[Intermediate]:
        length = static_dim(operands[0].shape[self.axis], "softmax axis")
        found: list[Intermediate] = resolve(self, self.arithmetic).intermediates(
            length, tensor_parameters(operands[0]), self.constants.arrays()
        )
        return found

    def evaluate(self, operands: Sequence[Tensor], results: Sequence[TensorType]) -> tuple[Array, ...]:
        x = operands[0].data
        if not is_quantized([operands[0].type]):
            exponentials = np.exp(x - x.max(self.axis, keepdims=True))
            return ((exponentials / exponentials.sum(self.axis, keepdims=True)).astype(results[0].storage.dtype),)
        last = np.moveaxis(x.astype(np.int64), self.axis, -1)
        q = resolve(self, self.arithmetic).apply(last, parameters(results[0]), self.constants.arrays())
        return (store(np.moveaxis(q, -1, self.axis), results[0]),)
