"""How depthwise convolutions lay channels and taps out in vectors.

A vector of bytes holds ``register_bytes`` of them: so many channels of one row, or fewer channels of several rows. Rows
of the window are interleaved number by number, so that each 32-bit lane of a dot product holds ``group`` vertical
neighbours of one channel. The interleaving works within 16 bytes, as processors do it; that permutes the channels, and
packing the results to bytes within 16 bytes undoes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from qcompiler.backends.tvm.instruction_set import InstructionSet

VECTORS = 4
"""Vectors of accumulators for one vector of bytes."""

_Vector = TypeVar("_Vector")
Shuffle = Callable[[_Vector, _Vector, list[int]], _Vector]
"""Picks numbers out of two vectors by their place in both, one after the other."""


@dataclass(frozen=True)
class Part:
    """Blocks of channels that are computed alike.

    Attributes:
        block: number of the first block.
        count: how many blocks.
        width: channels of one row in a vector of bytes.
        rows: output rows side by side in a vector of bytes.
        last: first channel of the last block. The one before it may overlap it; others lie ``width`` apart, from
            channel 0 on.
        used: channels of a block that exist.
    """

    block: int
    count: int
    width: int
    rows: int
    last: int
    used: int

    @property
    def starts(self) -> list[int]:
        """The first channel of each block."""
        return [min(i * self.width, self.last) for i in range(self.count - 1)] + [self.last]


def parts_of(channels: int, isa: InstructionSet) -> tuple[Part, ...]:
    """Full vectors, then a tail with fewer channels of more rows where that wastes less."""
    width = isa.register_bytes
    full, rest = divmod(channels, width)
    if rest > width // 2 or (rest and width == 16):
        if full:
            return (Part(0, full + 1, width, 1, channels - width, width),)
        return (Part(0, 1, width, 1, 0, rest),)
    parts = [Part(0, full, width, 1, (full - 1) * width, width)] if full else []
    if rest:
        narrow = 16
        while narrow < rest:
            narrow *= 2
        parts.append(Part(full, 1, narrow, width // narrow, max(channels - narrow, 0), min(narrow, channels)))
    return tuple(parts)


def rows_together(parts: Sequence[Part]) -> int:
    """Output rows of one item of work."""
    return max(part.rows for part in parts)


def interleave(
    vectors: Sequence[_Vector], numbers: int, register_bytes: int, shuffle: Shuffle[_Vector]
) -> Iterator[_Vector]:
    """As many vectors as were given; together they hold the first numbers of all, then the second ones, and so on.

    In that order within each 16 bytes only. Each is computed when it is asked for, so that few live at a time.

    Args:
        vectors: one, two or four.
        numbers: in each vector.
        register_bytes: width of each vector.
        shuffle: how to pick numbers out of two vectors.
    """
    in_part = 16 * numbers // register_bytes
    if len(vectors) == 1:
        yield vectors[0]
        return
    low_high = [_unpacking(numbers, in_part, 1, half) for half in (0, 1)]
    if len(vectors) == 2:
        for order in low_high:
            yield shuffle(vectors[0], vectors[1], order)
        return
    pairs = [[shuffle(vectors[i], vectors[i + 1], order) for order in low_high] for i in (0, 2)]
    for first, second in zip(*pairs, strict=True):
        for half in (0, 1):
            yield shuffle(first, second, _unpacking(numbers, in_part, 2, half))


def _unpacking(numbers: int, in_part: int, unit: int, half: int) -> list[int]:
    """Order that alternates ``unit`` numbers of either vector, from one half of each of their 16-byte parts."""
    order = []
    for start in range(0, numbers, in_part):
        for place in range(0, in_part // 2, unit):
            first = start + half * in_part // 2 + place
            order += [*range(first, first + unit), *range(numbers + first, numbers + first + unit)]
    return order


def dot_order(isa: InstructionSet) -> NDArray[np.int64]:
    """For each lane of the accumulators of a block: its place in the vector of bytes."""
    width = isa.lanes * isa.group

    def pick(a: NDArray[np.int64], b: NDArray[np.int64], order: list[int]) -> NDArray[np.int64]:
        return np.concatenate([a, b])[order]

    found: list[NDArray[np.int64]] = []
    for start in range(0, isa.register_bytes, width):
        places = np.arange(start, start + width)
        vectors = interleave([places] * isa.group, width, isa.register_bytes, pick)
        found += [vector[:: isa.group] for vector in vectors]
    return np.concatenate(found)


def block_channels(channels: int, isa: InstructionSet, order: NDArray[Any]) -> NDArray[Any]:
    """The channel of every packed constant, blocks one after the other; a channel that exists also where none is used.

    Args:
        channels: how many there are.
        isa: the instruction set.
        order: places in the vector of bytes.
    """
    found = [
        np.minimum(start + order % part.width, channels - 1)
        for part in parts_of(channels, isa) for start in part.starts
    ]
    return np.concatenate(found)


@dataclass(frozen=True)
class TapGroup:
    """Taps of the window that one dot product takes.

    Attributes:
        taps: row and column of each; None where there is none, whose weight is zero.
        column: of the last ones. Groups of equal rows and columns before it share their activations.
    """

    taps: tuple[tuple[int, int] | None, ...]
    column: int


def tap_groups(kernel: tuple[int, int], group: int, only_vertical: bool) -> tuple[TapGroup, ...]:
    """The window cut into groups: rows below one another as far as they go, then columns of the rows that remain.

    Args:
        kernel: rows, columns.
        group: taps that a dot product takes.
        only_vertical: whether every group is of one column.
    """
    height, width = kernel
    full, rest = divmod(height, group)
    columns = group // rest if rest and not only_vertical else 1
    rows = full if rest == 0 or columns > 1 else full + 1
    groups = [
        TapGroup(tuple((y, x) if y < height else None for y in range(row * group, (row + 1) * group)), x)
        for row in range(rows) for x in range(width)
    ]
    if columns > 1:
        # Counted from the last column: then no group reaches to the right of the window.
        for last in range(width - 1, -1, -columns):
            taps = [
                (y, x) if x >= 0 else None
                for x in range(last - columns + 1, last + 1) for y in range(full * group, height)
            ]
            groups.append(TapGroup(tuple(taps) + (None,) * (group - len(taps)), last))
    return tuple(groups)


def pack_weights(weights: NDArray[np.int8], groups: Sequence[TapGroup], isa: InstructionSet) -> NDArray[Any]:
    """Weights as dot products take them: ``[blocks, groups of taps, vectors, lanes, group]``, flat.

    Args:
        weights: ``[C, KH, KW]``.
        groups: groups of taps.
        isa: the instruction set.
    """
    channels = len(weights)
    chosen = np.zeros((channels, len(groups), isa.group), isa.weight)
    for index, group in enumerate(groups):
        for place, tap in enumerate(group.taps):
            if tap is not None:
                chosen[:, index, place] = weights[:, tap[0], tap[1]]
    taps = chosen[block_channels(channels, isa, dot_order(isa))]
    split = taps.reshape(-1, VECTORS, isa.lanes, len(groups), isa.group)
    return np.ascontiguousarray(split.transpose(0, 3, 1, 2, 4)).reshape(-1)


def pack_bias(
    bias: NDArray[np.int32], weights: NDArray[np.int8], zero_point: int, stored: str, isa: InstructionSet
) -> NDArray[np.int32]:
    """What accumulators start from: the bias less what the zero point contributes.

    Args:
        bias: ``[C]``.
        weights: ``[C, KH, KW]``.
        zero_point: of the activations.
        stored: format of the activations.
        isa: the instruction set.
    """
    origin = zero_point + shift_of(stored, isa)
    sums = weights.astype(np.int64).sum((1, 2))
    started = bias.astype(np.int64) - origin * sums
    packed = started[block_channels(len(bias), isa, dot_order(isa))]
    # Sums wrap around as the bias does, so that they are right wherever the final one fits.
    return np.asarray(packed.astype(np.int32))


def shift_of(stored: str, isa: InstructionSet) -> int:
    """What the kernel adds to stored activations to get those that dot products take."""
    if isa.activation == "int16" or stored == isa.activation:
        return 0
    return 128 if isa.activation == "uint8" else -128
