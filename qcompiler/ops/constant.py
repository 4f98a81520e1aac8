"""Values known at compile time."""

from __future__ import annotations

from collections.abc import Sequence

from qcompiler.ir.constant_array import ConstantArray
from qcompiler.ir.dimension import Shape
from qcompiler.ir.op import Array, Op, Tensor, op, require
from qcompiler.ir.types import Affine, Elem, TensorType
from qcompiler.ir.value import Value
from qcompiler.ops.inference import operand_count


@op("constant")
class Constant(Op):
    """The stored numbers ``value``; the result type says what they mean."""

    foldable = False
    value: ConstantArray

    def infer_shapes(self, operands: Sequence[TensorType]) -> tuple[Shape, ...]:
        operand_count(operands, 0)
        return (self.value.shape,)

    def infer_elems(self, operands: Sequence[TensorType]) -> tuple[Elem | None, ...]:
        return (None,)

    def verify(self, operands: Sequence[TensorType], results: Sequence[TensorType]) -> None:
        storage = results[0].storage
        require(
            self.value.array.dtype == storage.dtype,
            f"holds {self.value.array.dtype} numbers, its type stores {storage}",
        )
        elem, array = results[0].elem, self.value.array
        if isinstance(elem, Affine) and array.size:
            low, high = int(array.min()), int(array.max())
            require(
                elem.qmin <= low and high <= elem.qmax,
                f"holds numbers from {low} to {high}, its type keeps within [{elem.qmin},{elem.qmax}]",
            )

    def evaluate(self, operands: Sequence[Tensor], results: Sequence[TensorType]) -> tuple[Array, ...]:
        return (self.value.array,)


def constant_value(value: Value) -> Array | None:
    """The stored numbers that a value is at compile time; None for computed values."""
    producer = value.producer
    if producer is not None and isinstance(producer.op, Constant):
        return producer.op.value.array
    return None


def scalar_value(value: Value) -> float | None:
    """The only number in a constant of one element; None otherwise."""
    array = constant_value(value)
    return float(array.reshape(-1)[0]) if array is not None and array.size == 1 else None
