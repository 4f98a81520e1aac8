"""Handlers of normalizations and softmax."""

from __future__ import annotations

from qcompiler.frontends.onnx.layer import Layer, UnsupportedOperator, handles
from qcompiler.frontends.onnx.operators_elementwise import float_operand
from qcompiler.ir import Value
from qcompiler.ir.dimension import element_count
from qcompiler.ops.activation import Exp, Log, Sqrt
from qcompiler.ops.binary import Add, Div, Mul, Sub
from qcompiler.ops.normalization import BatchNorm, Softmax
from qcompiler.ops.reduction import Mean, ReduceMax, ReduceSum
from qcompiler.ops.shape import Reshape


@handles("BatchNormalization")
def _batch_normalization(layer: Layer) -> Value:
    if layer.integer("training_mode", 0):
        raise UnsupportedOperator("training mode")
    operands = [float_operand(layer, i) for i in range(5)]
    return layer.emit(BatchNorm(layer.number("epsilon", 1e-5)), *operands)


@handles("Softmax", "LogSoftmax")
def _softmax(layer: Layer) -> Value:
    x = float_operand(layer)
    shape = x.type.shape
    axis = layer.axis(layer.integer("axis", -1 if layer.opset >= 13 else 1), len(shape))
    # Before opset 13 the softmax runs over all axes from ``axis`` on.
    flattened = layer.opset < 13 and any(d != 1 for d in shape[axis + 1 :])
    if flattened:
        try:
            x = layer.emit(Reshape((*shape[:axis], element_count(shape[axis:]))), x)
        except ValueError as error:
            raise UnsupportedOperator(str(error)) from error
    result = layer.emit(Softmax(axis), x) if layer.op_type == "Softmax" else _log_softmax(layer, x, axis)
    return layer.emit(Reshape(shape), result) if flattened else result


def _log_softmax(layer: Layer, x: Value, axis: int) -> Value:
    """s - log(sum(exp(s))) with s = x - max(x).

    The logarithm of a softmax would be the same number, but not where the softmax is too small for its format: 0 in
    8 bits stands for everything below 1/512.
    """
    shifted = layer.emit(Sub(), x, layer.emit(ReduceMax((axis,)), x))
    total = layer.emit(ReduceSum((axis,)), layer.emit(Exp(), shifted))
    return layer.emit(Sub(), shifted, layer.emit(Log(), total))


@handles("LayerNormalization")
def _layer_normalization(layer: Layer) -> Value:
    """(x - mean) / sqrt(variance + epsilon) * scale + shift over the axes from ``axis`` on, step by step."""
    x = float_operand(layer)
    first = layer.axis(layer.integer("axis", -1), x.type.rank)
    axes = tuple(range(first, x.type.rank))
    centered = layer.emit(Sub(), x, layer.emit(Mean(axes), x))
    variance = layer.emit(Mean(axes), layer.emit(Mul(), centered, centered))
    epsilon = layer.constant(layer.number("epsilon", 1e-5))
    deviation = layer.emit(Sqrt(), layer.emit(Add(), variance, epsilon))
    result = layer.emit(Mul(), layer.emit(Div(), centered, deviation), float_operand(layer, 1))
    return layer.emit(Add(), result, float_operand(layer, 2)) if layer.has(2) else result
