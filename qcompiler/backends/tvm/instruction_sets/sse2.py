"""x86 of 64 bits as it began: two int16 products a lane and instruction, 4 lanes."""

from __future__ import annotations

from typing import Any, ClassVar

from qcompiler.backends.tvm.instruction_set import instruction_set
from qcompiler.backends.tvm.instruction_sets.generic import Generic
from qcompiler.backends.tvm.instruction_sets.x86 import x86_target
from qcompiler.backends.tvm.lanes import Expr, call


@instruction_set
class Sse2(Generic):
    """Every x86 processor of 64 bits."""

    name = "sse2"
    architecture = "x86_64"
    preference = 10
    llvm_target: ClassVar[dict[str, Any]] = x86_target(())
    group = 2
    temporaries = 1

    def dot(self, accumulator: Expr, activations: Expr, weights: Expr) -> Expr:
        return accumulator + call("llvm.x86.sse2.pmadd.wd", "int32x4", activations, weights)
