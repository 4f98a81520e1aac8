"""Reductions over axes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from qcompiler.ir.arithmetic import Arithmetic
from qcompiler.ir.dimension import Shape
from qcompiler.ir.op import Array, Constants, Fact, Op, Tensor, op, require
from qcompiler.ir.scalar import I64
from qcompiler.ir.types import Elem, TensorType
from qcompiler.numerics import Intermediate
from qcompiler.ops.inference import (
    normalize_axis,
    open_if_quantized,
    operand_count,
    per_tensor_elem,
    static_dim,
)
from qcompiler.ops.quantized import (
    ArithmeticOp,
    constants_from,
    is_quantized,
    parameters,
    resolve,
    store,
    tensor_parameters,
)


class Reduction(Op):
    """Base: ``axes`` are counted from the front, distinct and in order."""

    axes: tuple[int, ...]
    keepdims: bool

    def infer_shapes(self, operands: Sequence[TensorType]) -> tuple[Shape, ...]:
        operand_count(operands, 1)
        shape = operands[0].shape
        require(len(self.axes) > 0, "reduces over no axis")
        require(
            list(self.axes) == sorted({normalize_axis(a, len(shape)) for a in self.axes}),
            f"axes {self.axes} must be distinct, in order, and counted from the front",
        )
        for axis in self.axes:
            static_dim(shape[axis], f"reduced axis {axis}")
        kept = tuple(1 if i in self.axes else d for i, d in enumerate(shape))
        return (kept if self.keepdims else tuple(d for i, d in enumerate(shape) if i not in self.axes),)

    def count(self, shape: Shape) -> int:
        """Elements reduced to one."""
        return math.prod(static_dim(shape[a], "reduced axis") for a in self.axes)


class Selection(Reduction):
    """Base of reductions that pick an element."""

    facts = Fact.VALUE_PRESERVING

    def infer_elems(self, operands: Sequence[TensorType]) -> tuple[Elem | None, ...]:
        return (per_tensor_elem(operands[0], self.name),)


@op("reduce_max")
class ReduceMax(Selection):
    """Largest element."""

    axes: tuple[int, ...]
    keepdims: bool = True

    def evaluate(self, operands: Sequence[Tensor], results: Sequence[TensorType]) -> tuple[Array, ...]:
        return (operands[0].data.max(self.axes, keepdims=self.keepdims),)


@op("reduce_min")
class ReduceMin(Selection):
    """Smallest element."""

    axes: tuple[int, ...]
    keepdims: bool = True

    def evaluate(self, operands: Sequence[Tensor], results: Sequence[TensorType]) -> tuple[Array, ...]:
        return (operands[0].data.min(self.axes, keepdims=self.keepdims),)


class SummingReduction(Reduction, ArithmeticOp):
    """Base of sum and mean, whose integer forms rescale."""

    def infer_elems(self, operands: Sequence[TensorType]) -> tuple[Elem | None, ...]:
        return (open_if_quantized(operands),)

    def derive_constants(self, operands: Sequence[TensorType], results: Sequence[TensorType]) -> Constants:
        rule = resolve(self, self.arithmetic)
        count = self.count(operands[0].shape)
        return constants_from(
            rule.constants(count, tensor_parameters(operands[0]), tensor_parameters(results[0]))
        )

    def intermediates(
        self, operands: Sequence[TensorType], results: Sequence[TensorType]
    ) -> Sequence[Intermediate]:
        found: list[Intermediate] = resolve(self, self.arithmetic).intermediates(
            self.count(operands[0].shape), tensor_parameters(operands[0]), self.constants.arrays()
        )
        return found

    def evaluate(self, operands: Sequence[Tensor], results: Sequence[TensorType]) -> tuple[Array, ...]:
        (x,) = operands
        if not is_quantized([x.type]):
            return (self.evaluate_float(x.data).astype(results[0].storage.dtype, copy=False),)
        sums = x.data.sum(self.axes, keepdims=self.keepdims, dtype=np.int64)
        total = resolve(self, self.arithmetic).apply(
            sums, self.count(x.type.shape), parameters(x.type), parameters(results[0]), self.constants.arrays()
        )
        return (store(total, results[0]),)

    def evaluate_float(self, x: Array) -> Array:
        raise NotImplementedError


@op("mean")
class Mean(SummingReduction):
    """Average; global average pooling is the mean over the spatial axes."""

    axes: tuple[int, ...]
    keepdims: bool = True
    arithmetic: Arithmetic | None = None
    constants: Constants = Constants()

    def evaluate_float(self, x: Array) -> Array:
        return np.asarray(x.mean(self.axes, keepdims=self.keepdims))


@op("reduce_sum")
class ReduceSum(SummingReduction):
    """Sum."""

    axes: tuple[int, ...]
    keepdims: bool = True
    arithmetic: Arithmetic | None = None
    constants: Constants = Constants()

    def evaluate_float(self, x: Array) -> Array:
        return np.asarray(x.sum(self.axes, keepdims=self.keepdims))


@op("reduce_product")
class ReduceProduct(Reduction):
    """Product."""

    axes: tuple[int, ...]
    keepdims: bool = True

    def infer_elems(self, operands: Sequence[TensorType]) -> tuple[Elem | None, ...]:
        require(not is_quantized(operands), "has no integer form")
        return (operands[0].elem,)

    def evaluate(self, operands: Sequence[Tensor], results: Sequence[TensorType]) -> tuple[Array, ...]:
        return (operands[0].data.prod(self.axes, keepdims=self.keepdims),)


@op("argmax")
class ArgMax(Op):
    """Index of the largest element along ``axis``; the first one of equals."""

    axis: int
    keepdims: bool = True

    def infer_shapes(self, operands: Sequence[TensorType]) -> tuple[Shape, ...]:
        operand_count(operands, 1)
        shape = operands[0].shape
        axis = normalize_axis(self.axis, len(shape))
        static_dim(shape[axis], f"axis {axis}")
        middle: Shape = (1,) if self.keepdims else ()
        return ((*shape[:axis], *middle, *shape[axis + 1 :]),)

    def infer_elems(self, operands: Sequence[TensorType]) -> tuple[Elem | None, ...]:
        per_tensor_elem(operands[0], self.name)
        return (I64,)

    def evaluate(self, operands: Sequence[Tensor], results: Sequence[TensorType]) -> tuple[Array, ...]:
        return (operands[0].data.argmax(self.axis, keepdims=self.keepdims).astype(np.int64),)
