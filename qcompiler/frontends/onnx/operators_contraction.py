"""Handlers of convolutions and matrix products."""

from __future__ import annotations

import numpy as np

from qcompiler.frontends.onnx.layer import Layer, UnsupportedOperator, handles, static_sizes
from qcompiler.frontends.onnx.operators_elementwise import float_operand
from qcompiler.frontends.onnx.spatial import Window, as_two_dimensional, to_image
from qcompiler.frontends.onnx.tensor_data import check_finite
from qcompiler.ir import ConstantArray, Original, Untraced, Value
from qcompiler.ops.binary import Add, Mul
from qcompiler.ops.contraction import Conv2D, ConvTranspose2D, Matmul
from qcompiler.ops.shape import Reshape, Transpose


@handles("Conv")
def _conv(layer: Layer) -> Value:
    x, w = float_operand(layer), float_operand(layer, 1)
    if w.type.rank != x.type.rank:
        raise layer.invalid(f"weights of rank {w.type.rank} on an operand of rank {x.type.rank}")
    axes = range(2, x.type.rank)
    window = Window.read(layer, x, kernel=static_sizes(layer, w.type.shape, axes))
    bias = [float_operand(layer, 2)] if layer.has(2) else []
    op = Conv2D(window.strides, window.dilations, window.pads, layer.integer("group", 1))
    return as_two_dimensional(layer, x, lambda image: layer.emit(op, image, to_image(layer, w), *bias))


@handles("ConvTranspose")
def _conv_transpose(layer: Layer) -> Value:
    x = float_operand(layer)
    if not layer.known(1):
        raise UnsupportedOperator("the weight is computed at run time")
    source = layer.parameter(1, "the weight")
    if source.ndim != x.type.rank:
        raise layer.invalid(f"weights of rank {source.ndim} on an operand of rank {x.type.rank}")
    check_finite(source, layer.node.input[1], layer.name)
    groups = layer.integer("group", 1)
    if groups < 1 or source.shape[0] % groups:
        raise layer.invalid(f"{source.shape[0]} input channels do not fit {groups} groups")
    rank1d = source.ndim == 3
    if rank1d:
        source = source[:, :, None, :]
    inputs, outputs, *kernel = source.shape
    window = Window.read(layer, x, kernel=kernel[1:] if rank1d else kernel, transposed=True)
    grouped = source.reshape(groups, inputs // groups, outputs, *kernel).swapaxes(1, 2)
    weight = layer.constant(
        grouped.reshape(groups * outputs, inputs // groups, *kernel),
        Original(layer.node.input[1], (1, 0, 2, 3)) if groups == 1 and not rank1d
        else Untraced(f"weight {layer.node.input[1]} with output channels first"),
    )
    bias = [float_operand(layer, 2)] if layer.has(2) else []
    op = ConvTranspose2D(window.strides, window.dilations, window.pads, window.output_padding, groups)
    return as_two_dimensional(layer, x, lambda image: layer.emit(op, image, weight, *bias))


@handles("MatMul")
def _matmul(layer: Layer) -> Value:
    a, b = float_operand(layer), float_operand(layer, 1)
    if not a.type.rank or not b.type.rank:
        raise layer.invalid("an operand is a scalar")
    row, column = a.type.rank == 1, b.type.rank == 1
    if row:
        a = layer.emit(Reshape((1, *a.type.shape)), a)
    if column:
        b = layer.emit(Reshape((*b.type.shape, 1)), b)
    result = layer.emit(Matmul(), a, b)
    if row or column:
        shape = list(result.type.shape)
        if column:
            del shape[-1]
        if row:
            del shape[-1 if column else -2]
        result = layer.emit(Reshape(tuple(shape)), result)
    return result


@handles("Gemm")
def _gemm(layer: Layer) -> Value:
    alpha, beta = layer.number("alpha", 1.0), layer.number("beta", 1.0)
    a = float_operand(layer)
    if a.type.rank != 2:
        raise layer.invalid(f"operand 0 must have rank 2, found {a.type.rank}")
    if layer.integer("transA", 0):
        a = layer.emit(Transpose((1, 0)), a)
    # A constant factor goes into the constant operand, so that no separate multiplication is left.
    folded = alpha == 1 or layer.known(1)
    b = _scaled(layer, 1, alpha) if folded else float_operand(layer, 1)
    if b.type.rank != 2:
        raise layer.invalid(f"operand 1 must have rank 2, found {b.type.rank}")
    product = Matmul(bool(layer.integer("transB", 0)))
    bias = _gemm_bias(layer, b, beta) if folded and layer.has(2) else None
    if bias is not None:
        return layer.emit(product, a, b, bias)
    result = layer.emit(product, a, b)
    if not folded:
        result = layer.emit(Mul(), result, layer.constant(alpha))
    if layer.has(2) and beta != 0:
        result = layer.emit(Add(), result, _scaled(layer, 2, beta))
    return result


def _gemm_bias(layer: Layer, weight: Value, beta: float) -> Value | None:
    """C as a bias along the last axis; None where it is not one."""
    if not layer.known(2):
        return None
    array = layer.parameter(2, "C")
    outputs = weight.type.shape[0 if layer.integer("transB", 0) else 1]
    if array.dtype != np.float32 or array.shape not in ((outputs,), (1, outputs)):
        return None
    if array.ndim == 1:
        return _scaled(layer, 2, beta)
    check_finite(array, layer.node.input[2], layer.name)
    return layer.constant(array.reshape(-1) * np.float32(beta), Untraced(f"{layer.node.input[2]} as a bias"))


def _scaled(layer: Layer, index: int, factor: float) -> Value:
    """Operand ``index`` times ``factor``."""
    if factor == 1:
        return float_operand(layer, index)
    scale = np.float32(factor)
    if not layer.known(index):
        return layer.emit(Mul(), float_operand(layer, index), layer.constant(scale))
    array = layer.parameter(index, f"operand {index}")
    check_finite(array, layer.node.input[index], layer.name)
    return layer.constant(array * scale, Original(layer.node.input[index], factor=ConstantArray(scale)))
