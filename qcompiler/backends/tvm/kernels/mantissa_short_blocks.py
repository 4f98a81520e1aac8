"""Short blocks of real numbers, several of them in one vector."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tvm import tirx

from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.kernel import Argument, Kernel, Role, held, named, store
from qcompiler.backends.tvm.kernels.exponent_choice import (
    exponent_for,
    leading_place,
    overflows,
    raised,
    raises,
    real_leading_place,
)
from qcompiler.backends.tvm.kernels.mantissa_loop import ITEM_ELEMENTS, Run, RunPartition
from qcompiler.backends.tvm.kernels.mantissa_reading import BoundReals, StoredMantissas
from qcompiler.backends.tvm.kernels.mantissa_rounding import rounded_mantissas
from qcompiler.backends.tvm.kernels.mantissa_shift import limited
from qcompiler.backends.tvm.kernels.mantissa_source import LimitedSource, RealSource
from qcompiler.backends.tvm.lanes import Expr, convert, lanes_of
from qcompiler.numerics.block_format import BlockFormat

LONGEST = 64
"""Numbers of the longest block that a vector holds."""


@dataclass(frozen=True)
class NormalizeShortBlocks(Kernel):
    """Each block's exponent by the rules of the format, and its mantissas.

    Arguments: those of the source, ``y``, ``y_exponents``. Make one only where :func:`takes_short_blocks`.

    Attributes:
        source: what is written.
        result: the tensor that is written: one row.
        block_format: its format.
    """

    source: RealSource
    result: StoredMantissas
    block_format: BlockFormat

    @property
    def _size(self) -> int:
        return self.source.shape[-1]

    @property
    def _length(self) -> int:
        last = self.result.address[-1]
        return last.block if last.step else self._size

    @property
    def partition(self) -> RunPartition:
        return RunPartition((self._size,), self._size, min(self._size, ITEM_ELEMENTS))

    def arguments(self, isa: InstructionSet) -> tuple[Argument, ...]:
        return (
            *self.source.arguments(), Argument("y", self.result.dtype, self._size, Role.OUTPUT),
            Argument("y_exponents", "int32", self._size // self._length, Role.OUTPUT),
        )

    def items(self, isa: InstructionSet) -> int:
        return self.partition.items

    def work(self) -> int:
        return 4 * self._size

    def emit(self, isa: InstructionSet, buffers: Mapping[str, Any], begin: Expr, end: Expr) -> None:
        domain = LimitedSource(self.source).domain(self.result.bits)

        def write_run(unit: Expr, run: Run) -> None:
            source = self.source.bind_reals(buffers, run, domain)
            # Runs, and vectors of them, begin with whole blocks.
            run.for_each_vector(
                max(isa.lanes, self._length), lambda column, lanes: self._write(source, buffers, column, lanes)
            )

        self.partition.for_each_run(begin, end, write_run)

    def _write(self, source: BoundReals, buffers: Mapping[str, Any], column: Expr, lanes: int) -> None:
        block_format = self.block_format
        exponent = exponent_for(self._largest_of_block(self._leading(source, column, lanes)), block_format)
        mantissas = rounded_mantissas(source, column, lanes, exponent, block_format)
        if raises(block_format):
            overflow = self._largest_of_block(overflows(mantissas, block_format))
            exponent = raised(exponent, overflow, block_format)
            mantissas = rounded_mantissas(source, column, lanes, exponent, block_format)
        fitted = limited(mantissas, block_format.smallest, block_format.largest)
        store(buffers["y"], column, convert(fitted, self.result.dtype))
        firsts = [tirx.const(lane, "int32") for lane in range(0, lanes, self._length)]
        store(buffers["y_exponents"], named(tirx.truncdiv(column, self._length)), tirx.Shuffle([exponent], firsts))

    def _leading(self, source: BoundReals, column: Expr, lanes: int) -> Expr:
        if self.block_format.scale == "headroom":
            return leading_place(*source.at(column, lanes), self.block_format)
        return real_leading_place(held(source.real_at(column, lanes)))

    def _largest_of_block(self, numbers: Expr) -> Expr:
        """In every lane the largest number of its block."""
        distance = 1
        while distance < self._length:
            partners = [tirx.const(lane ^ distance, "int32") for lane in range(lanes_of(numbers))]
            numbers = held(tirx.max(numbers, tirx.Shuffle([numbers], partners)))
            distance *= 2
        return numbers


def takes_short_blocks(source: LimitedSource, result: StoredMantissas) -> bool:
    """Whether reals that stand side by side become short blocks, powers of two long and all whole."""
    shape, last = source.source.shape, result.address[-1]
    length = last.block if last.step else shape[-1]
    is_row = len(shape) == 1 and shape[-1] % length == 0 and isinstance(source.source, RealSource)
    return is_row and 1 < length <= LONGEST and length & (length - 1) == 0
