"""x86 with AVX2 but no VNNI: two int16 products a lane and instruction, 8 lanes.

The instruction for pairs of bytes, vpmaddubsw, saturates their sums to 16 bits and would give wrong results; so
activations and weights are widened to 16 bits before they are multiplied.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from tvm import tirx

from qcompiler.backends.tvm.instruction_set import InstructionSet, instruction_set
from qcompiler.backends.tvm.instruction_sets.x86 import x86_target
from qcompiler.backends.tvm.lanes import Expr, call, reinterpret


@instruction_set
class Avx2(InstructionSet):
    """Haswell and later, Zen and later."""

    name = "avx2"
    features: ClassVar[tuple[str, ...]] = ("sse3", "ssse3", "sse4.1", "sse4.2", "avx", "avx2", "fma")
    architecture = "x86_64"
    preference = 20
    llvm_target: ClassVar[dict[str, Any]] = x86_target(features)
    register_bytes = 32
    registers = 16
    activation = "int16"
    weight = "int16"
    group = 2
    temporaries = 1

    def dot(self, accumulator: Expr, activations: Expr, weights: Expr) -> Expr:
        # A pair of products leaves int32 only where all four numbers are -32768, and wraps around like every sum here.
        return accumulator + call("llvm.x86.avx2.pmadd.wd", "int32x8", activations, weights)

    def pack_to_bytes(self, vectors: Sequence[Expr], dtype: str) -> Expr:
        # The instructions saturate and interleave within 128-bit parts; the permutation puts the parts in order.
        first, second = (call("llvm.x86.avx2.packssdw", "int16x16", vectors[i], vectors[i + 1]) for i in (0, 2))
        name = "packuswb" if dtype == "uint8" else "packsswb"
        packed = reinterpret("int32x8", call(f"llvm.x86.avx2.{name}", "int8x32", first, second))
        order = [tirx.const(4 * (i % 2) + i // 2, "int32") for i in range(8)]
        return reinterpret(f"{dtype}x32", tirx.Shuffle([packed], order))
