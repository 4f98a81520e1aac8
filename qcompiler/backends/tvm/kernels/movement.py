"""Kernels that move numbers between places of dense tensors: slices, parts of concatenations, padding, broadcasts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import tirx

from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.kernel import Argument, Kernel, Role, load, loop, named, store
from qcompiler.backends.tvm.kernels.runs import copy_run, fill_run
from qcompiler.backends.tvm.lanes import Expr

ITEM_BYTES = 8192
"""Bytes that one item of work moves, about."""


@dataclass(frozen=True)
class Fill(Kernel):
    """Every number of ``y`` becomes the constant ``value``.

    Attributes:
        elements: how many.
        dtype: their format.
    """

    elements: int
    dtype: str

    def arguments(self, isa: InstructionSet) -> tuple[Argument, ...]:
        return (
            Argument("value", self.dtype, 1, Role.CONSTANT), Argument("y", self.dtype, self.elements, Role.OUTPUT),
        )

    def items(self, isa: InstructionSet) -> int:
        return -(-self.elements // self._per_item)

    def work(self) -> int:
        return self.elements // 16

    @property
    def _per_item(self) -> int:
        return min(ITEM_BYTES // np.dtype(self.dtype).itemsize, self.elements)

    def emit(self, isa: InstructionSet, buffers: Mapping[str, Any], begin: Expr, end: Expr) -> None:
        value = named(load(buffers["value"], tirx.const(0, "int32")))
        with loop(begin, end) as item:
            start = named(tirx.min(item * self._per_item, self.elements - self._per_item))
            fill_run(value, buffers["y"], start, self._per_item, isa.register_bytes)


@dataclass(frozen=True)
class StridedCopy(Kernel):
    """``y[target_start + i . target_strides] = x[source_start + i . source_strides]`` for every index i.

    Make it with one of this module's functions. No place is written twice.

    Attributes:
        dtype: format of the numbers.
        shape: dimensions of the index, never empty.
        source_strides: elements between neighbours in x along each; 0 repeats, negative reverses.
        target_strides: the same in y; positive.
        source_start, target_start: where the first number stands.
        source_elements, target_elements: size of x and of y.
    """

    dtype: str
    shape: tuple[int, ...]
    source_strides: tuple[int, ...]
    target_strides: tuple[int, ...]
    source_start: int
    target_start: int
    source_elements: int
    target_elements: int

    def arguments(self, isa: InstructionSet) -> tuple[Argument, ...]:
        return (
            Argument("x", self.dtype, self.source_elements, Role.INPUT),
            Argument("y", self.dtype, self.target_elements, Role.OUTPUT),
        )

    def items(self, isa: InstructionSet) -> int:
        return -(-self._rows // self._rows_per_item)

    def work(self) -> int:
        is_run = self.source_strides[-1] == self.target_strides[-1] == 1
        return math.prod(self.shape) // (16 if is_run else 1)

    @property
    def _rows(self) -> int:
        return math.prod(self.shape[:-1])

    @property
    def _rows_per_item(self) -> int:
        return max(1, ITEM_BYTES // (self.shape[-1] * np.dtype(self.dtype).itemsize))

    def emit(self, isa: InstructionSet, buffers: Mapping[str, Any], begin: Expr, end: Expr) -> None:
        x, y, length = buffers["x"], buffers["y"], self.shape[-1]
        with loop(begin, end) as item:
            first = named(item * self._rows_per_item)
            with loop(first, tirx.min(first + self._rows_per_item, self._rows)) as row:
                source, target = self._starts(row)
                step, stride = self.source_strides[-1], self.target_strides[-1]
                if (step, stride) == (1, 1):
                    copy_run(x, source, y, target, length, isa.register_bytes)
                elif (step, stride) == (0, 1):
                    fill_run(named(load(x, source)), y, target, length, isa.register_bytes)
                else:
                    with loop(0, length) as i:
                        store(y, target + i * stride, load(x, source + i * step))

    def _starts(self, row: Expr) -> tuple[Expr, Expr]:
        """Where a row's numbers begin in x and in y."""
        source, target = tirx.const(self.source_start, "int32"), tirx.const(self.target_start, "int32")
        remaining = row
        for axis in reversed(range(len(self.shape) - 1)):
            index = remaining if axis == 0 else named(remaining % self.shape[axis])
            remaining = remaining if axis == 0 else named(remaining // self.shape[axis])
            source = source + index * self.source_strides[axis]
            target = target + index * self.target_strides[axis]
        return named(source), named(target)


def contiguous_copy(elements: int, dtype: str) -> StridedCopy:
    """All of x to y."""
    per_row = max(1, ITEM_BYTES // np.dtype(dtype).itemsize)
    rows, rest = divmod(elements, per_row)
    if rest or rows < 2:
        # Rows of a length that divides the whole; a prime number of elements is one row.
        rows = next((r for r in range(max(rows, 1), 4 * rows + 1) if elements % r == 0), 1)
    length = elements // rows
    return StridedCopy(dtype, (rows, length), (length, 1), (length, 1), 0, 0, elements, elements)


def slice_copy(
    shape: Sequence[int], starts: Sequence[int], counts: Sequence[int], steps: Sequence[int], dtype: str
) -> StridedCopy:
    """Every ``steps[i]``-th number of x along axis i, ``counts[i]`` of them from ``starts[i]`` on, to a dense y.

    Also one part of a split.

    Args:
        shape: of x.
        starts, counts, steps: one for each axis; steps may be negative; counts are at least 1.
        dtype: format of the numbers.
    """
    strides = dense_strides(shape)
    return _merged(
        dtype, counts, [s * step for s, step in zip(strides, steps, strict=True)], dense_strides(counts),
        sum(s * start for s, start in zip(strides, starts, strict=True)), 0, math.prod(shape), math.prod(counts),
    )


def box_copy(shape: Sequence[int], target_shape: Sequence[int], starts: Sequence[int], dtype: str) -> StridedCopy:
    """A dense x to a box within y: one operand of a concatenation, or what padding surrounds.

    Args:
        shape: of x.
        target_shape: of y.
        starts: where the box begins along each axis of y.
        dtype: format of the numbers.
    """
    strides = dense_strides(target_shape)
    return _merged(
        dtype, shape, dense_strides(shape), strides, 0, sum(s * b for s, b in zip(strides, starts, strict=True)),
        math.prod(shape), math.prod(target_shape),
    )


def broadcast_copy(shape: Sequence[int], target_shape: Sequence[int], dtype: str) -> StridedCopy:
    """A dense x, repeated along dimensions of size 1 until it has the shape of a dense y."""
    padded = (1,) * (len(target_shape) - len(shape)) + tuple(shape)
    strides = [0 if d == 1 else s for d, s in zip(padded, dense_strides(padded), strict=True)]
    return _merged(
        dtype, target_shape, strides, dense_strides(target_shape), 0, 0, math.prod(shape), math.prod(target_shape)
    )


def dense_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Elements between neighbours of a dense tensor along each axis."""
    return tuple(math.prod(shape[i + 1 :]) for i in range(len(shape)))


def _merged(
    dtype: str, shape: Sequence[int], source: Sequence[int], target: Sequence[int], source_start: int,
    target_start: int, source_elements: int, target_elements: int,
) -> StridedCopy:
    """The copy with neighbouring dimensions merged where both sides allow."""
    dims: list[tuple[int, int, int]] = []
    for entry in zip(shape, source, target, strict=True):
        size, from_, to = entry
        if size == 1:
            continue
        if dims and dims[-1][1:] == (from_ * size, to * size):
            dims[-1] = (dims[-1][0] * size, from_, to)
        else:
            dims.append(entry)
    if len(dims) == 1 and dims[0][1:] == (1, 1) and (source_elements, source_start) == (target_elements, target_start):
        return contiguous_copy(dims[0][0], dtype)
    sizes, sources, targets = zip(*(dims or [(1, 1, 1)]), strict=True)
    return StridedCopy(dtype, sizes, sources, targets, source_start, target_start, source_elements, target_elements)
