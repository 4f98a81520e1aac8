"""ONNX forms of element-wise ops, fake_quant among them; and of a fake_block that does nothing."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from onnx import helper

from qcompiler.backends.fake_quant_simulation import Grid, is_identity, simulated_grid
from qcompiler.backends.onnx_emitter import CHANNELS_FIRST, OnnxEmitter, elementwise, structural
from qcompiler.ir import Node
from qcompiler.ops import activation
from qcompiler.ops.quantization import Cast, FakeQuant

_SAME_ATTRIBUTES = {
    "relu": "Relu", "leaky_relu": "LeakyRelu", "elu": "Elu", "celu": "Celu", "selu": "Selu", "sigmoid": "Sigmoid",
    "tanh": "Tanh", "hard_sigmoid": "HardSigmoid", "hard_swish": "HardSwish", "gelu": "Gelu",
    "softplus": "Softplus", "softsign": "Softsign", "erf": "Erf", "exp": "Exp", "log": "Log", "sqrt": "Sqrt",
    "reciprocal": "Reciprocal", "abs": "Abs", "negate": "Neg", "floor": "Floor", "ceil": "Ceil",
}
"""Functions of one number whose attributes ONNX spells as the op does."""

_BINARY = {
    "add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "pow": "Pow", "maximum": "Max", "minimum": "Min",
    "equal": "Equal",
}


@elementwise(*_SAME_ATTRIBUTES)
def _unary(emitter: OnnxEmitter, node: Node, names: list[str]) -> str:
    return emitter.emit(_SAME_ATTRIBUTES[node.op.name], names, **node.op.attributes())


@elementwise(*_BINARY)
def _binary(emitter: OnnxEmitter, node: Node, names: list[str]) -> str:
    return emitter.emit(_BINARY[node.op.name], names)


@elementwise("silu")
def _silu(emitter: OnnxEmitter, node: Node, names: list[str]) -> str:
    return emitter.emit("Mul", [names[0], emitter.emit("Sigmoid", names)])


@elementwise("mish")
def _mish(emitter: OnnxEmitter, node: Node, names: list[str]) -> str:
    return emitter.emit("Mul", [names[0], emitter.emit("Tanh", [emitter.emit("Softplus", names)])])


@elementwise("clip")
def _clip(emitter: OnnxEmitter, node: Node, names: list[str]) -> str:
    op = node.op
    assert isinstance(op, activation.Clip)
    dtype = node.result.type.storage.dtype
    # ONNX leaves an operand out by an empty name.
    limits = [emitter.constant(v, dtype) if math.isfinite(v) else "" for v in op.limits]
    return emitter.emit("Clip", [*names, *limits])


@elementwise("power")
def _power(emitter: OnnxEmitter, node: Node, names: list[str]) -> str:
    op = node.op
    assert isinstance(op, activation.Power)
    return emitter.emit("Pow", [*names, emitter.constant(op.exponent, node.result.type.storage.dtype)])


@elementwise("prelu")
def _prelu(emitter: OnnxEmitter, node: Node, names: list[str]) -> str:
    x, slope = names
    if node.operands[0].type.shape == node.result.type.shape:
        return emitter.emit("PRelu", [x, slope])
    # ONNX broadcasts the slope to x, never x to the slope.
    zero = emitter.constant(0, node.result.type.storage.dtype)
    positive = emitter.emit("GreaterOrEqual", [x, zero])
    return emitter.emit("Where", [positive, x, emitter.emit("Mul", [slope, x])])


@elementwise("cast")
def _cast(emitter: OnnxEmitter, node: Node, names: list[str]) -> str:
    op = node.op
    assert isinstance(op, Cast)
    return emitter.emit("Cast", names, to=helper.np_dtype_to_tensor_dtype(op.to.dtype))


@structural("fake_quant")
def _fake_quant(emitter: OnnxEmitter, node: Node) -> None:
    op, (operand,) = node.op, node.operands
    assert isinstance(op, FakeQuant)
    if is_identity(node, emitter.bypass):
        emitter.alias(node.result, operand)
        return
    dtype = operand.type.storage.dtype
    grid = simulated_grid(op, operand.type.shape, dtype, emitter.bits)
    source = emitter.resolve(operand)
    if source in emitter.static:
        emitter.static[node.result] = grid.evaluate(emitter.static[source])
    elif not op.blocks and emitter.is_channels_first(operand):
        simulated = _on_grid(emitter, emitter.channels_first(operand), grid, dtype)
        emitter.define(node.result, simulated, CHANNELS_FIRST)
    else:
        emitter.define(node.result, _on_grid(emitter, emitter.name(operand), grid, dtype))


@structural("fake_block")
def _fake_block(emitter: OnnxEmitter, node: Node) -> None:
    # One that rounds has no ONNX form.
    assert is_identity(node, emitter.bypass)
    emitter.alias(node.result, node.operands[0])


def _on_grid(emitter: OnnxEmitter, x: str, grid: Grid, dtype: np.dtype[Any]) -> str:
    """The steps of :meth:`Grid.evaluate`, one by one, so that each rounds where numpy rounds."""
    x = emitter.cast(x, dtype, grid.division)
    x = emitter.emit("Div", [x, emitter.constant(grid.scale, grid.division)])
    x = emitter.cast(emitter.emit("Round", [x]), grid.division, grid.product)
    if grid.low.ndim == 0 or bool((grid.low == grid.low.flat[0]).all() and (grid.high == grid.high.flat[0]).all()):
        limits = [emitter.constant(limit.flat[0], grid.product) for limit in (grid.low, grid.high)]
        x = emitter.emit("Clip", [x, *limits])
    else:
        x = emitter.emit("Max", [x, emitter.constant(grid.low, grid.product)])
        x = emitter.emit("Min", [x, emitter.constant(grid.high, grid.product)])
    x = emitter.emit("Add", [x, emitter.constant(0, grid.product)])
    x = emitter.emit("Mul", [x, emitter.constant(grid.scale, grid.product)])
    return emitter.cast(x, grid.product, dtype)
