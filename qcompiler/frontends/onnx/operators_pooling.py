"""Handlers of pooling operators."""

from __future__ import annotations

from qcompiler.frontends.onnx.layer import Layer, UnsupportedOperator, handles
from qcompiler.frontends.onnx.operators_elementwise import float_operand
from qcompiler.frontends.onnx.spatial import Window, as_two_dimensional
from qcompiler.ir import Value
from qcompiler.ops.pooling import AveragePool2D, MaxPool2D
from qcompiler.ops.reduction import Mean, ReduceMax
from qcompiler.ops.slicing import Pad


@handles("MaxPool")
def _max_pool(layer: Layer) -> Value:
    x = layer.operand(0)
    window = Window.read(layer, x, kernel=layer.integers("kernel_shape") or [])
    op = MaxPool2D(window.kernel, window.strides, window.dilations, window.extended_pads)
    return as_two_dimensional(layer, x, lambda image: layer.emit(op, image))


@handles("AveragePool")
def _average_pool(layer: Layer) -> Value:
    x = float_operand(layer)
    window = Window.read(layer, x, kernel=layer.integers("kernel_shape") or [])
    if window.dilations != (1, 1):
        raise UnsupportedOperator(f"dilations {window.dilations} of an average")
    counted = layer.integer("count_include_pad", 0) == 1 and any(window.pads)

    def pool(image: Value) -> Value:
        if not counted:
            return layer.emit(AveragePool2D(window.kernel, window.strides, window.extended_pads), image)
        # Padding that counts becomes part of the input; what ceil_mode adds never counts.
        top, left, bottom, right = window.pads
        padded = layer.emit(Pad((0, 0, top, left), (0, 0, bottom, right)), image)
        return layer.emit(AveragePool2D(window.kernel, window.strides, (0, 0, *window.extension)), padded)

    return as_two_dimensional(layer, x, pool)


@handles("GlobalAveragePool")
def _global_average_pool(layer: Layer) -> Value:
    x = float_operand(layer)
    return layer.emit(Mean(tuple(range(2, x.type.rank))), x)


@handles("GlobalMaxPool")
def _global_max_pool(layer: Layer) -> Value:
    x = layer.operand(0)
    return layer.emit(ReduceMax(tuple(range(2, x.type.rank))), x)
