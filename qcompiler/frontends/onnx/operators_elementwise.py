"""Handlers of element-wise operators."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import onnx

from qcompiler.frontends.onnx.layer import HANDLERS, Layer, UnsupportedOperator, handles
from qcompiler.frontends.onnx.tensor_data import FIX_PRECISION, check_finite
from qcompiler.ir import Op, Scalar, Value, scalar_of
from qcompiler.ir.scalar import F32
from qcompiler.ops import activation, binary
from qcompiler.ops.quantization import Cast

FLOAT_LIMIT = float(np.finfo(np.float32).max)


def float_operand(layer: Layer, index: int = 0) -> Value:
    """Operand ``index``, which must be float32.

    Raises:
        UnsupportedOperator: it holds integers or booleans.
    """
    value = layer.operand(index)
    if value.type.elem != F32:
        raise UnsupportedOperator(f"operand {index} has element type {value.type.elem}, not f32")
    return value


# One operand

UNARY: dict[str, Callable[[Layer], Op]] = {
    "Relu": lambda n: activation.Relu(),
    "LeakyRelu": lambda n: activation.LeakyRelu(n.number("alpha", 0.01)),
    "Elu": lambda n: activation.Elu(n.number("alpha", 1.0)),
    "Celu": lambda n: activation.Celu(n.number("alpha", 1.0)),
    "Selu": lambda n: activation.Selu(
        n.number("alpha", 1.67326319217681884765625), n.number("gamma", 1.05070102214813232421875)
    ),
    "Sigmoid": lambda n: activation.Sigmoid(),
    "Tanh": lambda n: activation.Tanh(),
    "HardSigmoid": lambda n: activation.HardSigmoid(n.number("alpha", 0.2), n.number("beta", 0.5)),
    "HardSwish": lambda n: activation.HardSwish(),
    "Gelu": lambda n: activation.Gelu(n.text("approximate", "none")),
    "Softplus": lambda n: activation.Softplus(),
    "Mish": lambda n: activation.Mish(),
    "Softsign": lambda n: activation.Softsign(),
    "Erf": lambda n: activation.Erf(),
    "Exp": lambda n: activation.Exp(),
    "Log": lambda n: activation.Log(),
    "Sqrt": lambda n: activation.Sqrt(),
    "Reciprocal": lambda n: activation.Reciprocal(),
    "Abs": lambda n: activation.Abs(),
    "Neg": lambda n: activation.Negate(),
    "Floor": lambda n: activation.Floor(),
    "Ceil": lambda n: activation.Ceil(),
}


def _unary(layer: Layer) -> Value:
    return layer.emit(UNARY[layer.op_type](layer), float_operand(layer))


HANDLERS.update(dict.fromkeys(UNARY, _unary))


@handles("Clip")
def _clip(layer: Layer) -> Value:
    if layer.opset < 11:
        low, high = layer.number("min", -FLOAT_LIMIT), layer.number("max", FLOAT_LIMIT)
    else:
        low, high = _bound(layer, 1, -math.inf), _bound(layer, 2, math.inf)
    if math.isnan(low) or math.isnan(high):
        raise layer.invalid("a bound is NaN", found=f"[{low}, {high}]", fix="export the model again")
    if low > high:
        raise UnsupportedOperator(f"minimum {low} exceeds maximum {high}")
    x = float_operand(layer)
    # Exporters write the largest float for "no bound".
    low = -math.inf if low <= -FLOAT_LIMIT else low
    high = math.inf if high >= FLOAT_LIMIT else high
    return layer.emit(activation.Clip(low, high), x)


def _bound(layer: Layer, index: int, default: float) -> float:
    return float(layer.parameter(index, "a bound").reshape(-1)[0]) if layer.has(index) else default


@handles("Cast")
def _cast(layer: Layer) -> Value:
    x = layer.operand(0)
    to = _cast_target(layer)
    return x if x.type.elem == to else layer.emit(Cast(to), x)


def _cast_target(layer: Layer) -> Scalar:
    number = layer.integer("to", 0)
    try:
        target = scalar_of(np.dtype(onnx.helper.tensor_dtype_to_np_dtype(number)))
    except (KeyError, ValueError, TypeError) as error:
        raise UnsupportedOperator(f"cast to ONNX data type {number}") from error
    if target.is_float and target != F32:
        raise UnsupportedOperator(f"cast to {target}; {FIX_PRECISION}")
    return target


@handles("Identity")
def _identity(layer: Layer) -> Value:
    return layer.operand(0)


@handles("Dropout")
def _dropout(layer: Layer) -> Value:
    if layer.opset >= 12 and layer.has(2) and layer.parameter(2, "training_mode").any():
        raise UnsupportedOperator("training mode")
    return layer.operand(0)


# Two and more operands

BINARY: dict[str, Callable[[], Op]] = {
    "Add": binary.Add, "Sub": binary.Sub, "Mul": binary.Mul, "Div": binary.Div, "PRelu": binary.Prelu,
    "Sum": binary.Add, "Max": binary.Maximum, "Min": binary.Minimum, "Equal": binary.Equal,
}

VARIADIC = ("Sum", "Max", "Min")
FLOAT_ONLY = ("Div", "PRelu")


def _chain(layer: Layer) -> Value:
    """a op b op c ..., from the left."""
    count = len(layer.node.input)
    if not count or (layer.op_type not in VARIADIC and count != 2):
        raise layer.invalid(f"has {count} operands")
    result, *others = [layer.operand(i) for i in range(count) if not _changes_nothing(layer, i)]
    if layer.op_type in FLOAT_ONLY:
        float_operand(layer, 0)
    for other in others:
        result = layer.emit(BINARY[layer.op_type](), result, other)
    return result


def _changes_nothing(layer: Layer, index: int) -> bool:
    """Whether an operand is the number below or above all others, which a maximum or minimum never takes."""
    limit = {"Max": -math.inf, "Min": math.inf}.get(layer.op_type)
    if limit is None or len(layer.node.input) == 1 or not layer.known(index):
        return False
    array = layer.parameter(index, "an operand")
    return array.ndim == 0 and float(array) == limit


HANDLERS.update(dict.fromkeys(BINARY, _chain))


@handles("Pow")
def _pow(layer: Layer) -> Value:
    x = float_operand(layer)
    if layer.known(1):
        exponent = layer.parameter(1, "the exponent")
        check_finite(exponent, layer.node.input[1], layer.name)
        if exponent.size == 1 and exponent.ndim <= x.type.rank:
            return layer.emit(activation.Power(float(exponent.reshape(-1)[0])), x)
        if exponent.dtype != np.float32:
            return layer.emit(binary.Pow(), x, layer.constant(exponent.astype(np.float32)))
    return layer.emit(binary.Pow(), x, float_operand(layer, 1))
