"""Pooling over windows of two spatial axes, channels last."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import tirx
from tvm.tirx.script import builder as T

from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.kernel import Argument, Kernel, Role, load, loop, named, store
from qcompiler.backends.tvm.kernels.epilogue import BoundEpilogue, Epilogue, Lanes
from qcompiler.backends.tvm.kernels.window_geometry import window_counts
from qcompiler.backends.tvm.lanes import Expr, convert, literal

Pair = tuple[int, int]

UNROLLED = 25
"""Cells of a window that are written one after the other at most; larger ones run in loops."""

VECTORS = 4
"""Vectors of sums side by side, as many as results of 8 bits are packed from."""


@dataclass(frozen=True)
class Windows:
    """Windows over one sample, ``[H, W, C]`` to ``[OH, OW, C]``; cells outside the input do not count.

    Attributes:
        height, width, channels: of the input.
        kernel, strides, dilations: vertical, horizontal.
        pads: top, left, bottom, right.
    """

    height: int
    width: int
    channels: int
    kernel: Pair
    strides: Pair
    dilations: Pair
    pads: tuple[int, int, int, int]

    @property
    def output_size(self) -> Pair:
        """Rows and columns of the result."""
        return window_counts((self.height, self.width), self.kernel, self.strides, self.dilations, self.pads)

    def emit_rows(self, begin: Expr, end: Expr, pixel: Callable[[Window], None]) -> None:
        """For each result of the rows [begin, end)."""
        with loop(begin, end) as row:
            top, bottom = self._cells(row, 0)
            with loop(0, self.output_size[1]) as column:
                left, right = self._cells(column, 1)
                # Of the window's first cell, which may lie outside.
                y = row * self.strides[0] - self.pads[0]
                x = column * self.strides[1] - self.pads[1]
                base = named((y * self.width + x) * self.channels)
                pixel(Window(self, top, bottom, left, right, base, named(row * self.output_size[1] + column)))

    def _cells(self, index: Expr, axis: int) -> tuple[Expr, Expr]:
        """The cells along an axis that lie inside the input, those of a window: from the first to behind the last."""
        size, dilation = (self.height, self.width)[axis], self.dilations[axis]
        if not self.pads[axis] and not self.pads[axis + 2]:
            return tirx.const(0, "int32"), tirx.const(self.kernel[axis], "int32")
        before = named(self.pads[axis] - index * self.strides[axis] + dilation - 1)
        first = tirx.truncdiv(tirx.max(before, 0), dilation)
        last = tirx.min(tirx.truncdiv(tirx.max(before + size, 0), dilation), self.kernel[axis])
        return named(first), named(last)


@dataclass(frozen=True)
class Window:
    """One window, within a kernel's body.

    Attributes:
        windows: its shape.
        top, bottom, left, right: its cells that lie inside the input, from the first to behind the last.
        base: where the channels of its first cell begin, were it inside.
        place: the number of its result.
    """

    windows: Windows
    top: Expr
    bottom: Expr
    left: Expr
    right: Expr
    base: Expr
    place: Expr

    def emit_cells(self, cell: Callable[[Expr], None]) -> None:
        """For each cell inside the input, given where its channels begin."""
        kernel = self.windows.kernel
        if kernel[0] * kernel[1] > UNROLLED:
            self._emit_loops(cell)
            return
        if not any(self.windows.pads):
            self._emit_unrolled(cell)
            return
        whole = tirx.all(self.top == 0, self.bottom == kernel[0], self.left == 0, self.right == kernel[1])
        with T.If(whole):
            with T.Then():
                self._emit_unrolled(cell)
            with T.Else():
                self._emit_loops(cell)

    def _emit_unrolled(self, cell: Callable[[Expr], None]) -> None:
        for row in range(self.windows.kernel[0]):
            for column in range(self.windows.kernel[1]):
                cell(self._offset(row, column))

    def _emit_loops(self, cell: Callable[[Expr], None]) -> None:
        with loop(self.top, self.bottom) as row, loop(self.left, self.right) as column:
            cell(self._offset(row, column))

    def _offset(self, row: Expr | int, column: Expr | int) -> Expr:
        shape = self.windows
        step = row * (shape.dilations[0] * shape.width) + column * shape.dilations[1]
        return self.base + step * shape.channels


@dataclass(frozen=True)
class MaxPool(Kernel):
    """Largest number of each window; the lowest of the format for a window without cells. Arguments: ``x``, ``y``.

    Attributes:
        windows: their shape.
        stored: format of the numbers.
    """

    windows: Windows
    stored: str

    def arguments(self, isa: InstructionSet) -> tuple[Argument, ...]:
        shape = self.windows
        rows, columns = shape.output_size
        return (
            Argument("x", self.stored, shape.height * shape.width * shape.channels, Role.INPUT),
            Argument("y", self.stored, rows * columns * shape.channels, Role.OUTPUT),
        )

    def items(self, isa: InstructionSet) -> int:
        return self.windows.output_size[0]

    def work(self) -> int:
        return _work(self.windows)

    def emit(self, isa: InstructionSet, buffers: Mapping[str, Any], begin: Expr, end: Expr) -> None:
        x, y, channels = buffers["x"], buffers["y"], self.windows.channels
        lanes = 1 << (min(channels, isa.register_bytes // np.dtype(self.stored).itemsize).bit_length() - 1)
        lowest = literal(int(np.iinfo(self.stored).min), self.stored, lanes)

        def pixel(window: Window) -> None:
            with loop(0, -(-channels // lanes)) as block:
                # The last vector overlaps the one before; its results are computed twice, alike.
                first = named(tirx.min(block * lanes, channels - lanes))
                largest = T.alloc_buffer((lanes,), self.stored, scope="local")
                store(largest, 0, lowest)
                window.emit_cells(
                    lambda offset: store(
                        largest, 0, tirx.max(load(largest, 0, lanes), load(x, offset + first, lanes))
                    )
                )
                store(y, window.place * channels + first, load(largest, 0, lanes))

        self.windows.emit_rows(begin, end, pixel)


@dataclass(frozen=True)
class SumPool(Kernel):
    """Sum of each window's cells, then the epilogue: average pooling, whose division needs the count of cells.

    Arguments: ``x``, the epilogue's inputs, ``y``. Constants by channel come from ``pack_channels``.

    Attributes:
        windows: their shape.
        stored: format of the operand, an integer of at most 32 bits.
        epilogue: from sums, int32, to results. It may take inputs by pixel.
    """

    windows: Windows
    stored: str
    epilogue: Epilogue

    def pack_channels(self, constants: NDArray[Any], isa: InstructionSet) -> NDArray[Any]:
        """Constants of the epilogue, one a channel, padded."""
        return np.pad(constants, (0, isa.lanes - 1), "edge")

    def arguments(self, isa: InstructionSet) -> tuple[Argument, ...]:
        shape = self.windows
        pixels = shape.output_size[0] * shape.output_size[1]
        channels = shape.channels
        # The last vector of a pixel reads into the next one, or beyond.
        beyond = 0 if channels >= VECTORS * isa.lanes else -channels % isa.lanes
        return (
            Argument("x", self.stored, shape.height * shape.width * channels + beyond, Role.INPUT),
            *self.epilogue.arguments(isa, pixels * channels, channels + isa.lanes - 1, pixels),
            Argument("y", self.epilogue.stored, pixels * channels, Role.OUTPUT),
        )

    def items(self, isa: InstructionSet) -> int:
        return self.windows.output_size[0]

    def work(self) -> int:
        return _work(self.windows)

    def emit(self, isa: InstructionSet, buffers: Mapping[str, Any], begin: Expr, end: Expr) -> None:
        epilogue = self.epilogue.bind(isa, buffers)
        width = VECTORS * isa.lanes
        channels = self.windows.channels

        def pixel(window: Window) -> None:
            with loop(0, -(-channels // width)) as block:
                first = named(tirx.min(block * width, max(channels - width, 0)))
                self._emit_block(isa, buffers["x"], epilogue, window, first)

        self.windows.emit_rows(begin, end, pixel)

    def _emit_block(
        self, isa: InstructionSet, x: Any, epilogue: BoundEpilogue, window: Window, first: Expr
    ) -> None:
        lanes, channels = isa.lanes, self.windows.channels
        starts = range(0, min(channels, VECTORS * lanes), lanes)
        totals = [T.alloc_buffer((lanes,), "int32", scope="local") for _ in starts]
        for total in totals:
            store(total, 0, literal(0, "int32", lanes))

        def add(offset: Expr) -> None:
            for start, total in zip(starts, totals, strict=True):
                number = convert(load(x, offset + first + start, lanes), "int32")
                store(total, 0, load(total, 0, lanes) + number)

        window.emit_cells(add)
        result = named(window.place * channels + first)
        epilogue.finish([
            Lanes(
                named(load(total, 0, lanes)), first + start, result, start, min(lanes, channels - start), window.place
            )
            for start, total in zip(starts, totals, strict=True)
        ])


def _work(windows: Windows) -> int:
    rows, columns = windows.output_size
    return rows * columns * windows.channels * windows.kernel[0] * windows.kernel[1]
