"""x86 with AVX-512 and VNNI: four u8 x s8 products a lane and instruction, 16 lanes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from tvm import tirx

from qcompiler.backends.tvm.instruction_set import InstructionSet, instruction_set
from qcompiler.backends.tvm.instruction_sets.avx2 import Avx2
from qcompiler.backends.tvm.instruction_sets.x86 import x86_target
from qcompiler.backends.tvm.lanes import Expr, call, reinterpret


@instruction_set
class Avx512Vnni(InstructionSet):
    """Ice Lake and later, Cascade Lake, Zen 4 and later."""

    name = "avx512-vnni"
    features: ClassVar[tuple[str, ...]] = (
        *Avx2.features, "f16c", "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512vnni",
    )
    architecture = "x86_64"
    preference = 30
    llvm_target: ClassVar[dict[str, Any]] = x86_target(features)
    register_bytes = 64
    registers = 32
    activation = "uint8"
    weight = "int8"
    group = 4
    wide_group = 2

    def dot(self, accumulator: Expr, activations: Expr, weights: Expr) -> Expr:
        return call(
            "llvm.x86.avx512.vpdpbusd.512", "int32x16", accumulator, reinterpret("int8x64", activations), weights
        )

    def wide_dot(self, accumulator: Expr, activations: Expr, weights: Expr) -> Expr:
        return call("llvm.x86.avx512.vpdpwssd.512", "int32x16", accumulator, activations, weights)

    def pack_to_bytes(self, vectors: Sequence[Expr], dtype: str) -> Expr:
        # The instructions saturate and interleave within 128-bit parts; the permutation puts the parts in order.
        first, second = (
            call("llvm.x86.avx512.packssdw.512", "int16x32", vectors[i], vectors[i + 1]) for i in (0, 2)
        )
        name = "packuswb" if dtype == "uint8" else "packsswb"
        packed = reinterpret("int32x16", call(f"llvm.x86.avx512.{name}.512", "int8x64", first, second))
        order = [tirx.const(4 * (i % 4) + i // 4, "int32") for i in range(16)]
        return reinterpret(f"{dtype}x64", tirx.Shuffle([packed], order))
