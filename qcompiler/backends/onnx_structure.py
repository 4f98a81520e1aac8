"""ONNX forms of ops that work along axes: moving, selecting, reducing and normalizing."""

from __future__ import annotations

import numpy as np

from qcompiler.backends.onnx_emitter import CHANNELS_FIRST, OnnxEmitter, structural
from qcompiler.ir import Node
from qcompiler.ir.scalar import I64
from qcompiler.ops import layer_norm, normalization, reduction, shape, slicing

_REDUCTIONS = {
    "reduce_max": "ReduceMax", "reduce_min": "ReduceMin", "mean": "ReduceMean", "reduce_sum": "ReduceSum",
    "reduce_product": "ReduceProd",
}
_BEFORE_FIRST = -(1 << 62)
"""An end of a slice that lies before element 0; ONNX would count -1 from the back."""


@structural("reshape")
def _reshape(emitter: OnnxEmitter, node: Node) -> None:
    emitter.define(node.result, emitter.reshape(emitter.name(node.operands[0]), node.result.type.shape))


@structural("transpose")
def _transpose(emitter: OnnxEmitter, node: Node) -> None:
    op, source = node.op, emitter.resolve(node.operands[0])
    assert isinstance(op, shape.Transpose)
    if source in emitter.static:
        emitter.static[node.result] = emitter.static[source].transpose(op.permutation)
    else:
        emitter.define(node.result, emitter.transposed(source, op.permutation))


@structural("expand")
def _expand(emitter: OnnxEmitter, node: Node) -> None:
    (operand,) = node.operands
    source, result = operand.type.shape, node.result.type.shape
    aligned = (1,) * (len(result) - len(source)) + source
    # ONNX broadcasts in both directions: where the operand has the length already, 1 will do.
    lengths = [1 if have == want else want for have, want in zip(aligned, result, strict=True)]
    if all(isinstance(d, int) for d in lengths):
        target = emitter.integers(d for d in lengths if isinstance(d, int))
    else:
        target = emitter.emit("Concat", [emitter.dimension(d) for d in lengths], axis=0)
    emitter.define(node.result, emitter.emit("Expand", [emitter.name(operand), target]))


@structural("concat")
def _concat(emitter: OnnxEmitter, node: Node) -> None:
    op = node.op
    assert isinstance(op, shape.Concat)
    if all(emitter.is_channels_first(v) for v in node.operands):
        names, axis = [emitter.channels_first(v) for v in node.operands], CHANNELS_FIRST.index(op.axis % 4)
        emitter.define(node.result, emitter.emit("Concat", names, axis=axis), CHANNELS_FIRST)
    else:
        names = [emitter.name(v) for v in node.operands]
        emitter.define(node.result, emitter.emit("Concat", names, axis=op.axis))


@structural("slice")
def _slice(emitter: OnnxEmitter, node: Node) -> None:
    op = node.op
    assert isinstance(op, slicing.Slice)
    ends = [_BEFORE_FIRST if end < 0 else end for end in op.ends]
    lists = [emitter.integers(values) for values in (op.starts, ends, op.axes, op.steps)]
    emitter.define(node.result, emitter.emit("Slice", [emitter.name(node.operands[0]), *lists]))


@structural("split")
def _split(emitter: OnnxEmitter, node: Node) -> None:
    op = node.op
    assert isinstance(op, slicing.Split)
    operands = [emitter.name(node.operands[0]), emitter.integers(op.sizes)]
    names = emitter.emit_many("Split", operands, len(op.sizes), axis=op.axis)
    for value, name in zip(node.results, names, strict=True):
        emitter.define(value, name)


@structural("pad")
def _pad(emitter: OnnxEmitter, node: Node) -> None:
    op, (operand,) = node.op, node.operands
    assert isinstance(op, slicing.Pad)
    fill = [emitter.constant(op.value, operand.type.storage.dtype)] if op.mode == "constant" else []
    if emitter.is_channels_first(operand):
        widths = emitter.integers(counts[axis] for counts in (op.before, op.after) for axis in CHANNELS_FIRST)
        name = emitter.emit("Pad", [emitter.channels_first(operand), widths, *fill], mode=op.mode)
        emitter.define(node.result, name, CHANNELS_FIRST)
    else:
        widths = emitter.integers((*op.before, *op.after))
        emitter.define(node.result, emitter.emit("Pad", [emitter.name(operand), widths, *fill], mode=op.mode))


@structural("gather")
def _gather(emitter: OnnxEmitter, node: Node) -> None:
    op, (data, indices) = node.op, node.operands
    assert isinstance(op, slicing.Gather)
    # ONNX takes no narrower or unsigned indices.
    wide = emitter.cast(emitter.name(indices), indices.type.storage.dtype, I64.dtype)
    emitter.define(node.result, emitter.emit("Gather", [emitter.name(data), wide], axis=op.axis))


@structural(*_REDUCTIONS)
def _reduce(emitter: OnnxEmitter, node: Node) -> None:
    op, (operand,) = node.op, node.operands
    assert isinstance(op, reduction.Reduction)
    kind = _REDUCTIONS[op.name]
    if emitter.is_channels_first(operand) and (op.keepdims or 3 in op.axes or {1, 2} <= set(op.axes)):
        axes = emitter.integers(sorted(CHANNELS_FIRST.index(a) for a in op.axes))
        name = emitter.emit(kind, [emitter.channels_first(operand), axes], keepdims=int(op.keepdims))
        # Without the reduced axes, what is left stands in the same order in both layouts.
        emitter.define(node.result, name, CHANNELS_FIRST if op.keepdims else None)
    else:
        name = emitter.emit(kind, [emitter.name(operand), emitter.integers(op.axes)], keepdims=int(op.keepdims))
        emitter.define(node.result, name)


@structural("argmax")
def _argmax(emitter: OnnxEmitter, node: Node) -> None:
    op = node.op
    assert isinstance(op, reduction.ArgMax)
    name = emitter.emit(
        "ArgMax", [emitter.name(node.operands[0])], axis=op.axis, keepdims=int(op.keepdims), select_last_index=0
    )
    emitter.define(node.result, name)


@structural("softmax")
def _softmax(emitter: OnnxEmitter, node: Node) -> None:
    op = node.op
    assert isinstance(op, normalization.Softmax)
    emitter.define(node.result, emitter.emit("Softmax", [emitter.name(node.operands[0])], axis=op.axis))


@structural("layer_norm")
def _layer_norm(emitter: OnnxEmitter, node: Node) -> None:
    op = node.op
    assert isinstance(op, layer_norm.LayerNorm)
    x, scale, shift = (emitter.name(v) for v in node.operands)
    # ONNX's own LayerNormalization runs over the last axes alone.
    axes = emitter.integers(op.axes)
    centered = emitter.emit("Sub", [x, emitter.emit("ReduceMean", [x, axes])])
    variance = emitter.emit("ReduceMean", [emitter.emit("Mul", [centered, centered]), axes])
    epsilon = emitter.constant(np.asarray(op.epsilon, np.float32))
    deviation = emitter.emit("Sqrt", [emitter.emit("Add", [variance, epsilon])])
    scaled = emitter.emit("Mul", [emitter.emit("Div", [centered, deviation]), scale])
    emitter.define(node.result, emitter.emit("Add", [scaled, shift]))


@structural("batch_norm")
def _batch_norm(emitter: OnnxEmitter, node: Node) -> None:
    op = node.op
    assert isinstance(op, normalization.BatchNorm)
    names = [emitter.name(v) for v in node.operands]
    emitter.define(node.result, emitter.emit("BatchNormalization", names, epsilon=op.epsilon))
