"""What the dot products of depthwise convolutions take: activations converted, and interleaved by taps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tvm import tirx

from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.kernel import load, named
from qcompiler.backends.tvm.kernels.depthwise_layout import Part, interleave, shift_of
from qcompiler.backends.tvm.lanes import Expr, convert, lanes_of, literal_like, reinterpret

if TYPE_CHECKING:
    from qcompiler.backends.tvm.kernels.depthwise import Depthwise


@dataclass(frozen=True)
class Activations:
    """Vectors of activations for the blocks of channels of a part."""

    shape: Depthwise
    isa: InstructionSet
    part: Part
    buffers: Mapping[str, Any]

    def loaded(self, read: Callable[[int, int, int], Expr], row: Expr | int, start: int) -> Expr:
        """One row of the window, for every result row of the block, as dot products take it.

        Args:
            read: reads some channels of a row: the row within the window of the first result row, the first channel,
                how many.
            row: which, within the window.
            start: first byte of the vector of bytes; as many numbers as a vector of activations holds.
        """
        shape, width = self.shape, self.part.width
        count = self.isa.lanes * self.isa.group
        piece = min(width, count)
        pieces = []
        for lane in range(start, start + count, piece):
            # Where the result has fewer rows than a vector holds, the last one stands in for the others.
            result_row = min(lane // width, shape.output_size[0] - 1)
            stored = read(result_row * shape.strides[0] + row * shape.dilations[0], lane % width, piece)
            pieces.append(self._converted(stored))
        return named(_concatenated(pieces))

    def _converted(self, stored: Expr) -> Expr:
        """Stored activations as dot products take them."""
        if shift_of(self.shape.stored, self.isa):
            flipped = reinterpret(f"{self.isa.activation}x{lanes_of(stored)}", stored)
            return flipped ^ literal_like(-128 if self.isa.activation == "int8" else 128, flipped)
        return convert(stored, self.isa.activation)

    def fill_vector(self) -> Expr:
        """What dot products take for activations outside."""
        return named(self._converted(load(self.buffers["fill"], 0, self.isa.lanes * self.isa.group)))

    def interleaved(self, rows: Sequence[Expr]) -> Iterator[Expr]:
        """Vectors of activations from one vector for each tap of a group."""
        return interleave(rows, self.isa.lanes * self.isa.group, self.isa.register_bytes, _shuffle)


def _concatenated(pieces: list[Expr]) -> Expr:
    if len(pieces) == 1:
        return pieces[0]
    count = sum(lanes_of(p) for p in pieces)
    return tirx.Shuffle(pieces, [tirx.const(i, "int32") for i in range(count)])


def _shuffle(a: Expr, b: Expr, order: list[int]) -> Expr:
    return named(tirx.Shuffle([a, b], [tirx.const(i, "int32") for i in order]))
