"""Kernels that multiply bytes, compiled to multiply numbers of 16 bits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.kernel import Argument, Kernel
from qcompiler.backends.tvm.lanes import Expr


@dataclass(frozen=True)
class WideKernel(Kernel):
    """A kernel on an instruction set's ``wide`` view: its ``dot`` multiplies int16 by int16.

    Attributes:
        kernel: a contraction whose activations are stored as int16. Constants are packed for ``isa.wide``.
    """

    kernel: Kernel

    def arguments(self, isa: InstructionSet) -> tuple[Argument, ...]:
        return self.kernel.arguments(isa.wide)

    def items(self, isa: InstructionSet) -> int:
        return self.kernel.items(isa.wide)

    def work(self) -> int:
        return self.kernel.work()

    def emit(self, isa: InstructionSet, buffers: Mapping[str, Any], begin: Expr, end: Expr) -> None:
        self.kernel.emit(isa.wide, buffers, begin, end)

    def prim_func(self, isa: InstructionSet, symbol: str) -> Any:
        return self.kernel.prim_func(isa.wide, symbol)
