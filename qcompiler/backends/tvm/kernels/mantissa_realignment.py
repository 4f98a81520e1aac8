"""Mantissas that moved into blocks of other exponents, brought to these."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tvm import tirx

from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.kernel import Argument, Kernel, Role, held, load, loop, named, store
from qcompiler.backends.tvm.kernels.mantissa_shift import domain_of, shift_right
from qcompiler.backends.tvm.lanes import Expr, convert

PER_ITEM = 1024


@dataclass(frozen=True)
class RealignMantissas(Kernel):
    """``y[i] = x[i] / 2**(y_exponents[y_places[i]] - x_exponents[x_places[i]])``, rounded.

    No target is below the exponent that it replaces. A place below 0 is that of padding, whose mantissas are 0.

    Attributes:
        elements: mantissas.
        x_count, y_count: exponents.
        dtype: format of the mantissas.
        bits: their width.
        rounding: a name in ``SHIFT_ROUNDINGS``.
    """

    elements: int
    x_count: int
    y_count: int
    dtype: str
    bits: int
    rounding: str

    def arguments(self, isa: InstructionSet) -> tuple[Argument, ...]:
        return (
            Argument("x", self.dtype, self.elements, Role.INPUT),
            Argument("x_exponents", "int32", self.x_count, Role.INPUT),
            Argument("x_places", "int32", self.elements, Role.CONSTANT),
            Argument("y_exponents", "int32", self.y_count, Role.INPUT),
            Argument("y_places", "int32", self.elements, Role.CONSTANT),
            Argument("y", self.dtype, self.elements, Role.OUTPUT),
        )

    def items(self, isa: InstructionSet) -> int:
        return -(-self.elements // PER_ITEM)

    def work(self) -> int:
        return 10 * self.elements

    def emit(self, isa: InstructionSet, buffers: Mapping[str, Any], begin: Expr, end: Expr) -> None:
        first = named(begin * PER_ITEM)
        with loop(first, tirx.min(end * PER_ITEM, self.elements)) as index:
            own = named(tirx.max(load(buffers["x_places"], index), 0))
            target = load(buffers["y_exponents"], named(load(buffers["y_places"], index)))
            places = held(target - load(buffers["x_exponents"], own))
            x = held(convert(load(buffers["x"], index), domain_of(self.bits)))
            moved = shift_right(x, held(tirx.max(places, tirx.const(0, "int32"))), self.rounding)
            store(buffers["y"], index, convert(moved, self.dtype))
