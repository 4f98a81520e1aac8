"""The body of depthwise convolutions: results of one block of channels, row by row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from tvm import tirx
from tvm.tirx.script import builder as T

from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.kernel import load, loop, named, store
from qcompiler.backends.tvm.kernels.depthwise_activations import Activations
from qcompiler.backends.tvm.kernels.depthwise_layout import (
    VECTORS,
    Part,
    TapGroup,
    parts_of,
    rows_together,
)
from qcompiler.backends.tvm.kernels.depthwise_results import Results
from qcompiler.backends.tvm.lanes import Expr

if TYPE_CHECKING:
    from qcompiler.backends.tvm.kernels.depthwise import Depthwise

Pair = tuple[int, int]

Tap = tuple[Expr | int, Expr | int]
"""Row and column within the window."""

UNROLLED = 600
"""Dot products written one after the other at most; windows beyond it run in loops."""

TILE = 7
"""Results side by side that are written one after the other at most."""


@dataclass
class BlockRows:
    """Emits the results of one block of channels, for as many rows as a vector holds."""

    shape: Depthwise
    isa: InstructionSet
    buffers: Mapping[str, Any]
    results: Results
    part: Part
    sources: dict[int, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.groups = self.shape.tap_groups(self.isa)
        self.activations = Activations(self.shape, self.isa, self.part, self.buffers)

    def emit(self, block: Expr, group: Expr) -> None:
        """The results of a block of channels within a group of rows."""
        part, height = self.part, self.shape.output_size[0]
        self.block = block
        first = block - part.block
        self.channel = named(tirx.min(first * part.width, part.last)) if part.count > 1 else part.last
        together = rows_together(parts_of(self.shape.channels, self.isa))
        if together == part.rows:
            self._emit_rows(group * together)
            return
        with loop(0, tirx.min(together // part.rows, height - group * together)) as index:
            self._emit_rows(group * together + index * part.rows)

    def _emit_rows(self, row: Expr) -> None:
        """As many rows as a vector holds, from ``row`` on; the last ones are computed twice rather than cut."""
        height, width = self.shape.output_size
        self.row = named(tirx.min(row, max(height - self.part.rows, 0)))
        if self.shape.runs_in_loops(self.isa):
            with loop(0, width) as column:
                self._single(named(column))
            return
        self._bind_sources()
        self._tiles(width)

    def _tiles(self, width: int) -> None:
        """Cut a row of results into tiles; those at the borders are written out with their padding."""
        shape = self.shape
        longest = max(1, min(TILE, UNROLLED // (len(self.groups) * VECTORS)))
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
        columns = _Columns(self, start, place)
        users: dict[int, list[Pair]] = {}
        for result in range(tile):
            for index, group in enumerate(self.groups):
                column = result * shape.strides[1] + group.column * shape.dilations[1]
                users.setdefault(column, []).append((result, index))
        missing = dict.fromkeys(range(tile), len(self.groups))
        accumulators: dict[int, list[Expr]] = {}
        # In the order of columns: few accumulators live at a time.
        for column in sorted(users):
            by_rows: dict[int, list[Pair]] = {}
            for result, index in users[column]:
                by_rows.setdefault(self.first_row(index), []).append((result, index))
            for uses in by_rows.values():
                for result, _ in uses:
                    if result not in accumulators:
                        accumulators[result] = self._bias()
                vectors = columns.interleaved(column, [self.groups[index] for _, index in uses])
                for q, vector in enumerate(vectors):
                    for result, index in uses:
                        found = accumulators[result]
                        found[q] = named(isa.dot(found[q], vector, self._weights(index, q)))
                for result, _ in uses:
                    missing[result] -= 1
            for result in [r for r in accumulators if not missing[r]]:
                self._finish(accumulators.pop(result), start + result)

    def first_row(self, index: int) -> int:
        """The first row of a group of taps."""
        return min(tap[0] for tap in self.groups[index].taps if tap is not None)

    def _bias(self) -> list[Expr]:
        lanes, size = self.isa.lanes, self.isa.register_bytes
        return [load(self.buffers["bias"], self.block * size + q * lanes, lanes) for q in range(VECTORS)]

    def _weights(self, group: Expr | int, vector: int) -> Expr:
        step = self.isa.lanes * self.isa.group
        return load(self.buffers["weights"], ((self.block * len(self.groups) + group) * VECTORS + vector) * step, step)

    def _finish(self, accumulators: list[Expr], column: Expr) -> None:
        height, width = self.shape.output_size
        offsets = [
            (((self.row + i) * width + column) * self.shape.channels + self.channel)
            for i in range(min(self.part.rows, height))
        ]
        self.results.finish_block(accumulators, self.block * self.isa.register_bytes, offsets, self.part)

    def _single(self, column: Expr) -> None:
        """One result; every tap has its own check for padding."""
        lanes, taps = self.isa.lanes, self.shape.kernel[1]
        sums = [T.alloc_buffer((lanes,), "int32", scope="local") for _ in range(VECTORS)]
        for total, bias in zip(sums, self._bias(), strict=True):
            store(total, 0, bias)
        if self.shape.runs_in_loops(self.isa):
            with loop(0, len(self.groups) // taps) as rows, loop(0, taps) as tap:
                places = [(rows * self.isa.group + i, tap) for i in range(self.isa.group)]
                self._add_dots(sums, column, rows * taps + tap, places)
        else:
            for index, group in enumerate(self.groups):
                # The weights of a place without tap are zero: any activation serves.
                spare = next(tap for tap in group.taps if tap is not None)
                self._add_dots(sums, column, index, [tap or spare for tap in group.taps])
        self._finish([named(load(total, 0, lanes)) for total in sums], column)

    def _add_dots(self, sums: Sequence[Any], column: Expr, index: Expr | int, taps: Sequence[Tap]) -> None:
        """Add what a group of taps contributes to the result at a column."""
        lanes, step = self.isa.lanes, self.isa.lanes * self.isa.group
        vectors: list[Expr] = []
        for start in range(0, self.isa.register_bytes, step):
            rows = [
                self.activations.loaded(partial(self._checked, column, across), down, start) for down, across in taps
            ]
            vectors.extend(self.activations.interleaved(rows))
        for q, (total, vector) in enumerate(zip(sums, vectors, strict=True)):
            store(total, 0, self.isa.dot(load(total, 0, lanes), vector, self._weights(index, q)))

    def _checked(self, column: Expr, tap: Expr | int, row: Expr | int, lane: int, count: int) -> Expr:
        """Channels of one cell of a result's window; the zero point where it lies outside."""
        shape, x = self.shape, self.buffers["x"]
        place = named(column * shape.strides[1] - shape.pads[1] + tap * shape.dilations[1])
        # Rows of the last group that the window lacks meet weights of zero.
        row = named(self.row * shape.strides[0] - shape.pads[0] + tirx.min(row, self._last_row()))
        inside = _address(x[(row * shape.width + place) * shape.channels + self.channel + lane])
        if any(shape.pads):
            valid = tirx.all(row >= 0, row < shape.height, place >= 0, place < shape.width)
            inside = tirx.Select(valid, inside, _address(self.buffers["fill"][0]))
        pointer = named(tirx.reinterpret("handle", inside))
        return load(T.decl_buffer((self.isa.register_bytes,), shape.stored, data=pointer), 0, count)

    def _last_row(self) -> int:
        shape = self.shape
        rows = min(self.part.rows, shape.output_size[0])
        return (rows - 1) * shape.strides[0] + (shape.kernel[0] - 1) * shape.dilations[0]


class _Columns:
    """The columns under a tile; each number is loaded once."""

    def __init__(self, rows: BlockRows, start: Expr, place: int | None) -> None:
        self.rows = rows
        self.place = place
        shape = rows.shape
        self.base = named((start * shape.strides[1] - shape.pads[1]) * shape.channels)
        self.known: dict[tuple[int, int, int], Expr] = {}

    def interleaved(self, column: int, groups: Sequence[TapGroup]) -> Iterator[Expr]:
        """Vectors of activations for groups of the same rows that end with the same column of the tile."""
        isa, dilation = self.rows.isa, self.rows.shape.dilations[1]
        places: list[Pair | None] = [None] * isa.group
        for group in groups:
            for i, tap in enumerate(group.taps):
                if tap is not None:
                    places[i] = (tap[0], column - (group.column - tap[1]) * dilation)
        if all(p is None or self._is_outside(p[1]) for p in places):
            yield from [self.rows.activations.fill_vector()] * VECTORS
            return
        # The weights of a place without tap are zero: any activation serves.
        spare = next(p for p in reversed(places) if p is not None)
        for start in range(0, isa.register_bytes, isa.lanes * isa.group):
            yield from self.rows.activations.interleaved([self._loaded(*(p or spare), start) for p in places])

    def _is_outside(self, column: int) -> bool:
        shape = self.rows.shape
        if self.place is None:
            return False
        return not 0 <= self.place * shape.strides[1] - shape.pads[1] + column < shape.width

    def _loaded(self, row: int, column: int, start: int) -> Expr:
        if self._is_outside(column):
            return self.rows.activations.fill_vector()
        if (row, column, start) not in self.known:
            offset = self.base + column * self.rows.shape.channels

            def read(source: int, lane: int, count: int) -> Expr:
                return load(self.rows.sources[source], offset + lane, count)

            self.known[row, column, start] = self.rows.activations.loaded(read, row, start)
        return self.known[row, column, start]


def _address(place: Expr) -> Expr:
    """A number's address, as an integer, among which TVM can choose."""
    return tirx.reinterpret("int64", T.address_of(place))
