"""64-bit ARM with the dot product extension: four s8 x s8 products a lane and instruction, 4 lanes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from tvm import tirx

from qcompiler.backends.tvm.instruction_set import InstructionSet, instruction_set
from qcompiler.backends.tvm.lanes import Expr, call, lanes_of


@instruction_set
class Aarch64Dotprod(InstructionSet):
    """Cortex-A55, A76, Neoverse N1 and later; Apple's M1 and later.

    This project has never run it on such a processor; its tests run it in an emulator where one is installed.
    """

    name = "aarch64-dotprod"
    features: ClassVar[tuple[str, ...]] = ("neon", "dotprod")
    architecture = "aarch64"
    preference = 20
    llvm_target: ClassVar[dict[str, Any]] = {"mtriple": "aarch64-linux-gnu", "mattr": ["+neon", "+dotprod"]}
    register_bytes = 16
    registers = 32
    activation = "int8"
    weight = "int8"
    group = 4
    executed = False

    def dot(self, accumulator: Expr, activations: Expr, weights: Expr) -> Expr:
        return call("llvm.aarch64.neon.sdot", "int32x4", accumulator, activations, weights)

    def pack_to_bytes(self, vectors: Sequence[Expr], dtype: str) -> Expr:
        # Each instruction halves the width and saturates; to int16 first is exact, as the bytes lie within.
        words = [_joined(*(call("llvm.aarch64.neon.sqxtn", "int16x4", v) for v in vectors[i : i + 2])) for i in (0, 2)]
        name = "sqxtun" if dtype == "uint8" else "sqxtn"
        return _joined(*(call(f"llvm.aarch64.neon.{name}", f"{dtype}x8", half) for half in words))


def _joined(low: Expr, high: Expr) -> Expr:
    """The lanes of two vectors side by side."""
    return tirx.Shuffle([low, high], [tirx.const(i, "int32") for i in range(2 * lanes_of(low))])
