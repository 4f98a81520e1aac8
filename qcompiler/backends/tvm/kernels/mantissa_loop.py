"""Loops over an index space in runs of places that share their exponents."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tvm import tirx
from tvm.tirx.script import builder as T

from qcompiler.backends.tvm.kernel import loop, named
from qcompiler.backends.tvm.kernels.mantissa_addressing import Address
from qcompiler.backends.tvm.kernels.runs import for_each_vector
from qcompiler.backends.tvm.lanes import Expr

ITEM_ELEMENTS = 4096
"""Places that one item of work takes, about."""


@dataclass(frozen=True)
class Run:
    """Neighbouring places along the last axis.

    Attributes:
        row: number of the row: of all axes but the last.
        indices: those of the axes but the last.
        start: the first place within the row.
        length: how many, at least 1.
    """

    row: Expr
    indices: Sequence[Expr]
    start: Expr
    length: int

    def element(self, of: Address) -> Expr:
        """Which mantissa belongs to the row's first place; places add the last axis's stride each."""
        offset: Expr = tirx.const(0, "int32")
        for index, axis in zip(self.indices, of[:-1], strict=True):
            offset = offset + index * axis.stride if axis.stride else offset
        return offset

    def exponent(self, of: Address) -> Expr:
        """Which exponent belongs to the run; to its row's first place where each place has its own."""
        offset: Expr = tirx.const(0, "int32")
        for index, axis in zip(self.indices, of[:-1], strict=True):
            offset = offset + tirx.truncdiv(index, axis.block) * axis.step if axis.step else offset
        last = of[-1]
        if last.step and last.block > 1:
            offset = offset + tirx.truncdiv(self.start, last.block) * last.step
        return offset

    def block_exponent(self, of: Address) -> Expr:
        """Which exponent belongs to the run's first place."""
        return self.exponent(of) + self.start if has_exponent_each(of) else self.exponent(of)

    def for_each_vector(self, widest: int, body: Callable[[Expr, int], None]) -> None:
        """Cover the run by vectors: ``body`` takes a place within the row and how many lanes follow."""
        for_each_vector(self.length, widest, lambda offset, lanes: body(named(self.start + offset), lanes))


def has_exponent_each(of: Address) -> bool:
    """Whether neighbouring places have exponents of their own."""
    return bool(of[-1].step) and of[-1].block == 1


@dataclass(frozen=True)
class RunPartition:
    """An index space cut into units: pieces of runs.

    Attributes:
        shape: of the index space.
        run: places of a run; the last one of a row may be shorter.
        piece: places of a unit at most.
    """

    shape: tuple[int, ...]
    run: int
    piece: int

    @property
    def runs_per_row(self) -> int:
        return -(-self.shape[-1] // self.run)

    @property
    def pieces_per_run(self) -> int:
        return -(-self.run // self.piece)

    @property
    def rows(self) -> int:
        return math.prod(self.shape[:-1])

    @property
    def units(self) -> int:
        return self.rows * self.runs_per_row * self.pieces_per_run

    @property
    def units_per_item(self) -> int:
        return max(1, ITEM_ELEMENTS // min(self.run, self.piece))

    @property
    def items(self) -> int:
        return -(-self.units // self.units_per_item)

    def for_each_run(self, begin: Expr, end: Expr, body: Callable[[Expr, Run], None]) -> None:
        """Call ``body`` with the number of a unit and its places, for items [begin, end).

        A unit's last place may belong to the unit before it, too: ``body`` must not mind.
        """
        with loop(begin, end) as item:
            first = named(item * self.units_per_item)
            with loop(first, tirx.min(first + self.units_per_item, self.units)) as unit:
                self._unit(unit, body)

    def _unit(self, unit: Expr, body: Callable[[Expr, Run], None]) -> None:
        whole, piece = _divided(unit, self.pieces_per_run)
        row, run = _divided(whole, self.runs_per_row)
        indices = self.row_indices(row)
        first = run * self.run
        tail = self.shape[-1] % self.run
        if not tail or self.runs_per_row == 1:
            self._piece(unit, row, indices, first, piece, min(self.run, self.shape[-1]), body)
            return
        with T.If(run < self.runs_per_row - 1):
            with T.Then():
                self._piece(unit, row, indices, first, piece, self.run, body)
            with T.Else():
                self._piece(unit, row, indices, first, piece, tail, body)

    def _piece(
        self, unit: Expr, row: Expr, indices: list[Expr], first: Expr, piece: Expr, length: int,
        body: Callable[[Expr, Run], None],
    ) -> None:
        size = min(self.piece, length)
        # Pieces of a short run may lie on one another.
        start = first + tirx.min(piece * self.piece, length - size) if self.pieces_per_run > 1 else first
        body(unit, Run(row, indices, named(start), size))

    def row_indices(self, row: Expr) -> list[Expr]:
        """Indices of all axes but the last."""
        indices: list[Expr] = []
        remaining = row
        for size in reversed(self.shape[1:-1]):
            remaining, index = _divided(remaining, size)
            indices.append(index)
        if len(self.shape) > 1:
            indices.append(remaining)
        return indices[::-1]


def partition_of(shape: tuple[int, ...], addresses: Sequence[Address], longest: int = ITEM_ELEMENTS) -> RunPartition:
    """Runs in which every address has one exponent, or one for each place."""
    lengths = [a[-1].block for a in addresses if a[-1].step and a[-1].block > 1]
    run = min(math.gcd(*lengths), shape[-1]) if lengths else shape[-1]
    return RunPartition(shape, run, min(run, longest))


def _divided(number: Expr, by: int) -> tuple[Expr, Expr]:
    """Quotient and remainder."""
    if by == 1:
        return number, tirx.const(0, "int32")
    quotient = named(tirx.truncdiv(number, by))
    return quotient, named(number - quotient * by)
