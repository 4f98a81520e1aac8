"""Addition, subtraction and multiplication of tensors with different scales."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from qcompiler.backends.lowering import lowering
from qcompiler.backends.tvm.element import Element, Stage
from qcompiler.backends.tvm.kernel import named
from qcompiler.backends.tvm.lanes import Expr, call, convert, literal_like, rounded_product
from qcompiler.backends.tvm.stages.forms import Form, scaling
from qcompiler.backends.tvm.stages.rounding import (
    NARROW,
    float_half_even,
    float_saturated,
)
from qcompiler.backends.tvm.stages.zero_points import Centering, Offset, centered, offset, take
from qcompiler.ir import Node
from qcompiler.ops.binary import BinaryArithmeticOp
from qcompiler.ops.quantized import parameters, resolve


@dataclass(frozen=True)
class RescaledSum(Stage):
    """LiteRT's sum: operands shifted left, brought to one scale, added, brought to the result's scale.

    Operands: a, b, and as constants the zero points of a and b, the numbers of the three forms, the result's zero
    point.

    Attributes:
        centerings: how the zero points of a and b are taken off.
        shift: bits that both are shifted left.
        sign: 1 for a sum, -1 for a difference.
        sides: the forms that bring a and b to one scale.
        output: the form that brings the sum to the result's scale.
        wide: whether the sum needs 64 bits.
        offset: how the result's zero point is added.
    """

    centerings: tuple[Centering, Centering]
    shift: int
    sign: int
    sides: tuple[Form, Form]
    output: Form
    wide: bool
    offset: Offset

    def expression(self, operands: Sequence[Expr]) -> Expr:
        constants = iter(operands[2:])
        shifted = []
        for operand, centering in zip(operands[:2], self.centerings, strict=True):
            x = centering.apply(operand, constants)
            shifted.append(named(x << literal_like(self.shift, x)))
        left, right = (
            form.scale(x, take(constants, form.operands)) for x, form in zip(shifted, self.sides, strict=True)
        )
        if self.wide:
            left, right = convert(left, "int64"), convert(right, "int64")
        total = named(left + right if self.sign > 0 else left - right)
        return self.offset.apply(self.output.scale(total, take(constants, self.output.operands)), constants)


@lowering("tvm-element", "add", "sub", arithmetic="litert-add")
@lowering("tvm-element", "add", "sub", arithmetic="shift-add")
def litert_sum(node: Node) -> Element:
    """Operands: two quantized tensors."""
    op = node.op
    assert isinstance(op, BinaryArithmeticOp)
    rule = resolve(op, op.arithmetic)
    form = rule.form
    arrays = op.constants.arrays()
    sources = [centered(v.type, always=True) for v in node.operands]
    shifted = [s.bound << rule.shift for s in sources]
    # A shifted operand that leaves 32 bits is computed in 64 from the start.
    wide = [bound >= 1 << 31 for bound in shifted]
    centerings = tuple(
        Centering(s.stage.present, s.stage.wide or w) for s, w in zip(sources, wide, strict=True)
    )
    dtypes = ["int64" if c.wide else "int32" for c in centerings]
    zero_points = [
        z.astype(dtype) for s, dtype in zip(sources, dtypes, strict=True) for z in s.constants
    ]
    sides = [
        scaling(form, {k.removeprefix(p): a for k, a in arrays.items() if k.startswith(p)}, bound, dtype)
        for p, bound, dtype in zip(("left_", "right_"), shifted, dtypes, strict=True)
    ]
    total = sides[0].bound + sides[1].bound
    sum_is_wide = total >= 1 << 31
    output = scaling(
        form, {k.removeprefix("output_"): a for k, a in arrays.items() if k.startswith("output_")}, total,
        "int64" if sum_is_wide or max(s.bound for s in sides) > NARROW else "int32",
    )
    stored = offset(node.result.type, output.bound)
    stage = RescaledSum(
        (centerings[0], centerings[1]), rule.shift, rule.sign, (sides[0].form, sides[1].form), output.form,
        sum_is_wide or max(s.bound for s in sides) > NARROW, stored.stage,
    )
    return Element(
        stage,
        (*zero_points, *sides[0].constants, *sides[1].constants, *output.constants, *stored.constants), stored.bounds,
    )


@dataclass(frozen=True)
class RescaledProduct(Stage):
    """LiteRT's product: ``form((a - za) * (b - zb)) + zero point``.

    Operands: a, b, and as constants the zero points of a and b, the form's numbers, the result's zero point.

    Attributes:
        centerings: how the zero points of a and b are taken off.
        wide: whether the product needs 64 bits.
        form: what brings it to the result's scale.
        offset: how the result's zero point is added.
    """

    centerings: tuple[Centering, Centering]
    wide: bool
    form: Form
    offset: Offset

    def expression(self, operands: Sequence[Expr]) -> Expr:
        constants = iter(operands[2:])
        product = _product(operands, self.centerings, self.wide, constants)
        return self.offset.apply(self.form.scale(product, take(constants, self.form.operands)), constants)


@lowering("tvm-element", "mul", arithmetic="litert-mul")
@lowering("tvm-element", "mul", arithmetic="shift-mul")
def litert_product(node: Node) -> Element:
    """Operands: two quantized tensors."""
    op = node.op
    assert isinstance(op, BinaryArithmeticOp)
    left, right = (centered(v.type, always=True) for v in node.operands)
    bound = left.bound * right.bound
    wide = bound >= 1 << 31
    form = resolve(op, op.arithmetic).form
    scaled = scaling(form, op.constants.arrays(), bound, "int64" if wide else "int32")
    stored = offset(node.result.type, scaled.bound)
    stage = RescaledProduct((left.stage, right.stage), wide, scaled.form, stored.stage)
    constants = (*left.constants, *right.constants, *scaled.constants, *stored.constants)
    return Element(stage, constants, stored.bounds)


@dataclass(frozen=True)
class FloatSum(Stage):
    """ONNX Runtime's sum: ``rint(fma(a, left, fma(b, right, offset)))``.

    Operands: a, b; constants: left ratio, right ratio, offset, all float32.

    Attributes:
        narrow: whether the rounded sum is known to stay within 2**30.
    """

    narrow: bool

    def expression(self, operands: Sequence[Expr]) -> Expr:
        a, b, left, right, start = operands
        dtype = str(start.ty)
        total = call("llvm.fma", dtype, convert(b, "float32"), right, start)
        total = named(call("llvm.fma", dtype, convert(a, "float32"), left, total))
        return float_saturated(total, float_half_even, 0 if self.narrow else np.inf)


@lowering("tvm-element", "add", "sub", arithmetic="onnxruntime-add")
def onnxruntime_sum(node: Node) -> Element:
    """Operands: two quantized tensors of at most 16 bits."""
    op = node.op
    assert isinstance(op, BinaryArithmeticOp)
    arrays = op.constants.arrays()
    result = parameters(node.result.type)
    bound = float(np.abs(arrays["offset"]))
    for name, value in zip(("left_ratio", "right_ratio"), node.operands, strict=True):
        bound += float(np.abs(arrays[name])) * parameters(value.type).largest_magnitude
    return Element(
        FloatSum(bound * (1 + 2.0**-20) + 1 <= NARROW), (arrays["left_ratio"], arrays["right_ratio"], arrays["offset"]),
        (result.qmin, result.qmax),
    )


@dataclass(frozen=True)
class FloatRescaledProduct(Stage):
    """ONNX Runtime's product: ``rint(f32((a - za) * (b - zb)) * ratio + zero point)``, each step in float32.

    Operands: a, b, and as constants the zero points of a and b, the ratio, the result's zero point as float32.

    Attributes:
        centerings: how the zero points of a and b are taken off.
        wide: whether the product needs 64 bits.
        narrow: whether the result is known to stay within 2**30.
    """

    centerings: tuple[Centering, Centering]
    wide: bool
    narrow: bool

    def expression(self, operands: Sequence[Expr]) -> Expr:
        constants = iter(operands[2:])
        product = _product(operands, self.centerings, self.wide, constants)
        ratio, zero_point = constants
        scaled = named(rounded_product(convert(product, "float32"), ratio) + zero_point)
        return float_saturated(scaled, float_half_even, 0 if self.narrow else np.inf)


@lowering("tvm-element", "mul", arithmetic="onnxruntime-mul")
def onnxruntime_product(node: Node) -> Element:
    """Operands: two quantized tensors of at most 16 bits."""
    op = node.op
    assert isinstance(op, BinaryArithmeticOp)
    left, right = (centered(v.type, always=True) for v in node.operands)
    bound = left.bound * right.bound
    ratio = op.constants.arrays()["ratio"]
    result = parameters(node.result.type)
    narrow = bound * float(ratio) * (1 + 2.0**-20) + abs(int(result.zero_point)) + 2 <= NARROW
    stage = FloatRescaledProduct((left.stage, right.stage), bound >= 1 << 31, narrow)
    constants = (*left.constants, *right.constants, ratio, result.zero_point.astype(np.float32))
    return Element(stage, constants, (result.qmin, result.qmax))


def _product(
    operands: Sequence[Expr], centerings: tuple[Centering, Centering], wide: bool, constants: Iterator[Expr]
) -> Expr:
    """``(a - za) * (b - zb)``; takes the zero points off the front of ``constants``."""
    factors = []
    for operand, centering in zip(operands[:2], centerings, strict=True):
        x = centering.apply(operand, constants)
        factors.append(convert(x, "int64") if wide else x)
    return named(factors[0] * factors[1])
