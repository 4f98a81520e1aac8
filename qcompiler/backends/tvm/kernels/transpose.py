"""Permutations of axes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from tvm import tirx

from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.kernel import Argument, Kernel, Role, load, loop, named, store
from qcompiler.backends.tvm.kernels.movement import StridedCopy, dense_strides
from qcompiler.backends.tvm.lanes import Expr

_FEW = 8
"""A dimension of at most this size is moved as a whole with 16 bytes of the other one."""


@dataclass(frozen=True)
class Transpose(Kernel):
    """Exchange of the two dimensions that are contiguous before and after, for every index of the others.

    ``y[t + c * column_stride + r] = x[s + r * row_stride + c]`` for rows r and columns c, where s and t follow from
    the outer index. Make it with :func:`transpose`.

    Attributes:
        dtype: format of the numbers.
        outer: sizes of the other dimensions.
        source_strides, target_strides: elements between neighbours along each of them.
        rows, columns: sizes of the two dimensions.
        row_stride: elements of x from row to row.
        column_stride: elements of y from column to column.
    """

    dtype: str
    outer: tuple[int, ...]
    source_strides: tuple[int, ...]
    target_strides: tuple[int, ...]
    rows: int
    columns: int
    row_stride: int
    column_stride: int

    @property
    def elements(self) -> int:
        return math.prod(self.outer) * self.rows * self.columns

    @property
    def tile(self) -> int:
        """Numbers in 16 bytes."""
        return 16 // np.dtype(self.dtype).itemsize

    @property
    def _blocks(self) -> tuple[int, int]:
        """Rows and columns of one block."""
        tile = self.tile
        if tile > 1 and self.rows >= tile and self.columns >= tile:
            return tile, tile
        if self.rows == self.column_stride <= _FEW and self.columns >= tile:
            return self.rows, tile
        if self.columns == self.row_stride <= _FEW and self.rows >= tile:
            return tile, self.columns
        return 1, 1

    def arguments(self, isa: InstructionSet) -> tuple[Argument, ...]:
        return (
            Argument("x", self.dtype, self.elements, Role.INPUT),
            Argument("y", self.dtype, self.elements, Role.OUTPUT),
        )

    def items(self, isa: InstructionSet) -> int:
        """An item is a strip of columns as wide as a block."""
        return math.prod(self.outer) * -(-self.columns // self._blocks[1])

    def work(self) -> int:
        return self.elements // (1 if self._blocks == (1, 1) else 4)

    def emit(self, isa: InstructionSet, buffers: Mapping[str, Any], begin: Expr, end: Expr) -> None:
        height, width = self._blocks
        strips = -(-self.columns // width)
        with loop(begin, end) as item:
            remaining = named(item // strips)
            # Blocks at the end are moved back to end with the tensor: some numbers are copied twice.
            column = named(tirx.min((item % strips) * width, self.columns - width))
            source, target = column, column * self.column_stride
            for axis in reversed(range(len(self.outer))):
                index = remaining if axis == 0 else named(remaining % self.outer[axis])
                remaining = remaining if axis == 0 else named(remaining // self.outer[axis])
                source = source + index * self.source_strides[axis]
                target = target + index * self.target_strides[axis]
            source, target = named(source), named(target)
            with loop(0, -(-self.rows // height)) as block:
                row = named(tirx.min(block * height, self.rows - height))
                self._move_block(buffers, named(source + row * self.row_stride), named(target + row))

    def _move_block(self, buffers: Mapping[str, Any], source: Expr, target: Expr) -> None:
        x, y, (height, width) = buffers["x"], buffers["y"], self._blocks
        if (height, width) == (1, 1):
            store(y, target, load(x, source))
        elif height == width == self.tile:
            rows = [named(load(x, source + r * self.row_stride, width)) for r in range(height)]
            for c, vector in enumerate(_transposed(rows)):
                store(y, target + c * self.column_stride, vector)
        elif width == self.tile:
            # Few rows: y is contiguous over all of the block.
            rows = [load(x, source + r * self.row_stride, width) for r in range(height)]
            store(y, target, _shuffle(rows, [r * width + c for c in range(width) for r in range(height)]))
        else:
            # Few columns: x is contiguous over all of the block.
            block = named(load(x, source, height * width))
            for c in range(width):
                store(y, target + c * self.column_stride, _shuffle([block], [r * width + c for r in range(height)]))


def transpose(shape: Sequence[int], permutation: Sequence[int], dtype: str) -> Kernel:
    """Axis i of a dense y is axis ``permutation[i]`` of a dense x.

    Args:
        shape: of x; no dimension is 0.
        permutation: of its axes.
        dtype: format of the numbers.
    """
    sizes, order = _merge(shape, permutation)
    source = dense_strides(sizes)
    target = dict(zip(order, dense_strides([sizes[a] for a in order]), strict=True))
    elements = math.prod(shape)
    if not order or order[-1] == len(sizes) - 1:
        # The innermost dimension stays: runs are copied.
        found = [(sizes[a], source[a], target[a]) for a in order] or [(1, 1, 1)]
        dims, sources, targets = zip(*found, strict=True)
        return StridedCopy(dtype, dims, sources, targets, 0, 0, elements, elements)
    rows, columns = order[-1], len(sizes) - 1
    outer = [a for a in order if a not in (rows, columns)]
    return Transpose(
        dtype, tuple(sizes[a] for a in outer), tuple(source[a] for a in outer), tuple(target[a] for a in outer),
        sizes[rows], sizes[columns], source[rows], target[columns],
    )


def _merge(shape: Sequence[int], permutation: Sequence[int]) -> tuple[list[int], list[int]]:
    """The same permutation without dimensions of 1, axes that stay neighbours merged: sizes and order."""
    groups: list[list[int]] = []
    for axis in (a for a in permutation if shape[a] != 1):
        previous = groups[-1][-1] if groups else None
        between = range(axis if previous is None else previous + 1, axis)
        if previous is not None and axis > previous and all(shape[b] == 1 for b in between):
            groups[-1].append(axis)
        else:
            groups.append([axis])
    ranked = sorted(range(len(groups)), key=lambda g: groups[g][0])
    sizes = [math.prod(shape[a] for a in groups[g]) for g in ranked]
    return sizes, [ranked.index(g) for g in range(len(groups))]


def _transposed(vectors: list[Expr]) -> list[Expr]:
    """The transpose of a square of numbers, by interleaving the first half of the vectors with the second, again and
    again: after log2(size) rounds every number has moved to its place."""
    size = len(vectors)
    low, high = ([start + i // 2 + i % 2 * size for i in range(size)] for start in (0, size // 2))
    for _ in range(size.bit_length() - 1):
        pairs = list(zip(vectors[: size // 2], vectors[size // 2 :], strict=True))
        vectors = [named(_shuffle([a, b], order)) for (a, b), order in product(pairs, (low, high))]
    return vectors


def _shuffle(vectors: Sequence[Expr], order: Sequence[int]) -> Expr:
    return tirx.Shuffle(list(vectors), [tirx.const(i, "int32") for i in order])
