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
    choose_exponent,
    exponent_for,
    leading_place,
    overflows,
    raised,
    raises,
)
from qcompiler.backends.tvm.kernels.mantissa_addressing import exponent_count
from qcompiler.backends.tvm.kernels.mantissa_extremes import across, extremes_of
from qcompiler.backends.tvm.kernels.mantissa_loop import Run, RunPartition, has_exponent_each
from qcompiler.backends.tvm.kernels.mantissa_reading import BoundReals, StoredMantissas, taken_apart
from qcompiler.backends.tvm.kernels.mantissa_shift import in_lanes, move
from qcompiler.backends.tvm.kernels.mantissa_source import BoundSource, LimitedSource
from qcompiler.backends.tvm.kernels.mantissa_write import SharedExponent, write_mantissas
from qcompiler.backends.tvm.lanes import Expr, literal
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
            exponent = self._exponent(source, buffers, run, domain, isa)
            store(buffers["y_exponents"], named(run.block_exponent(self.result.address)), exponent)
            write_mantissas(source, SharedExponent(exponent), buffers["y"], run, self.result, self.block_format, isa)

        self.partition.for_each_run(begin, end, write_block)

    def _exponent(
        self, source: BoundSource, buffers: Mapping[str, Any], run: Run, domain: str, isa: InstructionSet
    ) -> Expr:
        if any(has_exponent_each(a) for a in self.source.source.addresses):
            return self._exponent_of_each(source, run, isa)
        ends = extremes_of(self.source, buffers, run, domain, isa)
        if isinstance(source, BoundReals):
            return choose_exponent([taken_apart(end, domain) for end in ends], self.block_format)
        shared = source.at(run.start, 1)[1]
        return choose_exponent([(end, shared) for end in ends], self.block_format)

    def _exponent_of_each(self, source: BoundSource, run: Run, isa: InstructionSet) -> Expr:
        """The block's exponent where every number has one of its own."""
        width = min(isa.lanes, 1 << (run.length.bit_length() - 1))
        found = T.alloc_buffer((width,), "int32", scope="local")
        store(found, 0, literal(NOTHING, "int32", width))

        def look(column: Expr, lanes: int) -> None:
            x, exponents = source.at(column, lanes)
            leading = leading_place(x, in_lanes(exponents, lanes), self.block_format)
            store(found, 0, tirx.max(load(found, 0, lanes), leading))

        run.for_each_vector(isa.lanes, look)
        exponent = exponent_for(across(load(found, 0, width), tirx.max), self.block_format)
        if not raises(self.block_format):
            return exponent
        store(found, 0, literal(0, "int32", width))

        def round_each(column: Expr, lanes: int) -> None:
            x, exponents = source.at(column, lanes)
            rounded = move(x, exponents, exponent, self.block_format.rounding, self.block_format.precision)
            store(found, 0, held(tirx.max(load(found, 0, lanes), overflows(rounded, self.block_format))))

        run.for_each_vector(isa.lanes, round_each)
        return raised(exponent, across(load(found, 0, width), tirx.max), self.block_format)
