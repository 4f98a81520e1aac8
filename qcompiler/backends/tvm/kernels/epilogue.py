"""What a kernel does with finished accumulators: its element-wise steps, the limits, and the stores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from tvm import tirx

from qcompiler.backends.tvm.element import Step, evaluate
from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.kernel import Argument, Role, load, named, store
from qcompiler.backends.tvm.kernels.table import ENTRIES, ByteLookup, table_registers
from qcompiler.backends.tvm.lanes import Expr, convert, element, lanes_of, literal_like, part, reinterpret, spread


class InputKind(Enum):
    """Which numbers of a further input belong to an accumulator."""

    SCALAR = "scalar"
    """One number for all."""
    CHANNEL = "channel"
    """One number for each output channel: a constant, laid out by the kernel's ``pack_channels``."""
    PIXEL = "pixel"
    """One number for all channels of a pixel: a constant; kernels of windows take it."""
    TENSOR = "tensor"
    """A tensor of the result's shape."""


@dataclass(frozen=True)
class EpilogueInput:
    """An input of the steps beside the accumulator.

    Attributes:
        kind: which of its numbers belongs to which accumulator.
        dtype: format of its numbers in memory.
    """

    kind: InputKind
    dtype: str


@dataclass(frozen=True)
class Epilogue:
    """From int32 accumulators, bias included, to stored results.

    Attributes:
        steps: what is computed; input 0 is the accumulator, then come ``inputs``. None stores the accumulator.
        inputs: further inputs of the steps.
        result: format of the results. Those of 8 bits are saturated, so that a last step whose limits are the whole
            range of the format can do without them.
        table: format of the entries that stand for 8-bit results in memory, 256 in the order of ``result``'s numbers,
            for instruction sets that look up bytes; empty where results are stored as they are.
    """

    steps: tuple[Step, ...]
    inputs: tuple[EpilogueInput, ...]
    result: str
    table: str = ""

    @property
    def stored(self) -> str:
        """Format of what is stored."""
        return self.table or self.result

    def arguments(self, isa: InstructionSet, elements: int, channels: int, pixels: int = 1) -> Iterator[Argument]:
        """The inputs' buffers, ``input_1`` and so on.

        Args:
            isa: the instruction set.
            elements: how many results there are.
            channels: how many numbers packed constants by channel have.
            pixels: how many pixels the result has; only for kernels that take inputs by pixel.
        """
        for number, entry in enumerate(self.inputs, 1):
            # The last vector of a channel tail reads numbers of the next pixel, or behind the last one.
            size = {
                InputKind.SCALAR: 1, InputKind.CHANNEL: channels, InputKind.PIXEL: pixels,
                InputKind.TENSOR: elements + isa.lanes - 1,
            }
            role = Role.INPUT if entry.kind is InputKind.TENSOR else Role.CONSTANT
            yield Argument(f"input_{number}", entry.dtype, size[entry.kind], role)
        if self.table:
            yield Argument("table", self.table, ENTRIES, Role.CONSTANT)

    def bind(self, isa: InstructionSet, buffers: Mapping[str, Any]) -> BoundEpilogue:
        """Load what all accumulators share; call it once, before any loop."""
        return BoundEpilogue(self, isa, buffers)


@dataclass(frozen=True)
class Lanes:
    """A vector of accumulators, and what belongs to it.

    Attributes:
        accumulators: int32 numbers; those behind the first ``count`` are of no use.
        channel: where their channels begin in packed constants.
        pixel: where the results of their pixel begin in a tensor of the result's shape. The vectors of a pixel share
            one expression.
        first: how far behind that their own results begin.
        count: how many results there are.
        place: the number of their pixel, for inputs by pixel.
    """

    accumulators: Expr
    channel: Expr
    pixel: Expr
    first: int
    count: int
    place: Expr = 0

    def is_followed_by(self, other: Lanes) -> bool:
        """Whether all lanes are in use and the results of ``other`` lie right behind."""
        full = self.count == lanes_of(self.accumulators)
        return full and self.pixel is other.pixel and other.first == self.first + self.count


class BoundEpilogue:
    """An epilogue within a kernel's body."""

    def __init__(self, epilogue: Epilogue, isa: InstructionSet, buffers: Mapping[str, Any]) -> None:
        self.epilogue = epilogue
        self.isa = isa
        self.output = buffers["y"]
        self.inputs = [(entry, buffers[f"input_{n}"]) for n, entry in enumerate(epilogue.inputs, 1)]
        self.scalars = {
            n: named(load(buffer, 0)) for n, (entry, buffer) in enumerate(self.inputs, 1)
            if entry.kind is InputKind.SCALAR
        }
        self.table = table_registers(isa, buffers["table"], epilogue.result) if epilogue.table else []
        self.steps = epilogue.steps
        self.low_high: tuple[Expr, Expr] | None = None
        if self.steps and self.steps[-1].limited and all(i in self.scalars for i in self.steps[-1].operands[-2:]):
            # Limits that all results share are applied here: to packed bytes, four vectors at a time.
            last = self.steps[-1]
            self.low_high = (self.scalars[last.operands[-2]], self.scalars[last.operands[-1]])
            self.steps = (*self.steps[:-1], Step(last.stage, last.operands[:-2]))

    def finish(self, vectors: Sequence[Lanes]) -> None:
        """Compute and store the results of some vectors of accumulators."""
        if self.epilogue.result in ("int8", "uint8"):
            for start in range(0, len(vectors), 4):
                self._finish_bytes(vectors[start : start + 4])
            return
        for lanes in vectors:
            value = named(convert(self._limited(self._value(lanes)), self.epilogue.result))
            store_part(self.output, lanes.pixel + lanes.first, value, 0, lanes.count)

    def packed(self, vectors: Sequence[Lanes]) -> Expr:
        """Up to four vectors of 8-bit results, packed in their order; four vectors' worth of bytes."""
        result = self.epilogue.result
        values = [self._value(v) for v in vectors]
        fits = element(values[0]) == "int32"
        if not fits:
            # Only limits bring wider numbers and floats into the range of int32.
            values = [named(convert(self._limited(v), "int32")) for v in values]
        packed = named(self.pack_to_bytes([*values, *[values[-1]] * (4 - len(values))]))
        if fits and self.low_high is not None:
            low, high = (spread(convert(bound, result), lanes_of(packed)) for bound in self.low_high)
            packed = named(tirx.max(tirx.min(packed, high), low))
        return named(self._looked_up(packed)) if self.table else packed

    def _looked_up(self, packed: Expr) -> Expr:
        assert isinstance(self.isa, ByteLookup)
        count = lanes_of(packed)
        found = self.isa.look_up(self.table, reinterpret(f"uint8x{count}", packed))
        return reinterpret(f"{self.epilogue.table}x{count}", found)

    def pack_to_bytes(self, vectors: Sequence[Expr]) -> Expr:
        """Four vectors of results as bytes, in order; kernels whose accumulators are permuted restore it here."""
        return self.isa.pack_to_bytes(vectors, self.epilogue.result)

    def _finish_bytes(self, vectors: Sequence[Lanes]) -> None:
        """Up to four vectors of results, packed and stored together."""
        packed, width = self.packed(vectors), self.isa.lanes
        start = 0
        while start < len(vectors):
            # Vectors that follow one another within a pixel are stored as one.
            stop = start + 1
            while stop < len(vectors) and vectors[stop - 1].is_followed_by(vectors[stop]):
                stop += 1
            count = sum(v.count for v in vectors[start:stop])
            store_part(self.output, vectors[start].pixel + vectors[start].first, packed, start * width, count)
            start = stop

    def _value(self, lanes: Lanes) -> Expr:
        """The steps' results, before the limits that all results share."""
        if not self.steps:
            return lanes.accumulators
        width = lanes_of(lanes.accumulators)
        operands = [lanes.accumulators]
        for number, (entry, buffer) in enumerate(self.inputs, 1):
            if entry.kind is InputKind.SCALAR:
                operands.append(spread(self.scalars[number], width))
            elif entry.kind is InputKind.PIXEL:
                operands.append(spread(load(buffer, lanes.place), width))
            elif entry.kind is InputKind.CHANNEL:
                operands.append(named(load(buffer, lanes.channel, width)))
            else:
                stored = load(buffer, lanes.pixel + lanes.first, width)
                narrow = entry.dtype in ("int8", "uint8", "int16", "uint16")
                operands.append(named(convert(stored, "int32") if narrow else stored))
        return evaluate(self.steps, operands)

    def _limited(self, value: Expr) -> Expr:
        """Results within the limits that all results share, or else within the range of their 8-bit format."""
        if self.low_high is not None:
            low, high = (spread(convert(bound, element(value)), lanes_of(value)) for bound in self.low_high)
        elif self.epilogue.result in ("int8", "uint8"):
            info = np.iinfo(self.epilogue.result)
            low, high = literal_like(int(info.min), value), literal_like(int(info.max), value)
        else:
            return value
        return tirx.max(tirx.min(value, high), low)


def store_part(output: Any, offset: Expr, vector: Expr, start: int, count: int) -> None:
    """Store a part of a vector, in pieces of a power of two that lie at a multiple of their size within it."""
    stop = start + count
    while start < stop:
        size = 1 << ((stop - start).bit_length() - 1)
        while start % size:
            size //= 2
        store(output, offset, part(vector, start, size))
        start, offset = start + size, offset + size
