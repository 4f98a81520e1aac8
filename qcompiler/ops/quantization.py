"""Ops that cross between real numbers and integers, or between integer formats."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from qcompiler import numerics
from qcompiler.errors import QCompilerError
from qcompiler.ir.arithmetic import Arithmetic
from qcompiler.ir.constant_array import ConstantArray
from qcompiler.ir.dimension import Shape, static_shape
from qcompiler.ir.op import Array, Constants, Fact, Op, OpTypeError, Tensor, op, require
from qcompiler.ir.scalar import F32, Scalar
from qcompiler.ir.types import Affine, Elem, TensorType, spread_blocks
from qcompiler.ops.inference import float_elem, operand_count
from qcompiler.ops.quantized import affine, parameters, resolve, store

NO_INTEGER_FOR_NAN = "NaN has no integer counterpart; look at the numbers before it: which are infinite?"


class ElementOp(Op):
    """Base: one operand, a result of the same shape."""

    facts = Fact.ELEMENTWISE

    def infer_shapes(self, operands: Sequence[TensorType]) -> tuple[Shape, ...]:
        operand_count(operands, 1)
        return (operands[0].shape,)


@op("fake_quant")
class FakeQuant(ElementOp):
    """Marks a real value that will be held in low precision; simulates it once its parameters are known.

    Attributes:
        storage: integer format.
        qmin, qmax: bounds of the stored integers.
        blocks: block length in each dimension; ``()`` for one scale.
        group: values of one group get the same scale and zero point; -1 where the value stands alone.
        fixed_scale, fixed_zero_point: what the target prescribes; None where calibration chooses.
        power_of_two: whether calibration chooses among powers of two.
        scale, zero_point: parameters on the block grid; None before calibration.
        multiplier_range: smallest and largest multiplier of a group of weights; None where blocks have none.
        multipliers: uint8 on the block grid, of which the scales of a channel are multiples; None before calibration.
    """

    foldable = False
    storage: Scalar
    qmin: int
    qmax: int
    blocks: Shape = ()
    group: int = -1
    fixed_scale: float | None = None
    fixed_zero_point: int | None = None
    power_of_two: bool = False
    scale: ConstantArray | None = None
    zero_point: ConstantArray | None = None
    multiplier_range: tuple[int, int] | None = None
    multipliers: ConstantArray | None = None

    @property
    def is_calibrated(self) -> bool:
        return self.scale is not None

    @property
    def elem(self) -> Affine:
        """The quantized type that the value will have.

        Raises:
            ValueError: the parameters are not known yet.
        """
        if self.scale is None or self.zero_point is None:
            raise ValueError("fake_quant is not calibrated")
        return Affine(self.storage, self.scale, self.zero_point, self.blocks, self.qmin, self.qmax)

    @property
    def integer_scale(self) -> NDArray[np.float32]:
        """The scale of ``q`` times its group's multiplier, on the block grid: that at which weights are accumulated.

        Raises:
            ValueError: the parameters are not known yet.
        """
        scale = self.elem.scale.array
        return scale if self.multipliers is None else (scale / self.multipliers.array).astype(np.float32)

    def infer_elems(self, operands: Sequence[TensorType]) -> tuple[Elem | None, ...]:
        return (float_elem(operands),)

    def evaluate(self, operands: Sequence[Tensor], results: Sequence[TensorType]) -> tuple[Array, ...]:
        x = operands[0].data
        if self.scale is None or self.zero_point is None:
            return (x,)
        scale = spread_blocks(self.scale.array, x.shape, self.blocks)
        zero_point = spread_blocks(self.zero_point.array, x.shape, self.blocks)
        q = np.clip(np.rint(x / scale) + zero_point, self.qmin, self.qmax)
        return (((q - zero_point) * scale).astype(x.dtype),)


@op("quantize")
class Quantize(ElementOp):
    """Real numbers to integers; the result's type holds scale and zero point."""

    arithmetic: Arithmetic

    def infer_elems(self, operands: Sequence[TensorType]) -> tuple[Elem | None, ...]:
        float_elem(operands)
        return (None,)

    def verify(self, operands: Sequence[TensorType], results: Sequence[TensorType]) -> None:
        affine(results[0])
        resolve(self, self.arithmetic)

    def evaluate(self, operands: Sequence[Tensor], results: Sequence[TensorType]) -> tuple[Array, ...]:
        x = operands[0].data.astype(np.float32, copy=False)
        if np.isnan(x).any():
            raise OpTypeError(NO_INTEGER_FOR_NAN)
        return (store(resolve(self, self.arithmetic).apply(x, parameters(results[0])), results[0]),)


@op("dequantize")
class Dequantize(ElementOp):
    """Integers to the float32 numbers that they stand for."""

    def infer_elems(self, operands: Sequence[TensorType]) -> tuple[Elem | None, ...]:
        affine(operands[0])
        return (F32,)

    def evaluate(self, operands: Sequence[Tensor], results: Sequence[TensorType]) -> tuple[Array, ...]:
        return (numerics.dequantize(operands[0].data, parameters(operands[0].type)),)


@op("requantize")
class Requantize(ElementOp):
    """Integers at one scale to integers at another, by the cited form.

    The constants follow from the scales that were multiplied (those of a contraction's operands, or the operand's
    own) in the order and width that the form prescribes.
    """

    arithmetic: Arithmetic
    constants: Constants = Constants()

    def infer_elems(self, operands: Sequence[TensorType]) -> tuple[Elem | None, ...]:
        affine(operands[0])
        return (None,)

    def form(self) -> numerics.RequantizeForm:
        """The cited form of rounding."""
        form = resolve(self, self.arithmetic)
        assert isinstance(form, numerics.RequantizeForm)
        return form

    def verify(self, operands: Sequence[TensorType], results: Sequence[TensorType]) -> None:
        source, result = affine(operands[0]), affine(results[0])
        require(result.is_per_tensor, f"the result must have one scale, found {result}")
        form = self.form()
        try:
            expected = form.from_ratio(form.ratio([source.scale.array], result.scale.array))
        except QCompilerError as error:
            raise OpTypeError(str(error)) from error
        require(set(expected) == set(self.constants), f"constants must be {', '.join(expected)}")
        ratio = source.scale.array.astype(np.float64) / float(result.scale.array)
        found = form.to_ratio(self.constants.arrays())
        require(
            found.shape in ((), source.scale.shape) and bool(np.allclose(found, ratio, rtol=1e-4, atol=2.0**-32)),
            "constants do not fit the scales of operand and result",
        )

    def evaluate(self, operands: Sequence[Tensor], results: Sequence[TensorType]) -> tuple[Array, ...]:
        shape = static_shape(results[0].shape)
        constants = {name: spread_blocks(a, shape) for name, a in self.constants.arrays().items()}
        q = numerics.requantize(
            self.form(), operands[0].data, constants, parameters(operands[0].type),
            parameters(results[0]),
        )
        return (store(q, results[0]),)


@op("clamp")
class Clamp(ElementOp):
    """Limit stored integers to [minimum, maximum]: an activation such as relu6 on a quantized value."""

    facts = Fact.ELEMENTWISE | Fact.CLAMP
    minimum: int
    maximum: int

    def infer_elems(self, operands: Sequence[TensorType]) -> tuple[Elem | None, ...]:
        elem = affine(operands[0])
        require(elem.is_per_tensor, f"needs one scale for the whole tensor, found {elem}")
        require(
            elem.qmin <= self.minimum <= self.maximum <= elem.qmax,
            f"bounds [{self.minimum},{self.maximum}] are not within [{elem.qmin},{elem.qmax}]",
        )
        return (elem,)

    def evaluate(self, operands: Sequence[Tensor], results: Sequence[TensorType]) -> tuple[Array, ...]:
        data = operands[0].data
        return (np.clip(data, data.dtype.type(self.minimum), data.dtype.type(self.maximum)),)


@op("cast")
class Cast(ElementOp):
    """Convert numbers to another machine format; floats truncate toward zero on their way to integers."""

    to: Scalar

    def infer_elems(self, operands: Sequence[TensorType]) -> tuple[Elem | None, ...]:
        require(not isinstance(operands[0].elem, Affine), "does not apply to quantized types; use requantize")
        return (self.to,)

    def evaluate(self, operands: Sequence[Tensor], results: Sequence[TensorType]) -> tuple[Array, ...]:
        with np.errstate(invalid="ignore"):
            return (operands[0].data.astype(self.to.dtype),)
