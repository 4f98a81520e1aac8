"""Softmax of block floating point: see :class:`qcompiler.numerics.block_table.BlockSoftmax`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as T

from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.kernel import Argument, Kernel, Role, held, load, loop, named, store
from qcompiler.backends.tvm.kernels.mantissa_loop import Run
from qcompiler.backends.tvm.kernels.mantissa_reading import StoredMantissas, tensor_arguments
from qcompiler.backends.tvm.kernels.mantissa_shift import shift_right
from qcompiler.backends.tvm.kernels.mantissa_table import interpolated
from qcompiler.backends.tvm.lanes import Expr, convert, literal
from qcompiler.numerics.block_table import EXPONENTIAL_ENTRIES, EXPONENTIAL_PLACES

_ARGUMENT_EXPONENT = -11
_LEAST_ARGUMENT = -16 << 11
_STEP_BITS = 5
_LONGEST_SHIFT = 16
"""What a left shift brings below the least argument is limited to it, so no longer one is needed."""


@dataclass(frozen=True)
class BlockSoftmaxRows(Kernel):
    """Probabilities of the rows along the last axis, in steps of 2**-30.

    Arguments: ``x``, ``x_exponents``, ``table``, the exponentials, ``y``; scratch memory for the terms of a row.

    Attributes:
        shape: of the operand.
        x: the operand.
        result: format of the results.
        rounding: of arguments: a name in ``SHIFT_ROUNDINGS``.
    """

    shape: tuple[int, ...]
    x: StoredMantissas
    result: str
    rounding: str

    def arguments(self, isa: InstructionSet) -> tuple[Argument, ...]:
        return (
            *tensor_arguments("x", self.shape, self.x),
            Argument("table", "int32", EXPONENTIAL_ENTRIES, Role.CONSTANT),
            Argument("y", self.result, math.prod(self.shape), Role.OUTPUT),
            Argument("terms", "int64", self.shape[-1], Role.SCRATCH),
        )

    def items(self, isa: InstructionSet) -> int:
        return math.prod(self.shape[:-1])

    def work(self) -> int:
        return 60 * math.prod(self.shape)

    def emit(self, isa: InstructionSet, buffers: Mapping[str, Any], begin: Expr, end: Expr) -> None:
        size = self.shape[-1]
        with loop(begin, end) as row:
            indices = self._indices(row)
            places = T.alloc_buffer((1,), "int32", scope="local")
            largest, total = (T.alloc_buffer((1,), "int64", scope="local") for _ in range(2))
            store(places, 0, tirx.const(-(1 << 24), "int32"))
            with loop(0, size) as column:
                store(places, 0, tirx.max(load(places, 0), self._exponent(buffers, indices, column)))
            exponent = load(places, 0)
            # Below every mantissa.
            store(largest, 0, tirx.const(-(1 << 62), "int64"))
            with loop(0, size) as column:
                store(largest, 0, tirx.max(load(largest, 0), self._met(buffers, indices, column, exponent)))
            store(total, 0, tirx.const(0, "int64"))
            with loop(0, size) as column:
                below = held(self._met(buffers, indices, column, exponent) - load(largest, 0))
                term = self._exponential(buffers, below, exponent)
                store(buffers["terms"], column, term)
                store(total, 0, load(total, 0) + term)
            first = named(row * size)
            with loop(0, size) as column:
                scaled = held(load(buffers["terms"], column) << literal(EXPONENTIAL_PLACES, "int64"))
                store(buffers["y"], first + column, convert(tirx.truncdiv(scaled, load(total, 0)), self.result))

    def _indices(self, row: Expr) -> list[Expr]:
        found: list[Expr] = []
        remaining = row
        for size in reversed(self.shape[:-1]):
            quotient = named(tirx.truncdiv(remaining, size))
            found.append(named(remaining - quotient * size))
            remaining = quotient
        return found[::-1]

    def _exponent(self, buffers: Mapping[str, Any], indices: list[Expr], column: Expr) -> Expr:
        run = Run(tirx.const(0, "int32"), indices, column, 1)
        return held(load(buffers["x_exponents"], named(run.block_exponent(self.x.address))))

    def _met(self, buffers: Mapping[str, Any], indices: list[Expr], column: Expr, exponent: Expr) -> Expr:
        """A mantissa at the row's exponent."""
        run = Run(tirx.const(0, "int32"), indices, column, 1)
        place = named(run.element(self.x.address) + column * self.x.address[-1].stride)
        x = held(convert(load(buffers["x"], place), "int64"))
        return shift_right(x, held(exponent - self._exponent(buffers, indices, column)), self.rounding)

    def _exponential(self, buffers: Mapping[str, Any], below: Expr, exponent: Expr) -> Expr:
        """The exponential function of ``below * 2**exponent``, none above 0, in steps of 2**-30."""
        places = held(literal(_ARGUMENT_EXPONENT, "int32") - exponent)
        none = literal(0, "int32")
        rounded = shift_right(below, held(tirx.max(places, none)), self.rounding)
        least = literal(_LEAST_ARGUMENT, "int64")
        left = held(tirx.min(tirx.max(none - places, none), literal(_LONGEST_SHIFT, "int32")))
        moved = held(tirx.max(rounded, least) << convert(left, "int64"))
        offset = held(convert(tirx.max(moved, least) - least, "int32"))
        return interpolated(buffers["table"], offset, _STEP_BITS, EXPONENTIAL_ENTRIES)
