"""Contractions of any kind, straight from their definition: what the fast kernels do not cover."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as T

from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.kernel import Argument, Kernel, Role, load, loop, named, store
from qcompiler.backends.tvm.lanes import Expr, convert, spread

Pair = tuple[int, int]
Triple = tuple[int, int, int]


@dataclass(frozen=True)
class DirectConvolution(Kernel):
    """sum((x - zero_point) * w) + b of a convolution, or of a transposed one; padding adds nothing.

    Arguments: ``x``; ``zero_point`` of x, one number; ``weights`` ``[O, KH, KW, C / groups]`` less their zero point;
    ``bias`` ``[O]``; ``accumulator``.

    Attributes:
        input_sizes, input_strides: height, width, channels; elements between neighbours along each.
        output_sizes, output_strides: the same of the accumulator.
        kernel, strides, dilations: height and width.
        before: rows above and columns left of the image that the first window starts at.
        groups: of channels.
        transposed: whether strides spread the input out instead.
        stored, weight, accumulator: formats of the operands and of the sums.
    """

    input_sizes: Triple
    input_strides: Triple
    output_sizes: Triple
    output_strides: Triple
    kernel: Pair
    strides: Pair
    dilations: Pair
    before: Pair
    groups: int
    transposed: bool
    stored: str
    weight: str
    accumulator: str

    def arguments(self, isa: InstructionSet) -> tuple[Argument, ...]:
        outputs = self.output_sizes[2]
        terms = prod(self.kernel) * self.input_sizes[2] // self.groups
        return (
            Argument("x", self.stored, prod(self.input_sizes), Role.INPUT),
            Argument("zero_point", self.accumulator, 1, Role.CONSTANT),
            Argument("weights", self.weight, outputs * terms, Role.CONSTANT),
            Argument("bias", self.accumulator, outputs, Role.CONSTANT),
            Argument("accumulator", self.accumulator, prod(self.output_sizes), Role.OUTPUT),
        )

    def items(self, isa: InstructionSet) -> int:
        return self.output_sizes[0] * self.output_sizes[1]

    def work(self) -> int:
        return 16 * prod(self.output_sizes) * prod(self.kernel) * self.input_sizes[2] // self.groups

    def emit(self, isa: InstructionSet, buffers: Mapping[str, Any], begin: Expr, end: Expr) -> None:
        x, w = buffers["x"], buffers["weights"]
        width, outputs = self.output_sizes[1:]
        channels = self.input_sizes[2] // self.groups
        zero = named(buffers["zero_point"][0])
        total = T.alloc_buffer((1,), self.accumulator, scope="local")
        with loop(begin, end) as pixel, loop(0, outputs) as o:
            row, column = pixel // width, pixel % width
            group = o // (outputs // self.groups)
            store(total, 0, buffers["bias"][o])
            with loop(0, self.kernel[0]) as ky, loop(0, self.kernel[1]) as kx:
                y, y_counts = self._source(row, ky, 0)
                column_in, x_counts = self._source(column, kx, 1)
                with T.If(tirx.all(y_counts, x_counts)), T.Then(), loop(0, channels) as c:
                    place = (
                        y * self.input_strides[0] + column_in * self.input_strides[1]
                        + (group * channels + c) * self.input_strides[2]
                    )
                    weight = w[((o * self.kernel[0] + ky) * self.kernel[1] + kx) * channels + c]
                    centered = convert(x[place], self.accumulator) - zero
                    store(total, 0, total[0] + centered * convert(weight, self.accumulator))
            place = row * self.output_strides[0] + column * self.output_strides[1] + o * self.output_strides[2]
            store(buffers["accumulator"], place, total[0])

    def _source(self, position: Expr, tap: Expr, axis: int) -> tuple[Expr, Expr]:
        """Where along an axis a tap of the window reads, and whether there is a cell."""
        size, stride, dilation = self.input_sizes[axis], self.strides[axis], self.dilations[axis]
        if not self.transposed:
            source = named(position * stride - self.before[axis] + tap * dilation)
            return source, tirx.all(source >= 0, source < size)
        # A cell at i spreads to i * stride - before + tap * dilation.
        reach = named(position + self.before[axis] - tap * dilation)
        source = named(tirx.floordiv(reach, stride))
        return source, tirx.all(reach >= 0, tirx.floormod(reach, stride) == 0, source < size)


@dataclass(frozen=True)
class DirectMatmul(Kernel):
    """sum((x - zero_point of x) * (w - zero_point of w)) + b of two computed matrices; leading axes broadcast.

    Arguments: ``x``, ``w``; ``x_zero_point`` and ``w_zero_point``, one number each; ``bias`` ``[N]``;
    ``accumulator`` ``[..., M, N]``, dense.

    Attributes:
        leading: leading sizes of the result.
        rows, columns, terms: M, N and K.
        x_strides, w_strides: elements between neighbours along each leading axis, then along M or N, then along K.
        x_elements, w_elements: numbers in each operand.
        x_stored, w_stored, accumulator: formats.
    """

    leading: tuple[int, ...]
    rows: int
    columns: int
    terms: int
    x_strides: tuple[int, ...]
    w_strides: tuple[int, ...]
    x_elements: int
    w_elements: int
    x_stored: str
    w_stored: str
    accumulator: str

    def arguments(self, isa: InstructionSet) -> tuple[Argument, ...]:
        return (
            Argument("x", self.x_stored, self.x_elements, Role.INPUT),
            Argument("w", self.w_stored, self.w_elements, Role.INPUT),
            Argument("x_zero_point", self.accumulator, 1, Role.CONSTANT),
            Argument("w_zero_point", self.accumulator, 1, Role.CONSTANT),
            Argument("bias", self.accumulator, self.columns, Role.CONSTANT),
            Argument("accumulator", self.accumulator, prod(self.leading) * self.rows * self.columns, Role.OUTPUT),
        )

    def items(self, isa: InstructionSet) -> int:
        return prod(self.leading) * self.rows

    def work(self) -> int:
        return 8 * prod(self.leading) * self.rows * self.columns * self.terms

    def emit(self, isa: InstructionSet, buffers: Mapping[str, Any], begin: Expr, end: Expr) -> None:
        # Columns side by side in w are computed side by side; otherwise LLVM sums along the terms.
        lanes = isa.lanes if self.w_strides[-2] == 1 and self.columns >= isa.lanes else 1
        with loop(begin, end) as item:
            x_start, w_start = self._starts(item)
            with loop(0, -(-self.columns // lanes)) as block:
                # The last block overlaps the one before; its sums are computed twice, alike.
                column = named(tirx.min(block * lanes, self.columns - lanes)) if lanes > 1 else block
                self._sum(buffers, x_start, w_start + column * self.w_strides[-2], column, item * self.columns, lanes)

    def _starts(self, item: Expr) -> tuple[Expr, Expr]:
        """Where the row of x and the matrix w begin that belong to a row of the result."""
        rest = item // self.rows
        x_start: Expr = item % self.rows * self.x_strides[-2]
        w_start: Expr = tirx.const(0, "int32")
        axes = list(zip(self.leading, self.x_strides, self.w_strides, strict=False))
        for size, x_stride, w_stride in reversed(axes):
            x_start, w_start = x_start + rest % size * x_stride, w_start + rest % size * w_stride
            rest = rest // size
        return named(x_start), named(w_start)

    def _sum(
        self, buffers: Mapping[str, Any], x_start: Expr, w_start: Expr, column: Expr, row: Expr, lanes: int
    ) -> None:
        """Sums for ``lanes`` neighbouring columns of one row."""
        total = T.alloc_buffer((lanes,), self.accumulator, scope="local")
        x_zero, w_zero = buffers["x_zero_point"][0], spread(buffers["w_zero_point"][0], lanes)
        store(total, 0, load(buffers["bias"], column, lanes))
        with loop(0, self.terms) as k:
            a = convert(buffers["x"][x_start + k * self.x_strides[-1]], self.accumulator) - x_zero
            w = convert(load(buffers["w"], w_start + k * self.w_strides[-1], lanes), self.accumulator) - w_zero
            store(total, 0, load(total, 0, lanes) + spread(a, lanes) * w)
        store(buffers["accumulator"], row + column, load(total, 0, lanes))
