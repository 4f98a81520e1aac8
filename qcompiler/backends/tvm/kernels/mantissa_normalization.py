"""Blocks along the last axis written in one pass: exponent and mantissas."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import tirx
from tvm.tirx.script import builder as T

from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.kernel import Argument, Kernel, Role, held, load, named, store
from qcompiler.backends.tvm.kernels.exponent_choice import (
    NOTHING,
    counted_magnitude,
    counted_place,
    exponent_for,
    leading_place,
    overflows,
    raised,
    raises,
)
from qcompiler.backends.tvm.kernels.mantissa_addressing import exponent_count
from qcompiler.backends.tvm.kernels.mantissa_extremes import across, extremes_in_lanes
from qcompiler.backends.tvm.kernels.mantissa_loop import Run, RunPartition, has_exponent_each
from qcompiler.backends.tvm.kernels.mantissa_reading import BoundReals, StoredMantissas, taken_apart
from qcompiler.backends.tvm.kernels.mantissa_rounding import rounded_mantissas
from qcompiler.backends.tvm.kernels.mantissa_shift import in_lanes, limited
from qcompiler.backends.tvm.kernels.mantissa_source import BoundSource, LimitedSource
from qcompiler.backends.tvm.lanes import Expr, convert, literal
from qcompiler.numerics.block_format import BlockFormat


@dataclass(frozen=True)
class NormalizeBlocks(Kernel):
    """Each block's exponent by the rules of the format, and its mantissas.

    Arguments: those of the source, ``y``, ``y_exponents``.

    Attributes:
        source: what is written. Within a block each number has the same exponent, or all have their own.
        result: the tensor that is written, dense, with blocks along the last axis only, or one block for each row.
        length: of a block along the last axis.
        block_format: its format.
    """

    source: LimitedSource
    result: StoredMantissas
    length: int
    block_format: BlockFormat

    @property
    def partition(self) -> RunPartition:
        return RunPartition(self.source.source.shape, self.length, self.length)

    def arguments(self, isa: InstructionSet) -> tuple[Argument, ...]:
        shape = self.source.source.shape
        return (
            *self.source.arguments(), Argument("y", self.result.dtype, int(np.prod(shape)), Role.OUTPUT),
            Argument("y_exponents", "int32", exponent_count(shape, self.result.address), Role.OUTPUT),
        )

    def items(self, isa: InstructionSet) -> int:
        return self.partition.items

    def work(self) -> int:
        return 8 * int(np.prod(self.source.source.shape))

    def emit(self, isa: InstructionSet, buffers: Mapping[str, Any], begin: Expr, end: Expr) -> None:
        domain = self.source.domain(self.result.bits)

        def write_block(unit: Expr, run: Run) -> None:
            source = self.source.bind(buffers, run, domain)
            exponent = exponent_for(self._leading(source, buffers, run, domain, isa), self.block_format)
            place = named(run.block_exponent(self.result.address))
            store(buffers["y_exponents"], place, exponent)
            overflow = self._write(source, buffers["y"], run, exponent, isa)
            if overflow is None:
                return
            # Rounding hardly ever overflows.
            with T.If(overflow > tirx.const(0, "int32")), T.Then():
                larger = raised(exponent, overflow, self.block_format)
                store(buffers["y_exponents"], place, larger)
                self._write(source, buffers["y"], run, larger, isa)

        self.partition.for_each_run(begin, end, write_block)

    def _leading(
        self, source: BoundSource, buffers: Mapping[str, Any], run: Run, domain: str, isa: InstructionSet
    ) -> Expr:
        """Where the leading bit of the block's largest number stands."""
        if any(has_exponent_each(a) for a in self.source.source.addresses):
            return self._leading_of_each(source, run, isa)
        ends = extremes_in_lanes(self.source, buffers, run, domain, isa)
        if not isinstance(source, BoundReals):
            largest = across(counted_magnitude(*ends, self.block_format), tirx.max)
            return counted_place(largest, source.at(run.start, 1)[1], self.block_format)
        least, most = across(ends[0], tirx.min), across(ends[1], tirx.max)
        places = [leading_place(*taken_apart(end, domain), self.block_format) for end in (least, most)]
        return held(tirx.max(*places))

    def _leading_of_each(self, source: BoundSource, run: Run, isa: InstructionSet) -> Expr:
        """The same, where every number has an exponent of its own."""
        width = min(isa.lanes, 1 << (run.length.bit_length() - 1))
        found = T.alloc_buffer((width,), "int32", scope="local")
        store(found, 0, literal(NOTHING, "int32", width))

        def look(column: Expr, lanes: int) -> None:
            x, exponents = source.at(column, lanes)
            leading = leading_place(x, in_lanes(exponents, lanes), self.block_format)
            store(found, 0, tirx.max(load(found, 0, lanes), leading))

        run.for_each_vector(isa.lanes, look)
        return across(load(found, 0, width), tirx.max)

    def _write(self, source: BoundSource, y: Any, run: Run, exponent: Expr, isa: InstructionSet) -> Expr | None:
        """Write a block's mantissas; whether some ask for a larger exponent, None where the format has none."""
        width = min(isa.lanes, 1 << (run.length.bit_length() - 1))
        found = T.alloc_buffer((width,), "int32", scope="local")
        store(found, 0, literal(0, "int32", width))
        first = named(run.element(self.result.address))

        def write(column: Expr, lanes: int) -> None:
            rounded = rounded_mantissas(source, column, lanes, exponent, self.block_format)
            if raises(self.block_format):
                store(found, 0, tirx.max(load(found, 0, lanes), overflows(rounded, self.block_format)))
            fitted = limited(rounded, self.block_format.smallest, self.block_format.largest)
            store(y, first + column, convert(fitted, self.result.dtype))

        run.for_each_vector(isa.lanes, write)
        return across(load(found, 0, width), tirx.max) if raises(self.block_format) else None
