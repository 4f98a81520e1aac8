"""Element-wise functions of two tensors, with numpy broadcasting."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qcompiler.ir.arithmetic import Arithmetic
from qcompiler.ir.dimension import Shape
from qcompiler.ir.op import Array, Constants, Fact, Op, Tensor, op
from qcompiler.ir.scalar import BOOL
from qcompiler.ir.types import Elem, TensorType
from qcompiler.numerics import Intermediate
from qcompiler.ops.inference import broadcast, float_elem, open_if_quantized, operand_count, per_tensor_elem, same_elem
from qcompiler.ops.quantized import (
    ArithmeticOp,
    constants_from,
    is_quantized,
    parameters,
    resolve,
    store,
    tensor_parameters,
)


class BinaryOp(Op):
    """Base of functions of two tensors; ``ufunc`` is the function on floats."""

    facts = Fact.ELEMENTWISE
    ufunc: np.ufunc

    def infer_shapes(self, operands: Sequence[TensorType]) -> tuple[Shape, ...]:
        operand_count(operands, 2)
        return (broadcast(operands),)


class BinaryArithmeticOp(BinaryOp, ArithmeticOp):
    """Base of add, sub and mul, whose integer forms rescale."""

    def infer_elems(self, operands: Sequence[TensorType]) -> tuple[Elem | None, ...]:
        return (open_if_quantized(operands),)

    def derive_constants(self, operands: Sequence[TensorType], results: Sequence[TensorType]) -> Constants:
        inputs = [tensor_parameters(t) for t in operands]
        return constants_from(resolve(self, self.arithmetic).constants(inputs, tensor_parameters(results[0])))

    def intermediates(
        self, operands: Sequence[TensorType], results: Sequence[TensorType]
    ) -> Sequence[Intermediate]:
        inputs = [tensor_parameters(t) for t in operands]
        found: list[Intermediate] = resolve(self, self.arithmetic).intermediates(inputs, self.constants.arrays())
        return found

    def evaluate(self, operands: Sequence[Tensor], results: Sequence[TensorType]) -> tuple[Array, ...]:
        a, b = operands
        if not is_quantized([a.type]):
            return (self.ufunc(a.data, b.data).astype(results[0].storage.dtype, copy=False),)
        total = resolve(self, self.arithmetic).apply(
            a.data.astype(np.int64), b.data.astype(np.int64), [parameters(a.type), parameters(b.type)],
            parameters(results[0]), self.constants.arrays(),
        )
        return (store(total, results[0]),)


@op("add")
class Add(BinaryArithmeticOp):
    """a + b."""

    facts = Fact.ELEMENTWISE | Fact.COMMUTATIVE
    ufunc = np.add
    arithmetic: Arithmetic | None = None
    constants: Constants = Constants()


@op("sub")
class Sub(BinaryArithmeticOp):
    """a - b."""

    ufunc = np.subtract
    arithmetic: Arithmetic | None = None
    constants: Constants = Constants()


@op("mul")
class Mul(BinaryArithmeticOp):
    """a * b."""

    facts = Fact.ELEMENTWISE | Fact.COMMUTATIVE
    ufunc = np.multiply
    arithmetic: Arithmetic | None = None
    constants: Constants = Constants()


class FloatBinaryOp(BinaryOp):
    """Base of binary functions that have no integer form of their own."""

    def infer_elems(self, operands: Sequence[TensorType]) -> tuple[Elem | None, ...]:
        return (float_elem(operands),)

    def evaluate(self, operands: Sequence[Tensor], results: Sequence[TensorType]) -> tuple[Array, ...]:
        with np.errstate(all="ignore"):
            value = self.ufunc(operands[0].data, operands[1].data)
        return (value.astype(results[0].storage.dtype, copy=False),)


@op("div")
class Div(FloatBinaryOp):
    """a / b."""

    ufunc = np.true_divide


@op("pow")
class Pow(FloatBinaryOp):
    """a to the power b."""

    ufunc = np.power


@op("equal")
class Equal(FloatBinaryOp):
    """Whether a equals b, for plain numbers of any format; the result is boolean."""

    facts = Fact.ELEMENTWISE | Fact.COMMUTATIVE
    ufunc = np.equal

    def infer_elems(self, operands: Sequence[TensorType]) -> tuple[Elem | None, ...]:
        float_elem(operands)
        return (BOOL,)


class SelectionOp(FloatBinaryOp):
    """Base of maximum and minimum: results are operand values, so operands and result share one type."""

    facts = Fact.ELEMENTWISE | Fact.VALUE_PRESERVING | Fact.COMMUTATIVE

    def infer_elems(self, operands: Sequence[TensorType]) -> tuple[Elem | None, ...]:
        per_tensor_elem(operands[0], self.name)
        return (same_elem(operands),)


@op("maximum")
class Maximum(SelectionOp):
    """The larger of a and b."""

    ufunc = np.maximum


@op("minimum")
class Minimum(SelectionOp):
    """The smaller of a and b."""

    ufunc = np.minimum


@op("prelu")
class Prelu(FloatBinaryOp):
    """x where positive, slope * x elsewhere; operand 1 is the slope, broadcast to x."""

    def evaluate(self, operands: Sequence[Tensor], results: Sequence[TensorType]) -> tuple[Array, ...]:
        x, slope = operands[0].data, operands[1].data
        return (np.where(x >= 0, x, slope * x).astype(results[0].storage.dtype),)
