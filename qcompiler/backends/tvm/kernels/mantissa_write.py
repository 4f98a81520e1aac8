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
            write_mantissas(source, target, buffers["y"], run, self.result, self.block_format, isa)

        self.partition.for_each_run(begin, end, write_run)


class SharedExponent:
    """One exponent for a whole run."""

    def __init__(self, exponent: Expr) -> None:
        self._exponent = exponent

    def at(self, column: Expr, lanes: int) -> Expr:
        return self._exponent


def write_mantissas(
    source: BoundSource, target: BoundExponents | SharedExponent | None, y: Any, run: Run, result: StoredMantissas,
    block_format: BlockFormat, isa: InstructionSet,
) -> None:
    """Write a run's mantissas at the exponents ``target``; None where they are the source's."""
    first = named(run.element(result.address))

    def write(column: Expr, lanes: int) -> None:
        if target is None:
            x, _ = source.at(column, lanes)
        else:
            rounded = rounded_mantissas(source, column, lanes, target.at(column, lanes), block_format)
            x = limited(rounded, block_format.smallest, block_format.largest)
        store(y, first + column, convert(x, result.dtype))

    run.for_each_vector(isa.lanes, write)
