"""Blocks of any shape, number by number: slow, for what no other kernel takes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import tirx
from tvm.tirx.script import builder as T

from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.kernel import Argument, Kernel, Role, load, loop, named, store
from qcompiler.backends.tvm.kernels.exponent_choice import (
    NOTHING,
    exponent_for,
    leading_place,
    overflows,
    raised,
    raises,
)
from qcompiler.backends.tvm.kernels.mantissa_addressing import exponent_count
from qcompiler.backends.tvm.kernels.mantissa_loop import Run
from qcompiler.backends.tvm.kernels.mantissa_reading import StoredMantissas
from qcompiler.backends.tvm.kernels.mantissa_shift import limited, move
from qcompiler.backends.tvm.kernels.mantissa_source import LimitedSource
from qcompiler.backends.tvm.lanes import Expr, convert
from qcompiler.numerics.block_format import BlockFormat


@dataclass(frozen=True)
class NormalizeBoxes(Kernel):
    """Each block's exponent by the rules of the format, and its mantissas.

    Arguments: those of the source, ``y``, ``y_exponents``.

    Attributes:
        source: what is written.
        result: the tensor that is written, dense.
        block_format: its format.
    """

    source: LimitedSource
    result: StoredMantissas
    block_format: BlockFormat

    @property
    def _shape(self) -> tuple[int, ...]:
        return self.source.source.shape

    @property
    def _lengths(self) -> tuple[int, ...]:
        """Of a block along each axis."""
        return tuple(a.block if a.step else size for size, a in zip(self._shape, self.result.address, strict=True))

    @property
    def _counts(self) -> tuple[int, ...]:
        return tuple(-(-size // length) for size, length in zip(self._shape, self._lengths, strict=True))

    def arguments(self, isa: InstructionSet) -> tuple[Argument, ...]:
        return (
            *self.source.arguments(), Argument("y", self.result.dtype, int(np.prod(self._shape)), Role.OUTPUT),
            Argument("y_exponents", "int32", exponent_count(self._shape, self.result.address), Role.OUTPUT),
        )

    def items(self, isa: InstructionSet) -> int:
        return math.prod(self._counts)

    def work(self) -> int:
        return 100 * int(np.prod(self._shape))

    def emit(self, isa: InstructionSet, buffers: Mapping[str, Any], begin: Expr, end: Expr) -> None:
        domain, block_format = self.source.domain(self.result.bits), self.block_format
        with loop(begin, end) as block:
            starts = self._starts(block)
            found = T.alloc_buffer((1,), "int32", scope="local")

            def number(run: Run) -> tuple[Expr, Expr]:
                return self.source.bind(buffers, run, domain).at(run.start, 1)

            def look(run: Run) -> None:
                store(found, 0, tirx.max(load(found, 0), leading_place(*number(run), block_format)))

            store(found, 0, tirx.const(NOTHING, "int32"))
            self._for_each_place(starts, look)
            chosen = exponent_for(load(found, 0), block_format)

            def round_each(run: Run) -> None:
                rounded = move(*number(run), chosen, block_format.rounding, block_format.precision)
                store(found, 0, tirx.max(load(found, 0), overflows(rounded, block_format)))

            if raises(block_format):
                store(found, 0, tirx.const(0, "int32"))
                self._for_each_place(starts, round_each)
                chosen = raised(chosen, load(found, 0), block_format)

            def write(run: Run) -> None:
                moved = move(*number(run), chosen, block_format.rounding, block_format.precision)
                fitted = limited(moved, block_format.smallest, block_format.largest)
                store(buffers["y"], run.element(self.result.address) + run.start, convert(fitted, self.result.dtype))

            first = Run(tirx.const(0, "int32"), starts[:-1], starts[-1], 1)
            store(buffers["y_exponents"], named(first.block_exponent(self.result.address)), chosen)
            self._for_each_place(starts, write)

    def _starts(self, block: Expr) -> list[Expr]:
        """The first place of a block along each axis."""
        found: list[Expr] = []
        remaining = block
        for count, length in zip(reversed(self._counts), reversed(self._lengths), strict=True):
            quotient = named(tirx.truncdiv(remaining, count))
            found.append(named((remaining - quotient * count) * length))
            remaining = quotient
        return found[::-1]

    def _for_each_place(self, starts: Sequence[Expr], body: Callable[[Run], None]) -> None:
        with self._places(starts) as indices:
            body(Run(tirx.const(0, "int32"), indices[:-1], indices[-1], 1))

    @contextmanager
    def _places(self, starts: Sequence[Expr]) -> Iterator[list[Expr]]:
        with ExitStack() as stack:
            yield [
                stack.enter_context(loop(start, tirx.min(start + length, size)))
                for start, length, size in zip(starts, self._lengths, self._shape, strict=True)
            ]
