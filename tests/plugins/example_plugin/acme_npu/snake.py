"""The activation snake: its op, and the ONNX operator com.acme.Snake. It has no ONNX form: numpy simulates it."""

from typing import Any

import numpy as np

from qcompiler.frontends.onnx.layer import Layer, handles
from qcompiler.ir import Value, op
from qcompiler.ops.activation import UnaryFunction


@op("snake")
class Snake(UnaryFunction):
    """x + sin(alpha * x)**2 / alpha."""

    alpha: float = 1.0

    def real(self, x: Any) -> Any:
        return x + np.sin(self.alpha * x) ** 2 / self.alpha


@handles("Snake", domain="com.acme")
def import_snake(layer: Layer) -> Value:
    return layer.emit(Snake(layer.number("alpha", 1.0)), layer.operand(0))
