"""x86 with AVX-VNNI: four u8 x s8 products a lane and instruction, 8 lanes, without AVX-512."""

from __future__ import annotations

from typing import Any, ClassVar

from qcompiler.backends.tvm.instruction_set import instruction_set
from qcompiler.backends.tvm.instruction_sets.avx2 import Avx2
from qcompiler.backends.tvm.instruction_sets.x86 import x86_target
from qcompiler.backends.tvm.lanes import Expr, call, reinterpret


@instruction_set
class AvxVnni(Avx2):
    """Alder Lake, Sierra Forest, Zen 5 and later. Never executed by the project's own tests."""

    name = "avx-vnni"
    features: ClassVar[tuple[str, ...]] = (*Avx2.features, "avxvnni")
    preference = 25
    llvm_target: ClassVar[dict[str, Any]] = x86_target(features)
    activation = "uint8"
    weight = "int8"
    group = 4
    wide_group = 2
    temporaries = 0
    executed = False

    def dot(self, accumulator: Expr, activations: Expr, weights: Expr) -> Expr:
        # LLVM names the instruction after AVX-512 and encodes it for what the processor has.
        return call(
            "llvm.x86.avx512.vpdpbusd.256", "int32x8", accumulator, reinterpret("int8x32", activations), weights
        )

    def wide_dot(self, accumulator: Expr, activations: Expr, weights: Expr) -> Expr:
        return call("llvm.x86.avx512.vpdpwssd.256", "int32x8", accumulator, activations, weights)
