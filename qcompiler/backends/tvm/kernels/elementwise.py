"""Element-wise kernels: steps over tensors of one shape, or broadcast to it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import tirx

from qcompiler.backends.tvm.element import Step, evaluate
from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.kernel import Argument, Kernel, Role, load, loop, named, store
from qcompiler.backends.tvm.lanes import Expr, convert, element, lanes_of, spread

ITEM_ELEMENTS = 4096
"""Results that one item of work computes, about."""


@dataclass(frozen=True)
class ElementwiseInput:
    """An input of the steps.

    Attributes:
        dtype: format of its numbers in memory.
        strides: elements from one number to the next along each dimension of the kernel; 0 where it is broadcast.
        constant: whether it is known at compile time.
    """

    dtype: str
    strides: tuple[int, ...]
    constant: bool


@dataclass(frozen=True)
class Elementwise(Kernel):
    """``y = steps(input_0, input_1, ...)`` for each element; make it with :func:`elementwise`.

    Attributes:
        shape: dimensions of the result, neighbours merged where every input allows; never empty.
        inputs: what the steps take.
        steps: what is computed.
        result: format of the results. Those of 8 bits are saturated.
    """

    shape: tuple[int, ...]
    inputs: tuple[ElementwiseInput, ...]
    steps: tuple[Step, ...]
    result: str

    def arguments(self, isa: InstructionSet) -> tuple[Argument, ...]:
        found = []
        for number, entry in enumerate(self.inputs):
            size = 1 + sum(s * (d - 1) for s, d in zip(entry.strides, self.shape, strict=True))
            role = Role.CONSTANT if entry.constant else Role.INPUT
            found.append(Argument(f"input_{number}", entry.dtype, size, role))
        return (*found, Argument("y", self.result, math.prod(self.shape), Role.OUTPUT))

    def items(self, isa: InstructionSet) -> int:
        return self._partition(isa).items

    def work(self) -> int:
        return math.prod(self.shape) * (len(self.inputs) + 2 * len(self.steps))

    def emit(self, isa: InstructionSet, buffers: Mapping[str, Any], begin: Expr, end: Expr) -> None:
        partition = self._partition(isa)
        with loop(begin, end) as item:
            first = named(item * partition.units_per_item)
            last = named(tirx.min(first + partition.units_per_item, partition.units))
            with loop(first, last) as unit:
                if partition.pieces == 1:
                    row, piece = unit, tirx.const(0, "int32")
                else:
                    row, piece = named(unit // partition.pieces), named(unit % partition.pieces)
                bases = self._row_bases(row)
                # The last vector of a row is moved back to end with it: some results are computed twice, alike.
                start = piece * partition.vectors_per_piece
                stop = tirx.min(start + partition.vectors_per_piece, partition.vectors)
                with loop(start, stop) as index:
                    column = named(tirx.min(index * partition.width, self.shape[-1] - partition.width))
                    self._emit_vector(isa, buffers, bases, row * self.shape[-1], column, partition.width)

    def _partition(self, isa: InstructionSet) -> _Partition:
        inner, lanes = self.shape[-1], isa.lanes
        width = 4 * lanes if self._is_8_bit and inner >= 4 * lanes else lanes if inner >= lanes else 1
        vectors = -(-inner // width)
        per_piece = min(vectors, max(1, ITEM_ELEMENTS // width))
        pieces = -(-vectors // per_piece)
        units = math.prod(self.shape[:-1]) * pieces
        return _Partition(width, vectors, per_piece, pieces, units, max(1, ITEM_ELEMENTS // (per_piece * width)))

    @property
    def _is_8_bit(self) -> bool:
        return np.dtype(self.result).itemsize == 1

    def _row_bases(self, row: Expr) -> list[Expr]:
        """Where each input's numbers for a row begin."""
        remaining, indices = row, []
        for size in reversed(self.shape[1:-1]):
            indices.append(named(remaining % size))
            remaining = named(remaining // size)
        if len(self.shape) > 1:
            indices.append(remaining)
        indices.reverse()
        bases = []
        for entry in self.inputs:
            base = tirx.const(0, "int32")
            for index, stride in zip(indices, entry.strides[:-1], strict=True):
                base = base + index * stride if stride else base
            bases.append(base if isinstance(base, tirx.IntImm) else named(base))
        return bases

    def _emit_vector(
        self, isa: InstructionSet, buffers: Mapping[str, Any], bases: Sequence[Expr], row: Expr, column: Expr,
        width: int,
    ) -> None:
        """Compute and store ``width`` neighbouring results."""
        lanes = min(width, isa.lanes)
        steps, limits = self._split_limits()
        values = []
        for start in range(0, width, lanes):
            operands = []
            for number, (entry, base) in enumerate(zip(self.inputs, bases, strict=True)):
                operands.append(_load(buffers[f"input_{number}"], entry, base, column + start, lanes))
            values.append(named(evaluate(steps, operands)))
        low_high = [load(buffers[f"input_{n}"], tirx.const(0, "int32")) for n in limits]
        if len(values) == 4 and element(values[0]) == "int32":
            packed = named(isa.pack_to_bytes(values, self.result))
            if low_high:
                # Once packed, one instruction limits four vectors; saturation before it changes nothing.
                packed = _limited(packed, *(convert(bound, self.result) for bound in low_high))
            store(buffers["y"], row + column, packed)
            return
        for start, value in zip(range(0, width, lanes), values, strict=True):
            if low_high:
                value = _limited(value, *(convert(bound, element(value)) for bound in low_high))
            elif self._is_8_bit:
                info = np.iinfo(self.result)
                value = _limited(value, *(tirx.const(int(b), element(value)) for b in (info.min, info.max)))
            store(buffers["y"], row + (column + start), convert(value, self.result))

    def _split_limits(self) -> tuple[tuple[Step, ...], tuple[int, ...]]:
        """The steps without limits of the last one that are single numbers, and the inputs that hold those."""
        last = self.steps[-1]
        limits = last.operands[-2:]
        if not last.limited or any(n >= len(self.inputs) or any(self.inputs[n].strides) for n in limits):
            return self.steps, ()
        return (*self.steps[:-1], Step(last.stage, last.operands[:-2])), limits


@dataclass(frozen=True)
class _Partition:
    """How results are cut into items.

    Attributes:
        width: neighbouring results that are computed at a time.
        vectors: how many of those cover a row.
        vectors_per_piece: how many a unit holds.
        pieces: units that cover a row.
        units: how many there are.
        units_per_item: how many make an item.
    """

    width: int
    vectors: int
    vectors_per_piece: int
    pieces: int
    units: int
    units_per_item: int

    @property
    def items(self) -> int:
        return -(-self.units // self.units_per_item)


def elementwise(
    shape: Sequence[int], inputs: Sequence[tuple[str, Sequence[int], bool]], steps: Sequence[Step], result: str
) -> Elementwise:
    """The kernel for steps over dense tensors.

    Args:
        shape: of the result; it has at least one element.
        inputs: format, shape and constness of each input of the steps; shapes broadcast to ``shape``.
        steps: what is computed.
        result: format of the results.
    """
    strides = [_broadcast_strides(s, tuple(shape)) for _, s, _ in inputs]
    dense = _broadcast_strides(tuple(shape), tuple(shape))
    dims = [d for d in range(len(shape)) if shape[d] != 1]
    merged: list[tuple[int, ...]] = []
    sizes: list[int] = []
    # From the innermost dimension outward: a dimension joins the one within if every input continues there.
    for dim in reversed(dims):
        here = tuple(s[dim] for s in (*strides, dense))
        if sizes and all(outer == inner * sizes[-1] for outer, inner in zip(here, merged[-1], strict=True)):
            sizes[-1] *= shape[dim]
            continue
        sizes.append(shape[dim])
        merged.append(here)
    if not sizes:
        sizes, merged = [1], [(0,) * (len(inputs) + 1)]
    sizes.reverse()
    merged.reverse()
    entries = tuple(
        ElementwiseInput(dtype, tuple(m[i] for m in merged), constant) for i, (dtype, _, constant) in enumerate(inputs)
    )
    return Elementwise(tuple(sizes), entries, tuple(steps), result)


def _broadcast_strides(shape: Sequence[int], target: tuple[int, ...]) -> tuple[int, ...]:
    """Strides of a dense tensor along the dimensions of the shape that it is broadcast to."""
    padded = (1,) * (len(target) - len(shape)) + tuple(shape)
    strides = [0 if d == 1 else math.prod(padded[i + 1 :]) for i, d in enumerate(padded)]
    return tuple(strides)


def _load(buffer: Any, entry: ElementwiseInput, base: Expr, column: Expr, lanes: int) -> Expr:
    """An input's numbers for ``lanes`` results: integers of 8 and 16 bits widened to 32."""
    broadcast = entry.strides[-1] == 0
    value = load(buffer, base, 1) if broadcast else load(buffer, base + column, lanes)
    value = named(convert(value, "int32") if np.dtype(entry.dtype).itemsize < 4 else value)
    return named(spread(value, lanes)) if broadcast and lanes > 1 else value


def _limited(value: Expr, low: Expr, high: Expr) -> Expr:
    low, high = (spread(bound, lanes_of(value)) for bound in (low, high))
    return tirx.max(tirx.min(value, high), low)


