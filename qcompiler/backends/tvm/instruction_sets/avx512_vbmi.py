"""x86 with AVX-512, VNNI and VBMI: byte permutations across whole registers as well."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from tvm import tirx

from qcompiler.backends.tvm.instruction_set import instruction_set
from qcompiler.backends.tvm.instruction_sets.avx512_vnni import Avx512Vnni
from qcompiler.backends.tvm.instruction_sets.x86 import x86_target
from qcompiler.backends.tvm.kernels.table import ByteLookup
from qcompiler.backends.tvm.lanes import Expr, call, literal, reinterpret


@instruction_set
class Avx512Vbmi(Avx512Vnni, ByteLookup):
    """Ice Lake and later, Zen 4 and later."""

    name = "avx512-vbmi"
    features = (*Avx512Vnni.features, "avx512vbmi")
    preference = Avx512Vnni.preference + 1
    llvm_target: ClassVar[dict[str, Any]] = x86_target(features)

    def look_up(self, table: Sequence[Expr], indices: Expr) -> Expr:
        # Each permutation takes seven bits of the index; the eighth chooses between the two.
        order = reinterpret("int8x64", indices)
        low, high = (
            call("llvm.x86.avx512.vpermi2var.qi.512", "int8x64", table[i], order, table[i + 1]) for i in (0, 2)
        )
        return tirx.Select(order < literal(0, "int8", 64), high, low)
