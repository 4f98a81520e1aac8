"""Reductions over axes: sums, largest and smallest numbers, and where the largest one is."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import tirx
from tvm.tirx.script import builder as T

from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.kernel import Argument, Kernel, Role, load, loop, named, store
from qcompiler.backends.tvm.kernels.epilogue import BoundEpilogue, Epilogue, Lanes
from qcompiler.backends.tvm.lanes import Expr, convert, literal, spread

VECTORS = 4
"""Vectors of accumulators side by side, as many as results of 8 bits are packed from."""


class Reducer(Enum):
    """What becomes of the numbers that are reduced to one."""

    SUM = "sum"
    MAX = "max"
    MIN = "min"

    def combined(self, a: Expr, b: Expr) -> Expr:
        """The reduction of two numbers, lane by lane."""
        if self is Reducer.SUM:
            return a + b
        return tirx.max(a, b) if self is Reducer.MAX else tirx.min(a, b)

    def start(self, dtype: str) -> int:
        """The number that changes nothing, for numbers of an integer format."""
        if self is Reducer.SUM:
            return 0
        info = np.iinfo(dtype)
        return int(info.min if self is Reducer.MAX else info.max)


@dataclass(frozen=True)
class Dimension:
    """Some axes of the operand as one.

    Attributes:
        size: how many positions.
        stride: elements from one to the next.
    """

    size: int
    stride: int


@dataclass(frozen=True)
class Reduction(Kernel):
    """A tensor reduced over some axes, then the epilogue. Arguments: ``x``, the epilogue's inputs, ``y``.

    Accumulators have 32 bits. The epilogue's constants by channel run along the last axis that stays, and come from
    ``pack_channels``.

    Attributes:
        shape: of the operand.
        axes: those that are reduced, counted from the front.
        reducer: what becomes of the numbers.
        stored: format of the operand, an integer of at most 32 bits.
        epilogue: from accumulators to results.
    """

    shape: tuple[int, ...]
    axes: tuple[int, ...]
    reducer: Reducer
    stored: str
    epilogue: Epilogue

    def pack_channels(self, constants: NDArray[Any], isa: InstructionSet) -> NDArray[Any]:
        """Constants of the epilogue, one for each place along the last axis that stays, padded."""
        return np.pad(constants, (0, isa.lanes - 1), "edge")

    def arguments(self, isa: InstructionSet) -> tuple[Argument, ...]:
        size = math.prod(self.shape)
        # The last vector of a row reads into the next one, or beyond.
        beyond = 0 if self._inner is None or self._inner >= VECTORS * isa.lanes else -self._inner % isa.lanes
        return (
            Argument("x", self.stored, size + beyond, Role.INPUT),
            *self.epilogue.arguments(isa, self._results, self._channels + isa.lanes - 1),
            Argument("y", self.epilogue.stored, self._results, Role.OUTPUT),
        )

    def items(self, isa: InstructionSet) -> int:
        return self._results if self._inner is None else self._results // self._inner * self._blocks(isa)

    def work(self) -> int:
        return math.prod(self.shape)

    def emit(self, isa: InstructionSet, buffers: Mapping[str, Any], begin: Expr, end: Expr) -> None:
        epilogue = self.epilogue.bind(isa, buffers)
        with loop(begin, end) as item:
            if self._inner is None:
                self._emit_number(isa, buffers["x"], epilogue, item)
            else:
                self._emit_block(isa, buffers["x"], epilogue, item)

    @property
    def _inner(self) -> int | None:
        """Results side by side whose operands lie side by side as well; None where there are no such."""
        return None if len(self.shape) - 1 in self.axes or not self.shape else self.shape[-1]

    @property
    def _channels(self) -> int:
        """Size of the last axis that stays."""
        kept = [size for axis, size in enumerate(self.shape) if axis not in self.axes]
        return kept[-1] if kept else 1

    @property
    def _results(self) -> int:
        return math.prod(size for axis, size in enumerate(self.shape) if axis not in self.axes)

    def _blocks(self, isa: InstructionSet) -> int:
        assert self._inner is not None
        return -(-self._inner // (VECTORS * isa.lanes))

    def _dimensions(self, reduced: bool) -> list[Dimension]:
        """The axes that are reduced, or those that are not; neighbours as one."""
        found: list[Dimension] = []
        stride = 1
        adjacent = False
        for axis in reversed(range(len(self.shape))):
            if (axis in self.axes) == reduced:
                if adjacent:
                    found[-1] = Dimension(found[-1].size * self.shape[axis], found[-1].stride)
                else:
                    found.append(Dimension(self.shape[axis], stride))
            adjacent = (axis in self.axes) == reduced
            stride *= self.shape[axis]
        return found[::-1]

    def _emit_block(self, isa: InstructionSet, x: Any, epilogue: BoundEpilogue, item: Expr) -> None:
        """Neighbouring results along the last axis."""
        inner, blocks, width = self._channels, self._blocks(isa), VECTORS * isa.lanes
        row = named(tirx.truncdiv(item, blocks)) if blocks > 1 else item
        # The last block overlaps the one before; its results are computed twice, alike.
        first = named(tirx.min((item - row * blocks) * width, max(inner - width, 0)))
        counts = [min(isa.lanes, inner - start) for start in range(0, min(inner, width), isa.lanes)]
        *outer, last = self._dimensions(reduced=False)
        if last.size > inner:
            outer.append(Dimension(last.size // inner, inner))
        base = named(_offset(row, outer) + first)
        totals = [T.alloc_buffer((isa.lanes,), "int32", scope="local") for _ in counts]
        for total in totals:
            store(total, 0, literal(self.reducer.start("int32"), "int32", isa.lanes))
        with _loops(self._dimensions(reduced=True)) as offset:
            for q, total in enumerate(totals):
                number = convert(load(x, base + offset + q * isa.lanes, isa.lanes), "int32")
                store(total, 0, self.reducer.combined(load(total, 0, isa.lanes), number))
        pixel = named(row * inner + first)
        epilogue.finish([
            Lanes(named(load(total, 0, isa.lanes)), first + q * isa.lanes, pixel, q * isa.lanes, count)
            for q, (total, count) in enumerate(zip(totals, counts, strict=True))
        ])

    def _emit_number(self, isa: InstructionSet, x: Any, epilogue: BoundEpilogue, item: Expr) -> None:
        """One result, whose operands are reduced one after the other."""
        base = named(_offset(item, self._dimensions(reduced=False)))
        total = T.alloc_buffer((1,), "int32", scope="local")
        store(total, 0, literal(self.reducer.start("int32"), "int32"))
        with _loops(self._dimensions(reduced=True)) as offset:
            store(total, 0, self.reducer.combined(load(total, 0), convert(load(x, base + offset), "int32")))
        channel = tirx.truncmod(item, self._channels)
        epilogue.finish([Lanes(named(spread(load(total, 0), isa.lanes)), channel, item, 0, 1)])


@dataclass(frozen=True)
class ArgMax(Kernel):
    """Places of the largest numbers along one axis, the first of equals, int64. Arguments: ``x``, ``y``.

    Attributes:
        outer, size, inner: the operand is ``[outer, size, inner]``; the middle axis is searched.
        stored: format of the operand.
    """

    outer: int
    size: int
    inner: int
    stored: str

    def arguments(self, isa: InstructionSet) -> tuple[Argument, ...]:
        results = self.outer * self.inner
        return (
            Argument("x", self.stored, results * self.size, Role.INPUT), Argument("y", "int64", results, Role.OUTPUT)
        )

    def items(self, isa: InstructionSet) -> int:
        return self.outer * self.inner

    def work(self) -> int:
        return 2 * self.outer * self.size * self.inner

    def emit(self, isa: InstructionSet, buffers: Mapping[str, Any], begin: Expr, end: Expr) -> None:
        x, y = buffers["x"], buffers["y"]
        with loop(begin, end) as item:
            base = named(_offset(item, [Dimension(self.outer, self.size * self.inner), Dimension(self.inner, 1)]))
            largest = T.alloc_buffer((1,), self.stored, scope="local")
            place = T.alloc_buffer((1,), "int32", scope="local")
            store(largest, 0, load(x, base))
            store(place, 0, tirx.const(0, "int32"))
            with loop(1, self.size) as index:
                number = named(load(x, base + index * self.inner))
                is_larger = named(number > load(largest, 0))
                store(place, 0, tirx.Select(is_larger, index, load(place, 0)))
                store(largest, 0, tirx.Select(is_larger, number, load(largest, 0)))
            store(y, item, convert(load(place, 0), "int64"))


def _offset(index: Expr, dimensions: Sequence[Dimension]) -> Expr:
    """Where the numbers of a place begin, places counted through all dimensions, the last one fastest."""
    offset: Expr = tirx.const(0, "int32")
    for dimension in reversed(dimensions[1:]):
        offset = offset + tirx.truncmod(index, dimension.size) * dimension.stride
        index = named(tirx.truncdiv(index, dimension.size))
    return offset + index * dimensions[0].stride if dimensions else offset


@contextmanager
def _loops(dimensions: Sequence[Dimension]) -> Iterator[Expr]:
    """Loops through all places of some dimensions: where each begins."""
    with ExitStack() as stack:
        offset: Expr = tirx.const(0, "int32")
        for dimension in dimensions:
            offset = offset + stack.enter_context(loop(0, dimension.size)) * dimension.stride
        yield offset
