"""Places of the largest values of block floating point."""

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
from qcompiler.backends.tvm.kernels.mantissa_reals import power_of_two
from qcompiler.backends.tvm.lanes import Expr, convert


@dataclass(frozen=True)
class BlockArgMax(Kernel):
    """Places of the largest values along one axis, the first of equals, int64.

    Arguments: ``x``, ``x_exponents``, ``y``.

    Attributes:
        shape: of the operand.
        axis: which is searched, counted from the front.
        x: the operand; mantissas have at most 53 bits, exponents at most 10.
    """

    shape: tuple[int, ...]
    axis: int
    x: StoredMantissas

    def arguments(self, isa: InstructionSet) -> tuple[Argument, ...]:
        return (
            *tensor_arguments("x", self.shape, self.x), Argument("y", "int64", self.items(isa), Role.OUTPUT),
        )

    def items(self, isa: InstructionSet) -> int:
        return math.prod(self.shape) // self.shape[self.axis]

    def work(self) -> int:
        return 4 * math.prod(self.shape)

    def emit(self, isa: InstructionSet, buffers: Mapping[str, Any], begin: Expr, end: Expr) -> None:
        with loop(begin, end) as item:
            others = self._others(item)
            largest = T.alloc_buffer((1,), "float64", scope="local")
            place = T.alloc_buffer((1,), "int32", scope="local")
            store(largest, 0, self._value(buffers, others, tirx.const(0, "int32")))
            store(place, 0, tirx.const(0, "int32"))
            with loop(1, self.shape[self.axis]) as index:
                value = self._value(buffers, others, index)
                is_larger = held(tirx.Select(value > load(largest, 0), tirx.const(1, "int32"), tirx.const(0, "int32")))
                with T.If(is_larger > 0), T.Then():
                    store(place, 0, index)
                    store(largest, 0, value)
            store(buffers["y"], item, convert(load(place, 0), "int64"))

    def _others(self, item: Expr) -> list[Expr]:
        """Indices of all axes but the one that is searched."""
        found: list[Expr] = []
        remaining = item
        for axis in reversed(range(len(self.shape))):
            if axis == self.axis:
                continue
            quotient = named(tirx.truncdiv(remaining, self.shape[axis]))
            found.append(named(remaining - quotient * self.shape[axis]))
            remaining = quotient
        return found[::-1]

    def _value(self, buffers: Mapping[str, Any], others: list[Expr], index: Expr) -> Expr:
        """float64, exact."""
        places = [*others[: self.axis], index, *others[self.axis :]]
        run = Run(tirx.const(0, "int32"), places[:-1], places[-1], 1)
        of = self.x.address
        x = load(buffers["x"], named(run.element(of) + run.start * of[-1].stride))
        exponent = held(load(buffers["x_exponents"], named(run.block_exponent(of))))
        return held(convert(convert(x, "int64"), "float64") * power_of_two(exponent))
