"""Sums of products written as mantissas, at an exponent that is known by then."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as T

from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.kernel import Argument, Kernel, Role, held, load, loop, named, store
from qcompiler.backends.tvm.kernels.mantissa_shift import LIMITS
from qcompiler.backends.tvm.kernels.whole_sums import BoundSums, SharedShift, WholeSums
from qcompiler.backends.tvm.lanes import Expr, convert, lanes_of, literal, literal_like, spread
from qcompiler.numerics.block_format import BlockFormat

Bounds = tuple[Expr, Expr]
"""The smallest and the largest number, int64, one for all lanes."""


@dataclass(frozen=True)
class WriteSums(Kernel):
    """Each sum of a sample, limited, rounded to a mantissa of the result.

    Arguments: those of the sums; with a format ``y_exponents``, int32, one number; ``y``.

    Attributes:
        sums: the sums.
        block_format: of the result, whose mantissas are integers; None where sums stay as they are.
        result: format of the mantissas in memory.
    """

    sums: WholeSums
    block_format: BlockFormat | None
    result: str

    def arguments(self, isa: InstructionSet) -> tuple[Argument, ...]:
        layout = self.sums.layout
        exponents = (Argument("y_exponents", "int32", 1, Role.INPUT),) if self.block_format is not None else ()
        return (
            *self.sums.arguments(), *exponents,
            Argument("y", self.result, layout.pixels * layout.channels, Role.OUTPUT),
        )

    def items(self, isa: InstructionSet) -> int:
        return self.sums.layout.items

    def work(self) -> int:
        return 40 * self.sums.layout.pixels * self.sums.layout.channels

    def emit(self, isa: InstructionSet, buffers: Mapping[str, Any], begin: Expr, end: Expr) -> None:
        sums, zero = self.sums.bind(buffers), tirx.const(0, "int32")
        bounds = sums.bounds()

        def write(bounds: Bounds, finish: Callable[[Expr], Expr]) -> None:
            with T.If(sums.right > zero):
                with T.Then():
                    self._write(isa, buffers, sums, begin, end, True, bounds, finish)
                with T.Else():
                    self._write(isa, buffers, sums, begin, end, False, bounds, finish)

        if self.block_format is None:
            write(bounds, lambda x: x)
            return
        places = held(load(buffers["y_exponents"], zero) - sums.exponent)
        with T.If(places >= zero):
            with T.Then():
                write(*_to_the_right(places, bounds, self.block_format))
            with T.Else():
                write(*_to_the_left(held(zero - places), bounds, self.block_format))

    def _write(
        self, isa: InstructionSet, buffers: Mapping[str, Any], sums: BoundSums, begin: Expr, end: Expr, shifts: bool,
        bounds: Bounds, finish: Callable[[Expr], Expr],
    ) -> None:
        """All sums of some items.

        Args:
            isa, buffers, begin, end: as for ``emit``.
            sums: what is written.
            shifts: as for ``BoundSums.for_each_vector``.
            bounds: what sums are limited to first.
            finish: makes mantissas of limited sums.
        """
        layout = self.sums.layout
        is_limited = self.block_format is not None or self.sums.limits is not None

        def write(place: Expr, numbers: Expr) -> None:
            limited = _clamped(numbers, bounds) if is_limited else numbers
            store(buffers["y"], place, convert(finish(limited), self.result))

        with loop(begin, end) as item:
            first = named(item * layout.pixels_per_item)
            last = named(tirx.min(first + layout.pixels_per_item, layout.pixels))
            sums.for_each_vector(first, last, isa.lanes, shifts, write)


def _to_the_right(places: Expr, bounds: Bounds, block_format: BlockFormat) -> tuple[Bounds, Callable[[Expr], Expr]]:
    """What sums are limited to that become mantissas by a shift to the right, and that shift."""
    # What is beyond a bound of the mantissas rounds to it or beyond, and the bound itself to itself: so that one limit,
    # before the shift, serves for both.
    within = tuple(_shifted(bound, places) for bound in (block_format.smallest, block_format.largest))
    low, high = (_clamped(bound, (within[0], within[1])) for bound in bounds)
    return (low, high), SharedShift(places, block_format.rounding).apply


def _to_the_left(places: Expr, bounds: Bounds, block_format: BlockFormat) -> tuple[Bounds, Callable[[Expr], Expr]]:
    """What sums are limited to that become mantissas by a shift to the left, and that shift, limited."""
    shift = held(convert(tirx.min(places, literal_like(62, places)), "int64"))
    most = held(literal(LIMITS["int64"], "int64") >> shift)
    low, high = (_clamped(bound, (held(literal_like(0, most) - most), most)) for bound in bounds)
    mantissas = literal(block_format.smallest, "int64"), literal(block_format.largest, "int64")
    return (low, high), lambda x: _clamped(held(x << spread(shift, lanes_of(x))), mantissas)


def _shifted(bound: int, places: Expr) -> Expr:
    """``bound * 2**places``, within 2**62."""
    limit = LIMITS["int64"]
    free = limit.bit_length() - 1 - bound.bit_length()
    number = literal(bound, "int64") << convert(tirx.min(places, literal_like(free, places)), "int64")
    beyond = literal(limit if bound > 0 else -limit, "int64")
    return held(tirx.Select(places > literal_like(free, places), beyond, number))


def _clamped(x: Expr, bounds: Bounds) -> Expr:
    low, high = (spread(bound, lanes_of(x)) for bound in bounds)
    return held(tirx.min(tirx.max(x, low), high))
