"""Any processor that LLVM knows: plain vector code without special instructions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from tvm import tirx

from qcompiler.backends.tvm.instruction_set import InstructionSet, instruction_set
from qcompiler.backends.tvm.lanes import Expr, convert, element, lanes_of, literal


@instruction_set
class Generic(InstructionSet):
    """Baseline of the host's architecture; LLVM turns the vectors into whatever it has."""

    name = "generic"
    llvm_target: ClassVar[dict[str, Any]] = {}
    register_bytes = 16
    registers = 16
    activation = "int16"
    weight = "int16"
    group = 1

    def dot(self, accumulator: Expr, activations: Expr, weights: Expr) -> Expr:
        return accumulator + convert(activations, "int32") * convert(weights, "int32")

    def pack_to_bytes(self, vectors: Sequence[Expr], dtype: str) -> Expr:
        low, high = (0, 255) if dtype == "uint8" else (-128, 127)
        lanes = lanes_of(vectors[0])
        assert element(vectors[0]) == "int32"
        narrow = [
            convert(tirx.max(tirx.min(v, literal(high, "int32", lanes)), literal(low, "int32", lanes)), dtype)
            for v in vectors
        ]
        return tirx.Shuffle(narrow, [tirx.const(i, "int32") for i in range(4 * lanes)])
