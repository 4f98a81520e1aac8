"""Mantissas at exponents that are known by then."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.kernel import Argument, Kernel, Role, named, store
from qcompiler.backends.tvm.kernels.mantissa_addressing import exponent_count
from qcompiler.backends.tvm.kernels.mantissa_loop import Run, RunPartition, partition_of
from qcompiler.backends.tvm.kernels.mantissa_reading import BoundExponents, StoredMantissas
from qcompiler.backends.tvm.kernels.mantissa_rounding import rounded_mantissas
from qcompiler.backends.tvm.kernels.mantissa_shift import limited
from qcompiler.backends.tvm.kernels.mantissa_source import BoundSource, LimitedSource
from qcompiler.backends.tvm.lanes import Expr, convert
from qcompiler.numerics.block_format import BlockFormat


@dataclass(frozen=True)
class WriteMantissas(Kernel):
    """Each number as a mantissa at its block's exponent, rounded and limited as the format says.

    Arguments: those of the source, ``y_exponents``, ``y``. Where the source's exponents are the result's already, so
    that nothing moves, there is no ``y_exponents``.

    Attributes:
        source: what is written.
        result: the tensor that is written, dense.
        block_format: its format.
        moves: whether exponents differ.
    """

    source: LimitedSource
    result: StoredMantissas
    block_format: BlockFormat
    moves: bool = True

    @property
    def partition(self) -> RunPartition:
        return partition_of(self.source.source.shape, (*self.source.source.addresses, self.result.address))

    def arguments(self, isa: InstructionSet) -> tuple[Argument, ...]:
        shape = self.source.source.shape
        exponents = Argument("y_exponents", "int32", exponent_count(shape, self.result.address), Role.INPUT)
        return (
            *self.source.arguments(), *((exponents,) if self.moves else ()),
            Argument("y", self.result.dtype, int(np.prod(shape)), Role.OUTPUT),
        )

    def items(self, isa: InstructionSet) -> int:
        return self.partition.items

    def work(self) -> int:
        return 4 * int(np.prod(self.source.source.shape))

    def emit(self, isa: InstructionSet, buffers: Mapping[str, Any], begin: Expr, end: Expr) -> None:
        domain = self.source.domain(self.result.bits)

        def write_run(unit: Expr, run: Run) -> None:
            source = self.source.bind(buffers, run, domain)
            target = BoundExponents(buffers["y_exponents"], run, self.result.address) if self.moves else None
            first = named(run.element(self.result.address))

            def write(column: Expr, lanes: int) -> None:
                number = (
                    source.at(column, lanes)[0] if target is None
                    else self._mantissas(source, column, lanes, target.at(column, lanes))
                )
                store(buffers["y"], first + column, convert(number, self.result.dtype))

            run.for_each_vector(isa.lanes, write)

        self.partition.for_each_run(begin, end, write_run)

    def _mantissas(self, source: BoundSource, column: Expr, lanes: int, target: Expr) -> Expr:
        rounded = rounded_mantissas(source, column, lanes, target, self.block_format)
        return limited(rounded, self.block_format.smallest, self.block_format.largest)
