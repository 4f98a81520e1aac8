"""The body of depthwise convolutions: results of one block of channels, row by row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tvm import tirx
from tvm.tirx.script import builder as T

from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.kernel import load, loop, named, store
from qcompiler.backends.tvm.kernels.depthwise_layout import VECTORS, Part, interleave, shift_of
from qcompiler.backends.tvm.kernels.depthwise_results import Results
from qcompiler.backends.tvm.lanes import Expr, convert, lanes_of, literal_like, reinterpret

if TYPE_CHECKING:
    from qcompiler.backends.tvm.kernels.depthwise import Depthwise

Pair = tuple[int, int]

UNROLLED = 600
"""Dot products written one after the other at most; windows beyond it run in loops."""


@dataclass
class BlockRows:
    """Emits the results of one block of channels, for as many rows as a vector holds."""

    shape: Depthwise
    isa: InstructionSet
    buffers: Mapping[str, Any]
    results: Results
    part: Part
    sources: dict[int, Any] = field(default_factory=dict)

    @property
    def groups(self) -> int:
        """Groups of rows of the window."""
        return -(-self.shape.kernel[0] // self.isa.group)

    def emit(self, item: Expr) -> None:
        part, (height, width) = self.part, self.shape.output_size
        row_groups = -(-height // part.rows)
        block = named(tirx.truncdiv(item, row_groups)) if part.count > 1 else tirx.const(0, "int32")
        group = named(tirx.truncmod(item, row_groups)) if part.count > 1 else item
        # The last rows are computed twice rather than cut.
        self.row = named(tirx.min(group * part.rows, max(height - part.rows, 0)))
        self.channel = named(tirx.min(block * part.width, part.last)) if part.count > 1 else part.last
        self.block = named(block + part.block)
        if self.groups * self.shape.kernel[1] * VECTORS > UNROLLED:
            with loop(0, width) as column:
                self._single(named(column))
            return
        self._bind_sources()
        self._tiles(width)

    def _tiles(self, width: int) -> None:
        """Cut a row of results into tiles; those at the borders are written out with their padding."""
        shape = self.shape
        dots = self.groups * shape.kernel[1] * VECTORS
        longest = max(1, min(14, UNROLLED // dots))
        count = -(-width // longest)
        tile = -(-width // count)
        starts = [min(i * tile, width - tile) for i in range(count)]
        reach = (tile - 1) * shape.strides[1] + (shape.kernel[1] - 1) * shape.dilations[1]
        inner = [
            i for i, start in enumerate(starts)
            if shape.pads[1] <= start * shape.strides[1] < shape.width + shape.pads[1] - reach
        ]
        first, last = (inner[0], inner[-1] + 1) if inner else (count, count)
        if first + count - last > 3 and count > 1:
            # Padding wider than tiles.
            with loop(0, starts[first] if inner else width) as column:
                self._single(named(column))
            if not inner:
                return
            self._inner_tiles(first, last, tile, width)
            with loop(starts[last - 1] + tile, width) as column:
                self._single(named(column))
            return
        for i in range(first):
            self._tile(tirx.const(starts[i], "int32"), tile, starts[i])
        if inner:
            self._inner_tiles(first, last, tile, width)
        for i in range(last, count):
            self._tile(tirx.const(starts[i], "int32"), tile, starts[i])

    def _inner_tiles(self, first: int, last: int, tile: int, width: int) -> None:
        if last - first == 1:
            start = min(first * tile, width - tile)
            self._tile(tirx.const(start, "int32"), tile, None)
            return
        with loop(first, last) as index:
            self._tile(named(tirx.min(index * tile, width - tile)), tile, None)

    def _bind_sources(self) -> None:
        """Where each row of the window begins: in the input, or outside, where all numbers are the zero point."""
        shape = self.shape
        height = shape.output_size[0]
        for lane_row in range(self.part.rows):
            # Where the result has fewer rows than a vector holds, the last one stands in for the others.
            result_row = min(lane_row, height - 1)
            for tap in range(shape.kernel[0]):
                row = result_row * shape.strides[0] + tap * shape.dilations[0]
                if row not in self.sources:
                    self.sources[row] = self._source(self.row * shape.strides[0] + (row - shape.pads[0]))

    def _source(self, row: Expr) -> Any:
        """A buffer that begins at the block's channels of a row's first pixel."""
        shape = self.shape
        x = self.buffers["x"]
        offset = row * (shape.width * shape.channels) + self.channel
        inside = _address(x[offset])
        if shape.pads[0] or shape.pads[2]:
            outside = _address(self.buffers["fill"][0])
            row = named(row)
            inside = tirx.Select(tirx.all(row >= 0, row < shape.height), inside, outside)
        pointer = named(tirx.reinterpret("handle", inside))
        return T.decl_buffer((x.shape[0],), shape.stored, data=pointer)

    def _tile(self, start: Expr, tile: int, place: int | None) -> None:
        """Results side by side in a row.

        Args:
            start: the first one.
            tile: how many.
            place: the first one if it is known and the window may reach outside; None if all columns are inside.
        """
        shape, isa = self.shape, self.isa
        stride, dilation, taps = shape.strides[1], shape.dilations[1], shape.kernel[1]
        base = named((start * stride - shape.pads[1]) * shape.channels)
        users: dict[int, list[Pair]] = {}
        for result in range(tile):
            for tap in range(taps):
                users.setdefault(result * stride + tap * dilation, []).append((result, tap))
        accumulators: dict[int, list[Expr]] = {}
        for column in sorted(users):
            outside = place is not None and not 0 <= place * stride - shape.pads[1] + column < shape.width
            for group in range(self.groups):
                if outside:
                    vectors = self._fill_vectors()
                else:
                    vectors = self._vectors(self._reader(base + column * shape.channels), group)
                for result, tap in users[column]:
                    if result not in accumulators:
                        accumulators[result] = self._bias()
                    accumulators[result] = [
                        named(isa.dot(a, v, self._weights(group, tap, q)))
                        for q, (a, v) in enumerate(zip(accumulators[result], vectors, strict=True))
                    ]
            for result, tap in users[column]:
                if tap == taps - 1:
                    self._finish(accumulators.pop(result), start + result)

    def _reader(self, offset: Expr) -> Callable[[int, Expr, int], Expr]:
        """Reads channels of the pixels that stand at one offset in all rows."""
        return lambda row, lane, count: load(self.sources[row], offset + lane, count)

    def _vectors(self, read: Callable[[int, Expr, int], Expr], group: Expr | int) -> list[Expr]:
        """One column of a group of rows, interleaved, in the format of dot products.

        Args:
            read: reads some channels of a row: the row within the window (of the first result row), the first
                channel, how many.
            group: which rows.
        """
        shape, isa, width = self.shape, self.isa, self.part.width
        height = shape.output_size[0]
        step = isa.lanes * isa.group
        found: list[Expr] = []
        for start in range(0, isa.register_bytes, step):
            rows: list[Expr] = []
            for tap in range(isa.group):
                place = group * isa.group + tap
                if isinstance(place, int) and place >= shape.kernel[0]:
                    # Its weights are zero.
                    rows.append(rows[-1])
                    continue
                pieces = []
                for lane in range(start, start + step, min(width, step)):
                    result_row = min(lane // width, height - 1)
                    row = result_row * shape.strides[0] + place * shape.dilations[0]
                    pieces.append(self._converted(read(row, lane % width, min(width, step))))
                rows.append(named(_concatenated(pieces)))
            found += interleave(rows, step, isa.register_bytes, _shuffle)
        return found

    def _converted(self, stored: Expr) -> Expr:
        """Stored activations as dot products take them."""
        if shift_of(self.shape.stored, self.isa):
            flipped = _converted_bits(stored, self.isa.activation)
            return flipped ^ literal_like(-128 if self.isa.activation == "int8" else 128, flipped)
        return convert(stored, self.isa.activation)

    def _fill_vectors(self) -> list[Expr]:
        step = self.isa.lanes * self.isa.group
        vector = named(self._converted(load(self.buffers["fill"], 0, step)))
        return [vector] * VECTORS

    def _bias(self) -> list[Expr]:
        lanes, size = self.isa.lanes, self.isa.register_bytes
        return [load(self.buffers["bias"], self.block * size + q * lanes, lanes) for q in range(VECTORS)]

    def _weights(self, group: Expr | int, tap: Expr | int, vector: int) -> Expr:
        step = self.isa.lanes * self.isa.group
        taps = self.shape.kernel[1]
        index = ((self.block * self.groups + group) * taps + tap) * VECTORS + vector
        return load(self.buffers["weights"], index * step, step)

    def _finish(self, accumulators: list[Expr], column: Expr) -> None:
        height, width = self.shape.output_size
        offsets = [
            (((self.row + i) * width + column) * self.shape.channels + self.channel)
            for i in range(min(self.part.rows, height))
        ]
        self.results.finish_block(accumulators, self.block * self.isa.register_bytes, offsets, self.part)

    def _single(self, column: Expr) -> None:
        """One result, its window in loops, every tap with its own check for padding."""
        shape, isa = self.shape, self.isa
        x, bound = self.buffers["x"], self.isa.lanes
        sums = [T.alloc_buffer((bound,), "int32", scope="local") for _ in range(VECTORS)]
        for total, bias in zip(sums, self._bias(), strict=True):
            store(total, 0, bias)
        with loop(0, self.groups) as group, loop(0, shape.kernel[1]) as tap:
            place = named(column * shape.strides[1] - shape.pads[1] + tap * shape.dilations[1])

            def read(row: Expr, lane: int, count: int) -> Expr:
                # Rows of the last group that the window lacks meet weights of zero.
                reach = self._last_row()
                row = named(self.row * shape.strides[0] - shape.pads[0] + tirx.min(row, reach))
                inside = _address(x[(row * shape.width + place) * shape.channels + self.channel + lane])
                if any(shape.pads):
                    valid = tirx.all(row >= 0, row < shape.height, place >= 0, place < shape.width)
                    inside = tirx.Select(valid, inside, _address(self.buffers["fill"][0]))
                pointer = named(tirx.reinterpret("handle", inside))
                return load(T.decl_buffer((isa.register_bytes,), shape.stored, data=pointer), 0, count)

            vectors = self._vectors(read, group)
            for q, (total, vector) in enumerate(zip(sums, vectors, strict=True)):
                store(total, 0, isa.dot(load(total, 0, bound), vector, self._weights(group, tap, q)))
        self._finish([named(load(total, 0, bound)) for total in sums], column)

    def _last_row(self) -> int:
        shape = self.shape
        rows = min(self.part.rows, shape.output_size[0])
        return (rows - 1) * shape.strides[0] + (shape.kernel[0] - 1) * shape.dilations[0]


def _address(place: Expr) -> Expr:
    """A number's address, as an integer, among which TVM can choose."""
    return tirx.reinterpret("int64", T.address_of(place))


def _concatenated(pieces: list[Expr]) -> Expr:
    if len(pieces) == 1:
        return pieces[0]
    count = sum(lanes_of(p) for p in pieces)
    return tirx.Shuffle(pieces, [tirx.const(i, "int32") for i in range(count)])


def _shuffle(a: Expr, b: Expr, order: list[int]) -> Expr:
    return named(tirx.Shuffle([a, b], [tirx.const(i, "int32") for i in order]))


def _converted_bits(expr: Expr, dtype: str) -> Expr:
    """The same bytes as another 8-bit format."""
    return reinterpret(f"{dtype}x{lanes_of(expr)}" if lanes_of(expr) > 1 else dtype, expr)
