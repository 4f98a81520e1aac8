"""Depthwise convolution of block floating point: what both kinds of accumulators share.

Blocks lie across the channels and every tap is one product, so that exponents differ from tap to tap. Rows of the
input are expanded once, in scratch memory, to as many numbers a channel as the accumulator needs; then each vector of
channels and tile of pixels is computed in registers.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tvm import tirx

from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.kernel import Argument, Kernel, Role, align_stack, load, loop, named
from qcompiler.backends.tvm.kernels.block_expansion import Expansion
from qcompiler.backends.tvm.kernels.epilogue import store_part
from qcompiler.backends.tvm.kernels.window_geometry import window_counts, window_extent
from qcompiler.backends.tvm.lanes import Expr

_EXPANDED_BYTES = 1 << 17
"""What an item expands at a time, so that it stays in the second-level cache."""
_UNROLLED_TAPS = 25
"""Taps of a window that are written one after the other, at most."""


@dataclass(frozen=True)
class Tap:
    """A tap of the window.

    Attributes:
        source: where its numbers begin in expanded rows, for the first pixel of a tile.
        constant: where its constants begin.
    """

    source: Expr
    constant: Expr


@dataclass(frozen=True)
class ChannelTile:
    """Neighbouring pixels of a row, and a vector of their channels.

    Attributes:
        source: where the window of the first pixel begins in expanded rows.
        channel: the first channel.
        result: where the results of the first pixel begin.
    """

    source: Expr
    channel: Expr
    result: Expr


@dataclass(frozen=True)
class BlockDepthwise(Kernel):
    """Depthwise conv2d of one sample, mantissas ``[H, W, C]`` with exponents ``[H, W, ceil(C / length)]``.

    Buffers: ``x``, ``x_exponents`` (the input), those of the subclass, and ``expanded`` or the like (scratch memory).
    Results must not share memory with an input: tiles may overlap, and are then computed twice.

    Attributes:
        height, width, channels: the input.
        kernel, strides, dilations: along height and width.
        pads: top, left, bottom, right.
        length: neighbouring channels that share an exponent, at least 1.
        pixels: results side by side that stay in registers, at least 1; limited to what there is.
    """

    height: int
    width: int
    channels: int
    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    pads: tuple[int, int, int, int]
    length: int
    pixels: int

    @abstractmethod
    def expansion(self, isa: InstructionSet) -> Expansion:
        """What rows of the input are expanded to."""

    @abstractmethod
    def own_arguments(self, isa: InstructionSet) -> tuple[Argument, ...]:
        """Constants and results of this kind of accumulator."""

    @abstractmethod
    def emit_tile(self, isa: InstructionSet, buffers: Mapping[str, Any], tile: ChannelTile) -> None:
        """Compute and store a tile."""

    def arguments(self, isa: InstructionSet) -> tuple[Argument, ...]:
        expansion, pixels = self.expansion(isa), self.height * self.width
        return (
            Argument("x", "int8", pixels * self.channels + expansion.step - 1, Role.INPUT),
            Argument("x_exponents", "int32", pixels * self.pixel_exponents, Role.INPUT),
            *self.own_arguments(isa),
            *(Argument(name, dtype, expansion.elements, Role.SCRATCH) for name, dtype in expansion.buffers.items()),
        )

    def items(self, isa: InstructionSet) -> int:
        return -(-self.output_size[0] // self.rows_each)

    def work(self) -> int:
        rows, columns = self.output_size
        return rows * columns * self.channels * (4 * self.taps + 4)

    @property
    def output_size(self) -> tuple[int, int]:
        """Height and width of the output."""
        return window_counts((self.height, self.width), self.kernel, self.strides, self.dilations, self.pads)

    @property
    def taps(self) -> int:
        """Pixels of a window."""
        return self.kernel[0] * self.kernel[1]

    @property
    def pixel_exponents(self) -> int:
        """Exponents of one pixel of the input."""
        return -(-self.channels // self.length)

    @property
    def tile_pixels(self) -> int:
        """Pixels of a tile."""
        return min(self.pixels, self.output_size[1])

    @property
    def columns(self) -> int:
        """Columns of the padded input that windows reach."""
        return (self.output_size[1] - 1) * self.strides[1] + window_extent(self.kernel, self.dilations)[1]

    @property
    def rows_each(self) -> int:
        """Output rows of an item."""
        fitting = _EXPANDED_BYTES // (4 * self.columns * self.channels)
        rows = (fitting - window_extent(self.kernel, self.dilations)[0]) // self.strides[0] + 1
        return max(1, min(self.output_size[0], rows))

    @property
    def expanded_rows(self) -> int:
        """Rows of the padded input that an item expands."""
        return (self.rows_each - 1) * self.strides[0] + window_extent(self.kernel, self.dilations)[0]

    def packed_channels(self, isa: InstructionSet) -> int:
        """Numbers by channel as constants hold them."""
        return max(self.channels, isa.lanes)

    def emit(self, isa: InstructionSet, buffers: Mapping[str, Any], begin: Expr, end: Expr) -> None:
        align_stack(isa)
        height, width = self.output_size
        vectors, tiles = -(-self.channels // isa.lanes), -(-width // self.tile_pixels)
        with loop(begin, end) as item:
            first = named(item * self.rows_each)
            self.expansion(isa).emit(buffers, first * self.strides[0] - self.pads[0])
            with loop(first, tirx.min(first + self.rows_each, height)) as row, loop(0, vectors) as vector:
                # The last vector of channels is moved back to end with the pixel, and so is the last tile of a row.
                channel = named(tirx.min(vector * isa.lanes, max(self.channels - isa.lanes, 0)))
                start = named((row - first) * (self.strides[0] * self.columns))
                with loop(0, tiles) as tile:
                    column = named(tirx.min(tile * self.tile_pixels, width - self.tile_pixels))
                    self.emit_tile(isa, buffers, ChannelTile(
                        named((start + column * self.strides[1]) * self.channels + channel), channel,
                        named((row * width + column) * self.channels + channel),
                    ))

    def over_taps(self, isa: InstructionSet, tile: ChannelTile, body: Callable[[Tap], None]) -> None:
        """Write ``body`` for every tap of the window, in order."""
        packed = self.packed_channels(isa)

        def at(y: Expr | int, x: Expr | int) -> None:
            pixel = y * (self.dilations[0] * self.columns) + x * self.dilations[1]
            body(Tap(tile.source + pixel * self.channels, tile.channel + (y * self.kernel[1] + x) * packed))

        if self.taps <= _UNROLLED_TAPS:
            for y in range(self.kernel[0]):
                for x in range(self.kernel[1]):
                    at(y, x)
            return
        with loop(0, self.kernel[0]) as y, loop(0, self.kernel[1]) as x:
            at(y, x)

    def pixel_vectors(self, isa: InstructionSet, buffer: Any, tap: Tap) -> Iterator[Expr]:
        """A tap's expanded numbers, by pixel of a tile."""
        for i in range(self.tile_pixels):
            yield named(load(buffer, tap.source + i * (self.strides[1] * self.channels), isa.lanes))

    def store_tile(self, isa: InstructionSet, output: Any, tile: ChannelTile, results: list[Expr]) -> None:
        """Store a tile's results, given by pixel."""
        for i, value in enumerate(results):
            store_part(output, tile.result + i * self.channels, value, 0, min(self.channels, isa.lanes))
