"""The real numbers that mantissas and exponents stand for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import tirx

from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.kernel import Argument, Kernel, Role, held, named, store
from qcompiler.backends.tvm.kernels.mantissa_loop import Run, RunPartition, partition_of
from qcompiler.backends.tvm.kernels.mantissa_shift import domain_of, in_lanes
from qcompiler.backends.tvm.kernels.mantissa_source import MantissaSource
from qcompiler.backends.tvm.lanes import Expr, convert, literal_like, reinterpret, vector

_LARGEST_EXPONENT = 960
"""Beyond it every float32 is 0 or infinite already, and a float64 of 62 bits at it is neither."""


@dataclass(frozen=True)
class WriteReals(Kernel):
    """float32 numbers, rounded once, ties to even. Arguments: those of the source, ``y``.

    Attributes:
        source: what is written.
    """

    source: MantissaSource

    @property
    def partition(self) -> RunPartition:
        return partition_of(self.source.shape, self.source.addresses)

    def arguments(self, isa: InstructionSet) -> tuple[Argument, ...]:
        size = int(np.prod(self.source.shape))
        return (*self.source.arguments(), Argument("y", "float32", size, Role.OUTPUT))

    def items(self, isa: InstructionSet) -> int:
        return self.partition.items

    def work(self) -> int:
        return int(np.prod(self.source.shape))

    def emit(self, isa: InstructionSet, buffers: Mapping[str, Any], begin: Expr, end: Expr) -> None:
        def write_run(unit: Expr, run: Run) -> None:
            source = self.source.bind(buffers, run, domain_of(self.source.bits))
            first = named(run.row * self.source.shape[-1])

            def write(column: Expr, lanes: int) -> None:
                x, exponents = source.at(column, lanes)
                # Exact but for mantissas of more than 53 bits; a power of two only moves the point.
                real = convert(x, "float64") * in_lanes(power_of_two(exponents), lanes)
                store(buffers["y"], first + column, convert(held(real), "float32"))

            run.for_each_vector(isa.lanes, write)

        self.partition.for_each_run(begin, end, write_run)


def power_of_two(exponents: Expr) -> Expr:
    """``2**exponents`` as float64, for int32 exponents; those beyond the range of float32 by far are limited."""
    most = literal_like(_LARGEST_EXPONENT, exponents)
    bounded = tirx.max(tirx.min(exponents, most), literal_like(-_LARGEST_EXPONENT, exponents))
    biased = convert(bounded + literal_like(1023, exponents), "int64")
    lanes = 1 if "x" not in str(biased.ty) else int(str(biased.ty).partition("x")[2])
    return held(reinterpret(vector("float64", lanes), biased << literal_like(52, biased)))
