"""The smallest and the largest number of each piece of a tensor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import tirx
from tvm.tirx.script import builder as T

from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.kernel import Argument, Kernel, Role, held, load, store
from qcompiler.backends.tvm.kernels.mantissa_addressing import Address
from qcompiler.backends.tvm.kernels.mantissa_loop import Run, RunPartition, partition_of
from qcompiler.backends.tvm.kernels.mantissa_reading import BoundReals
from qcompiler.backends.tvm.kernels.mantissa_source import LimitedSource
from qcompiler.backends.tvm.lanes import Expr, convert, element, lanes_of, literal, part


@dataclass(frozen=True)
class PieceExtremes(Kernel):
    """The smallest and the largest of each unit of a partition; those of reals are reals.

    Arguments: those of the source, ``extremes`` ``[units, 2]`` in ``dtype``.

    Attributes:
        source: what is looked at, without limits.
        result: exponents of the result, which no piece has two of.
        domain: in which integers are computed.
    """

    source: LimitedSource
    result: Address
    domain: str

    @property
    def dtype(self) -> str:
        return "float32" if self.source.source.is_real else self.domain

    @property
    def partition(self) -> RunPartition:
        return partition_of(self.source.source.shape, (*self.source.source.addresses, self.result))

    def arguments(self, isa: InstructionSet) -> tuple[Argument, ...]:
        return (
            *self.source.arguments(), Argument("extremes", self.dtype, 2 * self.partition.units, Role.OUTPUT)
        )

    def items(self, isa: InstructionSet) -> int:
        return self.partition.items

    def work(self) -> int:
        return 2 * int(np.prod(self.source.source.shape))

    def emit(self, isa: InstructionSet, buffers: Mapping[str, Any], begin: Expr, end: Expr) -> None:
        def run_extremes(unit: Expr, run: Run) -> None:
            least, most = extremes_of(self.source, buffers, run, self.domain, isa)
            store(buffers["extremes"], unit * 2, least)
            store(buffers["extremes"], unit * 2 + 1, most)

        self.partition.for_each_run(begin, end, run_extremes)


def extremes_of(
    source: LimitedSource, buffers: Mapping[str, Any], run: Run, domain: str, isa: InstructionSet
) -> tuple[Expr, Expr]:
    """The smallest and the largest number of a run: reals of a source of reals, else integers in ``domain``."""
    least, most = extremes_in_lanes(source, buffers, run, domain, isa)
    return across(least, tirx.min), across(most, tirx.max)


def extremes_in_lanes(
    source: LimitedSource, buffers: Mapping[str, Any], run: Run, domain: str, isa: InstructionSet
) -> tuple[Expr, Expr]:
    """As :func:`extremes_of`, but of the numbers that each lane has seen."""
    bound = source.bind(buffers, run, domain)
    width = min(isa.lanes, 1 << (run.length.bit_length() - 1))
    dtype = "float32" if isinstance(bound, BoundReals) else domain
    most_of = np.finfo(np.float32).max if dtype == "float32" else np.iinfo(dtype).max
    least, most = (T.alloc_buffer((width,), dtype, scope="local") for _ in range(2))
    start = float(most_of) if dtype == "float32" else int(most_of)
    store(least, 0, literal(start, dtype, width))
    store(most, 0, literal(-start, dtype, width))

    def look(column: Expr, lanes: int) -> None:
        numbers = held(
            bound.real_at(column, lanes) if isinstance(bound, BoundReals) else bound.at(column, lanes)[0]
        )
        store(least, 0, tirx.min(load(least, 0, lanes), numbers))
        store(most, 0, tirx.max(load(most, 0, lanes), numbers))

    run.for_each_vector(isa.lanes, look)
    return held(load(least, 0, width)), held(load(most, 0, width))


def across(expr: Expr, combine: Callable[[Expr, Expr], Expr]) -> Expr:
    """All lanes of an expression, a power of two of them, combined to one number."""
    expr = held(expr)
    while lanes_of(expr) > 1:
        half = lanes_of(expr) // 2
        expr = held(combine(part(expr, 0, half), part(expr, half, half)))
    return convert(expr, element(expr))
