"""Ops that move or repeat elements without computing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qcompiler.ir.dimension import Shape, broadcast_shapes, element_count, format_shape, static_shape
from qcompiler.ir.op import Array, Fact, Op, OpTypeError, Tensor, op, require
from qcompiler.ir.types import Affine, Elem, TensorType
from qcompiler.ops.inference import normalize_axis, operand_count, per_tensor_elem


@op("reshape")
class Reshape(Op):
    """The same elements in the same order under another ``shape``. Squeeze, unsqueeze and flatten are reshapes."""

    facts = Fact.VALUE_PRESERVING
    shape: Shape

    def infer_shapes(self, operands: Sequence[TensorType]) -> tuple[Shape, ...]:
        operand_count(operands, 1)
        source = operands[0].shape
        try:
            agrees = element_count(source) == element_count(self.shape)
        except ValueError as error:
            raise OpTypeError(str(error)) from error
        require(agrees, f"{format_shape(source)} and {format_shape(self.shape)} differ in their number of elements")
        return (self.shape,)

    def infer_elems(self, operands: Sequence[TensorType]) -> tuple[Elem | None, ...]:
        elem, source = operands[0].elem, operands[0].shape
        if not isinstance(elem, Affine) or elem.is_per_tensor:
            return (elem,)
        # Blocks survive where only dimensions of size 1 come or go.
        require(
            [d for d in source if d != 1] == [d for d in self.shape if d != 1],
            f"does not map the blocks of {operands[0]} to {format_shape(self.shape)}",
        )
        lengths = iter([b for b, d in zip(elem.blocks, source, strict=True) if d != 1])
        counts = iter([c for c, d in zip(elem.scale.shape, source, strict=True) if d != 1])
        blocks = tuple(1 if d == 1 else next(lengths) for d in self.shape)
        grid = tuple(1 if d == 1 else next(counts) for d in self.shape)
        return (
            Affine.blocked(
                elem.storage, elem.scale.array.reshape(grid), elem.zero_point.array.reshape(grid), blocks,
                elem.qmin, elem.qmax,
            ),
        )

    def evaluate(self, operands: Sequence[Tensor], results: Sequence[TensorType]) -> tuple[Array, ...]:
        return (operands[0].data.reshape(static_shape(results[0].shape)),)


@op("transpose")
class Transpose(Op):
    """Axis ``i`` of the result is axis ``permutation[i]`` of the operand."""

    facts = Fact.VALUE_PRESERVING
    permutation: tuple[int, ...]

    def infer_shapes(self, operands: Sequence[TensorType]) -> tuple[Shape, ...]:
        operand_count(operands, 1)
        shape = operands[0].shape
        require(
            sorted(self.permutation) == list(range(len(shape))),
            f"permutation {self.permutation} does not fit rank {len(shape)}",
        )
        return (tuple(shape[p] for p in self.permutation),)

    def infer_elems(self, operands: Sequence[TensorType]) -> tuple[Elem | None, ...]:
        elem = operands[0].elem
        if not isinstance(elem, Affine) or elem.is_per_tensor:
            return (elem,)
        return (
            Affine.blocked(
                elem.storage, elem.scale.array.transpose(self.permutation),
                elem.zero_point.array.transpose(self.permutation),
                tuple(elem.blocks[p] for p in self.permutation), elem.qmin, elem.qmax,
            ),
        )

    def evaluate(self, operands: Sequence[Tensor], results: Sequence[TensorType]) -> tuple[Array, ...]:
        return (np.ascontiguousarray(operands[0].data.transpose(self.permutation)),)


@op("expand")
class Expand(Op):
    """Repeat dimensions of size 1 until the tensor has ``shape`` (numpy broadcasting)."""

    facts = Fact.VALUE_PRESERVING
    shape: Shape

    def infer_shapes(self, operands: Sequence[TensorType]) -> tuple[Shape, ...]:
        operand_count(operands, 1)
        try:
            return (broadcast_shapes(operands[0].shape, self.shape),)
        except ValueError as error:
            raise OpTypeError(str(error)) from error

    def infer_elems(self, operands: Sequence[TensorType]) -> tuple[Elem | None, ...]:
        return (per_tensor_elem(operands[0], self.name),)

    def evaluate(self, operands: Sequence[Tensor], results: Sequence[TensorType]) -> tuple[Array, ...]:
        return (np.array(np.broadcast_to(operands[0].data, static_shape(results[0].shape))),)


@op("concat")
class Concat(Op):
    """Join tensors along ``axis``. All share one element type."""

    facts = Fact.VALUE_PRESERVING
    axis: int

    def infer_shapes(self, operands: Sequence[TensorType]) -> tuple[Shape, ...]:
        require(len(operands) > 0, "joins nothing")
        first = operands[0].shape
        axis = normalize_axis(self.axis, len(first))
        total = 0
        for operand in operands:
            shape = operand.shape
            require(
                len(shape) == len(first)
                and all(i == axis or a == b for i, (a, b) in enumerate(zip(shape, first, strict=True))),
                f"shapes {format_shape(first)} and {format_shape(shape)} differ beside axis {axis}",
            )
            length = shape[axis]
            require(isinstance(length, int), f"cannot join along the batch axis {axis}")
            assert isinstance(length, int)
            total += length
        return ((*first[:axis], total, *first[axis + 1 :]),)

    def infer_elems(self, operands: Sequence[TensorType]) -> tuple[Elem | None, ...]:
        first = per_tensor_elem(operands[0], self.name)
        for other in operands[1:]:
            require(other.elem == first, f"operands must share one element type, found {first} and {other.elem}")
        return (first,)

    def evaluate(self, operands: Sequence[Tensor], results: Sequence[TensorType]) -> tuple[Array, ...]:
        return (np.concatenate([t.data for t in operands], self.axis),)
