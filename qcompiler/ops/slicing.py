"""Ops that select or surround elements."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qcompiler.ir.dimension import Dim, Shape
from qcompiler.ir.op import Array, Fact, Op, Tensor, op, require
from qcompiler.ir.types import Affine, Elem, TensorType
from qcompiler.ops.inference import normalize_axis, operand_count, per_tensor_elem, static_dim


@op("slice")
class Slice(Op):
    """Elements ``start, start + step, ...`` before ``end`` along each of ``axes``.

    Starts and ends are normalized: counted from the front and within the dimension; a negative step ends at -1 to
    include element 0.
    """

    facts = Fact.VALUE_PRESERVING
    axes: tuple[int, ...]
    starts: tuple[int, ...]
    ends: tuple[int, ...]
    steps: tuple[int, ...]

    def infer_shapes(self, operands: Sequence[TensorType]) -> tuple[Shape, ...]:
        operand_count(operands, 1)
        shape: list[Dim] = list(operands[0].shape)
        require(
            len(self.axes) == len(self.starts) == len(self.ends) == len(self.steps),
            "needs a start, an end and a step for each axis",
        )
        distinct = {normalize_axis(axis, len(shape)) for axis in self.axes}
        require(len(distinct) == len(self.axes), f"axes {self.axes} must be distinct")
        for axis, start, end, step in zip(self.axes, self.starts, self.ends, self.steps, strict=True):
            size = static_dim(shape[normalize_axis(axis, len(shape))], f"sliced axis {axis}")
            require(step != 0, "has a step of 0")
            within = 0 <= start <= size and 0 <= end <= size if step > 0 else 0 <= start < size and -1 <= end <= size
            require(within or start == end, f"[{start}:{end}:{step}] is not within axis {axis} of size {size}")
            shape[axis] = len(range(start, end, step))
        return (tuple(shape),)

    def infer_elems(self, operands: Sequence[TensorType]) -> tuple[Elem | None, ...]:
        return (per_tensor_elem(operands[0], self.name),)

    def evaluate(self, operands: Sequence[Tensor], results: Sequence[TensorType]) -> tuple[Array, ...]:
        index = [slice(None)] * operands[0].data.ndim
        for axis, start, end, step in zip(self.axes, self.starts, self.ends, self.steps, strict=True):
            index[axis] = slice(start, None if end < 0 else end, step)
        return (np.ascontiguousarray(operands[0].data[tuple(index)]),)


@op("split")
class Split(Op):
    """Cut a tensor along ``axis`` into parts of the given ``sizes``."""

    facts = Fact.VALUE_PRESERVING
    axis: int
    sizes: tuple[int, ...]

    def infer_shapes(self, operands: Sequence[TensorType]) -> tuple[Shape, ...]:
        operand_count(operands, 1)
        shape = operands[0].shape
        axis = normalize_axis(self.axis, len(shape))
        length = static_dim(shape[axis], f"split axis {axis}")
        require(min(self.sizes, default=0) >= 0, f"sizes {self.sizes} must not be negative")
        require(sum(self.sizes) == length, f"sizes {self.sizes} do not add up to {length}")
        return tuple((*shape[:axis], size, *shape[axis + 1 :]) for size in self.sizes)

    def infer_elems(self, operands: Sequence[TensorType]) -> tuple[Elem | None, ...]:
        return (per_tensor_elem(operands[0], self.name),) * len(self.sizes)

    def evaluate(self, operands: Sequence[Tensor], results: Sequence[TensorType]) -> tuple[Array, ...]:
        parts = np.split(operands[0].data, np.cumsum(self.sizes)[:-1], self.axis)
        return tuple(np.ascontiguousarray(p) for p in parts)


@op("pad")
class Pad(Op):
    """Surround a tensor: ``before`` and ``after`` count new elements on each axis.

    Mode "constant" inserts the real number ``value`` (on quantized types the nearest representable one), "reflect"
    and "edge" repeat elements.
    """

    facts = Fact.VALUE_PRESERVING
    before: tuple[int, ...]
    after: tuple[int, ...]
    mode: str = "constant"
    value: float = 0.0

    def infer_shapes(self, operands: Sequence[TensorType]) -> tuple[Shape, ...]:
        operand_count(operands, 1)
        shape = operands[0].shape
        require(len(self.before) == len(self.after) == len(shape), f"pads do not fit rank {len(shape)}")
        require(min((*self.before, *self.after), default=0) >= 0, "pads are not negative; slice takes elements away")
        require(self.mode in ("constant", "reflect", "edge"), f"unknown mode {self.mode!r}")
        result: list[Dim] = []
        for dim, low, high in zip(shape, self.before, self.after, strict=True):
            result.append(dim if low == high == 0 else static_dim(dim, "padded axis") + low + high)
        return (tuple(result),)

    def infer_elems(self, operands: Sequence[TensorType]) -> tuple[Elem | None, ...]:
        return (per_tensor_elem(operands[0], self.name),)

    def fill(self, type: TensorType) -> float | int:
        """The stored number that stands for ``value``."""
        elem = type.elem
        if not isinstance(elem, Affine):
            return self.value
        scale, zero_point = float(elem.scale.array), int(elem.zero_point.array)
        bounded = min(max(self.value / scale, -(2.0**40)), 2.0**40)
        return min(max(round(bounded) + zero_point, elem.qmin), elem.qmax)

    def evaluate(self, operands: Sequence[Tensor], results: Sequence[TensorType]) -> tuple[Array, ...]:
        x = operands[0]
        widths = tuple(zip(self.before, self.after, strict=True))
        if self.mode == "constant":
            return (np.pad(x.data, widths, constant_values=self.fill(x.type)),)
        return (np.pad(x.data, widths, mode="reflect" if self.mode == "reflect" else "edge"),)


@op("gather")
class Gather(Op):
    """Pick slices of operand 0 along ``axis`` by the integers of operand 1; negative ones count from the end."""

    facts = Fact.VALUE_PRESERVING
    axis: int = 0

    def infer_shapes(self, operands: Sequence[TensorType]) -> tuple[Shape, ...]:
        operand_count(operands, 2)
        data, indices = operands[0].shape, operands[1].shape
        axis = normalize_axis(self.axis, len(data))
        static_dim(data[axis], f"gathered axis {axis}")
        return ((*data[:axis], *indices, *data[axis + 1 :]),)

    def infer_elems(self, operands: Sequence[TensorType]) -> tuple[Elem | None, ...]:
        index = operands[1].elem
        require(not isinstance(index, Affine) and operands[1].storage.is_integer, f"indices must be integers: {index}")
        return (per_tensor_elem(operands[0], self.name),)

    def evaluate(self, operands: Sequence[Tensor], results: Sequence[TensorType]) -> tuple[Array, ...]:
        data, indices = operands[0].data, operands[1].data
        size = data.shape[self.axis]
        require(
            not indices.size or bool(-size <= indices.min() <= indices.max() < size),
            f"an index lies outside [-{size}, {size})",
        )
        return (np.take(data, indices, self.axis),)
