"""Convolutions of block floating point straight from their definition."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import tirx
from tvm.tirx.script import builder as T

from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.kernel import Argument, Kernel, Role, held, load, loop, named, store
from qcompiler.backends.tvm.kernels.block_direct_sums import DotSums, PairBody
from qcompiler.backends.tvm.kernels.block_panel import PADDING_EXPONENT
from qcompiler.backends.tvm.lanes import Expr, convert, element, literal, spread

Array = NDArray[Any]
Pair = tuple[int, int]


@dataclass(frozen=True)
class DirectBlockConvolution(Kernel):
    """A convolution of one sample, or a transposed one, one vector of output channels after the other.

    Arguments: ``x`` ``[H, W, C]``; ``x_exponents``, int32 ``[H, W, groups * tap_blocks]``; what :meth:`pack` makes;
    constants and results of ``sums``, results ``[OH, OW, O]``.

    Attributes:
        input_size, output_size: height and width.
        channels, outputs: of input and output.
        kernel, strides, dilations: height and width.
        before: rows above and columns left of the image that the first window starts at.
        groups: divides channels and outputs.
        transposed: whether strides spread the input out instead. Taps are in the order of the convolution that it
            equals: weights are turned round.
        length: terms of a block.
        stored: format of the mantissas of x.
        weight: format of the packed weights, ``float32`` or ``float64``.
        sums: what becomes of the dots of pairs of blocks.
    """

    input_size: Pair
    output_size: Pair
    channels: int
    outputs: int
    kernel: Pair
    strides: Pair
    dilations: Pair
    before: Pair
    groups: int
    transposed: bool
    length: int
    stored: str
    weight: str
    sums: DotSums

    @property
    def taps(self) -> int:
        """Pixels of a window."""
        return self.kernel[0] * self.kernel[1]

    @property
    def group_channels(self) -> int:
        """Input channels of a group."""
        return self.channels // self.groups

    @property
    def group_outputs(self) -> int:
        """Output channels of a group."""
        return self.outputs // self.groups

    @property
    def tap_blocks(self) -> int:
        """Blocks of terms at one tap."""
        return -(-self.group_channels // self.length)

    def packed_outputs(self, isa: InstructionSet) -> int:
        """Output channels of a group as constants hold them: in whole vectors."""
        return -(-self.group_outputs // isa.lanes) * isa.lanes

    def arguments(self, isa: InstructionSet) -> tuple[Argument, ...]:
        pixels, packed = self.input_size[0] * self.input_size[1], self.groups * self.packed_outputs(isa)
        results = self.output_size[0] * self.output_size[1] * self.outputs
        return (
            Argument("x", self.stored, pixels * self.channels, Role.INPUT),
            Argument("x_exponents", "int32", pixels * self.groups * self.tap_blocks, Role.INPUT),
            Argument("weights", self.weight, packed * self.taps * self.group_channels, Role.CONSTANT),
            Argument("weight_exponents", "int32", packed * self.taps * self.tap_blocks, Role.CONSTANT),
            *self.sums.constants(packed), *self.sums.results(results),
        )

    def items(self, isa: InstructionSet) -> int:
        return self.output_size[0] * self.output_size[1]

    def work(self) -> int:
        pixels = self.output_size[0] * self.output_size[1]
        return 2 * pixels * self.outputs * self.taps * (self.group_channels + 8 * self.tap_blocks)

    def pack(self, isa: InstructionSet, weights: Array, exponents: Array) -> dict[str, Array]:
        """Constants by name: ``weights`` and ``weight_exponents`` as ``[group, tap, channel or block, output]``.

        Args:
            isa: the instruction set.
            weights: mantissas ``[O, KH, KW, C / groups]``.
            exponents: ``[O, KH, KW, tap_blocks]``.
        """
        return {
            "weights": self._by_output(isa, weights.astype(self.weight)),
            "weight_exponents": self._by_output(isa, exponents.astype(np.int32)),
        }

    def pack_outputs(self, isa: InstructionSet, numbers: Array) -> Array:
        """Numbers ``[O]`` by output channel, each group in whole vectors."""
        missing = self.packed_outputs(isa) - self.group_outputs
        return np.pad(numbers.reshape(self.groups, -1), ((0, 0), (0, missing))).reshape(-1)

    def _by_output(self, isa: InstructionSet, numbers: Array) -> Array:
        if self.transposed:
            numbers = numbers[:, ::-1, ::-1]
        grouped = numbers.reshape(self.groups, self.group_outputs, -1).swapaxes(1, 2)
        missing = self.packed_outputs(isa) - self.group_outputs
        return np.ascontiguousarray(np.pad(grouped, ((0, 0), (0, 0), (0, missing)))).reshape(-1)

    def emit(self, isa: InstructionSet, buffers: Mapping[str, Any], begin: Expr, end: Expr) -> None:
        vectors = self.packed_outputs(isa) // isa.lanes
        with loop(begin, end) as pixel:
            row, column = named(pixel // self.output_size[1]), named(pixel % self.output_size[1])
            with loop(0, self.groups) as group, loop(0, vectors) as vector:
                window = _Window(self, isa, buffers, row, column, group, named(vector * isa.lanes))
                bias = named(group * self.packed_outputs(isa) + vector * isa.lanes)
                results = self.sums.emit(buffers, window.over_pairs, isa.lanes, bias)
                first = named(pixel * self.outputs + group * self.group_outputs + vector * isa.lanes)
                count = named(tirx.min(isa.lanes, self.group_outputs - vector * isa.lanes))
                for name, value in results.items():
                    _store_some(buffers[name], first, value, count, isa.lanes)

    def source(self, position: Expr, tap: Expr, axis: int) -> tuple[Expr, Expr]:
        """Where along an axis a tap of the window reads, and whether there is a cell."""
        size, stride, dilation = self.input_size[axis], self.strides[axis], self.dilations[axis]
        if not self.transposed:
            place = named(position * stride - self.before[axis] + tap * dilation)
            return place, tirx.all(place >= 0, place < size)
        # A cell at i spreads to i * stride - before + t * dilation, t the tap before it was turned round.
        reach = named(position + self.before[axis] - (self.kernel[axis] - 1 - tap) * dilation)
        place = named(tirx.floordiv(reach, stride))
        return place, tirx.all(reach >= 0, tirx.floormod(reach, stride) == 0, place < size)


@dataclass
class _Window:
    """The terms of some neighbouring output channels at a pixel."""

    shape: DirectBlockConvolution
    isa: InstructionSet
    buffers: Mapping[str, Any]
    row: Expr
    column: Expr
    group: Expr
    output: Expr
    """The first channel, within the group."""

    def over_pairs(self, body: PairBody) -> None:
        """Write ``body`` for every pair of blocks: row and column of the kernel, then block of channels."""
        shape, lanes = self.shape, self.isa.lanes
        packed = shape.packed_outputs(self.isa)
        with loop(0, shape.kernel[0]) as ky, loop(0, shape.kernel[1]) as kx:
            y, y_counts = shape.source(self.row, ky, 0)
            x, x_counts = shape.source(self.column, kx, 1)
            counts = named(tirx.Select(tirx.all(y_counts, x_counts), tirx.const(1, "int32"), tirx.const(0, "int32")))
            # Taps outside of the operand read its first pixel, and take nothing of it.
            pixel = named((y * shape.input_size[1] + x) * counts)
            tap = named((self.group * shape.kernel[0] + ky) * shape.kernel[1] + kx)
            with loop(0, shape.tap_blocks) as block:
                of_x = named(pixel * (shape.groups * shape.tap_blocks) + self.group * shape.tap_blocks + block)
                of_w = named((tap * shape.tap_blocks + block) * packed + self.output)
                known = held(load(self.buffers["weight_exponents"], of_w, lanes))
                own = spread(held(load(self.buffers["x_exponents"], of_x)), lanes)
                exponent = held(tirx.Select(
                    spread(counts, lanes) > literal(0, "int32", lanes), own + known,
                    literal(PADDING_EXPONENT, "int32", lanes),
                ))
                number = named((ky * shape.kernel[1] + kx) * shape.tap_blocks + block)
                body(number, exponent, self._dot(pixel, tap, block, counts))

    def _dot(self, pixel: Expr, tap: Expr, block: Expr, counts: Expr) -> Callable[[], Expr]:
        shape, lanes = self.shape, self.isa.lanes
        packed = shape.packed_outputs(self.isa)

        def write() -> Expr:
            total = T.alloc_buffer((lanes,), "float64", scope="local")
            store(total, 0, literal(0.0, "float64", lanes))
            first = named(block * shape.length)
            last = named(tirx.min(first + shape.length, shape.group_channels) * counts)
            with loop(first, tirx.max(first, last)) as channel:
                x = load(self.buffers["x"], named(pixel * shape.channels + self.group * shape.group_channels + channel))
                place = named((tap * shape.group_channels + channel) * packed + self.output)
                w = convert(load(self.buffers["weights"], place, lanes), "float64")
                product = spread(held(convert(x, "float64")), lanes) * w
                store(total, 0, load(total, 0, lanes) + product)
            return held(load(total, 0, lanes))

        return write


def _store_some(buffer: Any, offset: Expr, value: Expr, count: Expr, lanes: int) -> None:
    """Store the first ``count`` lanes."""
    kept = T.alloc_buffer((lanes,), element(value), scope="local")
    store(kept, 0, value)
    with T.If(count == lanes):
        with T.Then():
            store(buffer, offset, load(kept, 0, lanes))
        with T.Else(), loop(0, count) as lane:
            store(buffer, offset + lane, load(kept, lane))
