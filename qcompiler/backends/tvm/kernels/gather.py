"""Slices of a tensor picked by indices: gather, nearest resize, padding that repeats elements."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import tirx

from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.kernel import Argument, Kernel, Role, load, loop, named
from qcompiler.backends.tvm.kernels.movement import ITEM_BYTES
from qcompiler.backends.tvm.kernels.runs import copy_run
from qcompiler.backends.tvm.lanes import Expr


@dataclass(frozen=True)
class Gather(Kernel):
    """``y[o, i, j, ..., n] = x[o, index_0[i], index_1[j], ..., n]`` for neighbouring axes.

    Indices are int32, known at compile time, and lie within their axes.

    Attributes:
        dtype: format of the numbers.
        outer: how many o there are: dimensions before the axes.
        sizes: of the axes in x.
        counts: of the axes in y.
        inner: how many n there are: dimensions behind the axes.
    """

    dtype: str
    outer: int
    sizes: tuple[int, ...]
    counts: tuple[int, ...]
    inner: int

    def arguments(self, isa: InstructionSet) -> tuple[Argument, ...]:
        return (
            Argument("x", self.dtype, self.outer * math.prod(self.sizes) * self.inner, Role.INPUT),
            *(Argument(f"index_{i}", "int32", count, Role.CONSTANT) for i, count in enumerate(self.counts)),
            Argument("y", self.dtype, self._rows * self.inner, Role.OUTPUT),
        )

    def items(self, isa: InstructionSet) -> int:
        return -(-self._rows // self._rows_per_item)

    def work(self) -> int:
        return self._rows * (4 + self.inner // 16)

    @property
    def _rows(self) -> int:
        return self.outer * math.prod(self.counts)

    @property
    def _rows_per_item(self) -> int:
        return max(1, ITEM_BYTES // (max(self.inner, 8) * np.dtype(self.dtype).itemsize))

    def emit(self, isa: InstructionSet, buffers: Mapping[str, Any], begin: Expr, end: Expr) -> None:
        with loop(begin, end) as item:
            first = named(item * self._rows_per_item)
            with loop(first, tirx.min(first + self._rows_per_item, self._rows)) as row:
                source = self._source_row(buffers, row)
                copy_run(
                    buffers["x"], named(source * self.inner), buffers["y"], named(row * self.inner), self.inner,
                    isa.register_bytes,
                )

    def _source_row(self, buffers: Mapping[str, Any], row: Expr) -> Expr:
        """Which run of ``inner`` numbers of x becomes run ``row`` of y."""
        source, stride = tirx.const(0, "int32"), 1
        for axis in reversed(range(len(self.sizes))):
            count = self.counts[axis]
            source = source + named(load(buffers[f"index_{axis}"], named(row % count))) * stride
            stride *= self.sizes[axis]
            row = named(row // count)
        return named(source + row * stride)
