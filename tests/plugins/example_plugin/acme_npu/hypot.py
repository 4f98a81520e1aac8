"""The magnitude of a complex number: its op, its integer arithmetic, and its ONNX form."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from qcompiler.backends.onnx_emitter import OnnxEmitter, elementwise
from qcompiler.ir import Arithmetic, Constants, Node, op
from qcompiler.numerics import Intermediate, Quantization, arithmetic
from qcompiler.ops.binary import BinaryArithmeticOp


@op("hypot")
class Hypot(BinaryArithmeticOp):
    """sqrt(a*a + b*b)."""

    ufunc = np.hypot
    arithmetic: Arithmetic | None = None
    constants: Constants = Constants()


@arithmetic("hypot", "acme-hypot")
class AcmeHypot:
    """round_half_even(hypot(real a, real b) / scale) + zero_point, in float64. Source: Acme NPU manual, 4.2."""

    def constants(self, inputs: Sequence[Quantization], output: Quantization) -> dict[str, Any]:
        return {}

    def intermediates(self, inputs: Sequence[Quantization], constants: Any) -> list[Intermediate]:
        return []

    def apply(self, a: Any, b: Any, inputs: Sequence[Quantization], output: Quantization, constants: Any) -> Any:
        real = [q.scale.astype(np.float64) * (x - q.zero_point) for x, q in zip((a, b), inputs, strict=True)]
        stored = np.rint(np.hypot(*real) / output.scale.astype(np.float64)).astype(np.int64) + output.zero_point
        return np.clip(stored, output.qmin, output.qmax)


@elementwise("hypot")
def hypot_in_onnx(emitter: OnnxEmitter, node: Node, names: list[str]) -> str:
    squares = [emitter.emit("Mul", [name, name]) for name in names]
    return emitter.emit("Sqrt", [emitter.emit("Add", squares)])
