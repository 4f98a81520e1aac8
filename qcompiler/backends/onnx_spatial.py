"""ONNX forms of contractions, pooling and resampling. All spatial ops run channels first."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcompiler.backends.onnx_emitter import CHANNELS_FIRST, CHANNELS_LAST, OnnxEmitter, structural
from qcompiler.ir import Node, Shape, Value
from qcompiler.ir.dimension import static_shape
from qcompiler.ops.contraction import Conv2D, Conv2DBase, ConvTranspose2D, Matmul
from qcompiler.ops.pooling import AveragePool2D, MaxPool2D, Pool2D
from qcompiler.ops.resize import Resize

Array = NDArray[Any]


def _spatial_operand(emitter: OnnxEmitter, value: Value, layout: str) -> str:
    return emitter.channels_first(value) if layout == "NHWC" else emitter.name(value)


def _define_spatial(emitter: OnnxEmitter, value: Value, name: str, layout: str) -> None:
    emitter.define(value, name, CHANNELS_FIRST if layout == "NHWC" else None)


@structural("conv2d")
def _conv2d(emitter: OnnxEmitter, node: Node) -> None:
    op, (x, w, *bias) = node.op, node.operands
    assert isinstance(op, Conv2D)
    operands = [_spatial_operand(emitter, v, op.layout) for v in (x, w)] + [emitter.name(b) for b in bias]
    name = emitter.emit(
        "Conv", operands, strides=op.strides, dilations=op.dilations, pads=op.pads, group=op.groups
    )
    _define_spatial(emitter, node.result, name, op.layout)


@structural("conv_transpose2d")
def _conv_transpose2d(emitter: OnnxEmitter, node: Node) -> None:
    op, (x, w, *bias) = node.op, node.operands
    assert isinstance(op, ConvTranspose2D)
    source = _spatial_operand(emitter, x, op.layout)
    ends, output_padding = list(op.pads[2:]), list(op.output_padding)
    zeros = [0, 0]
    for i, stride in enumerate(op.strides):
        shared = min(ends[i], output_padding[i])
        ends[i] -= shared
        output_padding[i] -= shared
        if output_padding[i] >= stride:
            # ONNX Runtime refuses this. A row of zeros behind the input adds ``stride`` rows to the result.
            zeros[i] = -(-output_padding[i] // stride)
            ends[i] += zeros[i] * stride - output_padding[i]
            output_padding[i] = 0
    if any(zeros):
        source = emitter.emit("Pad", [source, emitter.integers((0, 0, 0, 0, 0, 0, *zeros))])
    name = emitter.emit(
        "ConvTranspose", [source, _inputs_first(emitter, op, w), *(emitter.name(b) for b in bias)],
        strides=op.strides, dilations=op.dilations, pads=(*op.pads[:2], *ends), output_padding=output_padding,
        group=op.groups,
    )
    _define_spatial(emitter, node.result, name, op.layout)


def _inputs_first(emitter: OnnxEmitter, op: Conv2DBase, weights: Value) -> str:
    """Weights ``[O, C / groups, KH, KW]`` as ONNX ConvTranspose takes them: ``[C, O / groups, KH, KW]``."""
    if op.groups == 1:
        # One permutation from either layout.
        return emitter.transposed(weights, (3, 0, 1, 2) if op.layout == "NHWC" else (1, 0, 2, 3))
    outputs, inputs = op.channels(weights.type.shape)
    kernel = op.kernel(weights.type.shape)
    split = (op.groups, outputs // op.groups, inputs, *kernel)
    joined = (op.groups * inputs, outputs // op.groups, *kernel)
    source = emitter.resolve(weights)
    if source in emitter.static:
        array = emitter.static[source]
        array = array.transpose(CHANNELS_FIRST) if op.layout == "NHWC" else array
        return emitter.constant(array.reshape(split).swapaxes(1, 2).reshape(joined))
    grouped = emitter.reshape(_spatial_operand(emitter, weights, op.layout), split)
    return emitter.reshape(emitter.emit("Transpose", [grouped], perm=(0, 2, 1, 3, 4)), joined)


@structural("matmul")
def _matmul(emitter: OnnxEmitter, node: Node) -> None:
    op, (x, w, *bias) = node.op, node.operands
    assert isinstance(op, Matmul)
    if x.type.rank == w.type.rank == 2:
        names = [emitter.name(v) for v in node.operands]
        emitter.define(node.result, emitter.emit("Gemm", names, transB=int(op.transpose_b)))
        return
    rank = w.type.rank
    swapped = (*range(rank - 2), rank - 1, rank - 2)
    weights = emitter.transposed(w, swapped) if op.transpose_b else emitter.name(w)
    product = emitter.emit("MatMul", [emitter.name(x), weights])
    for value in bias:
        product = emitter.emit("Add", [product, emitter.name(value)])
    emitter.define(node.result, product)


@structural("max_pool2d", "average_pool2d")
def _pool(emitter: OnnxEmitter, node: Node) -> None:
    op, (operand,) = node.op, node.operands
    assert isinstance(op, MaxPool2D | AveragePool2D)
    x = _spatial_operand(emitter, operand, op.layout)
    kind = "MaxPool" if isinstance(op, MaxPool2D) else "AveragePool"
    attributes = {"kernel_shape": op.kernel, "strides": op.strides, "dilations": op.dilations}
    if all(pad < op.kernel[i % 2] for i, pad in enumerate(op.pads)):
        name = emitter.emit(kind, [x], pads=op.pads, **attributes)
    else:
        name = _pool_padded_apart(emitter, x, op, operand, kind, attributes)
    _define_spatial(emitter, node.result, name, op.layout)


def _pool_padded_apart(
    emitter: OnnxEmitter, x: str, op: Pool2D, operand: Value, kind: str, attributes: dict[str, Any]
) -> str:
    """ONNX Runtime refuses pads as long as the kernel: pad first, and mend the count of an average."""
    storage = operand.type.storage
    lowest = -np.inf if storage.is_float else storage.minimum
    fill = emitter.constant(lowest if kind == "MaxPool" else 0, storage.dtype)
    top, left, bottom, right = op.pads
    padded = emitter.emit("Pad", [x, emitter.integers((0, 0, top, left, 0, 0, bottom, right)), fill])
    pooled = emitter.emit(kind, [padded], **attributes)
    if kind == "MaxPool":
        return pooled
    first = 1 if op.layout == "NHWC" else 2
    inside = np.ones((1, *static_shape(operand.type.shape[first : first + 2]), 1))
    counts = op.padded_windows(inside, 0).sum((-1, -2)).transpose(CHANNELS_FIRST)
    with np.errstate(divide="ignore"):
        factor = op.kernel[0] * op.kernel[1] / counts
    return emitter.emit("Mul", [pooled, emitter.constant(factor, storage.dtype)])


@structural("resize")
def _resize(emitter: OnnxEmitter, node: Node) -> None:
    op, (operand,) = node.op, node.operands
    assert isinstance(op, Resize)
    axes = tuple(a % operand.type.rank for a in op.axes)
    channels_first = operand.type.rank == 4 and axes == (1, 2)
    if channels_first:
        axes = (2, 3)
    lengths = static_shape(tuple(operand.type.shape[a] for a in op.axes))
    whole_factors = all(size % length == 0 for size, length in zip(op.sizes, lengths, strict=True))
    if op.mode == "nearest" and not (whole_factors and op.coordinates != "align_corners"):
        x = emitter.channels_first(operand) if channels_first else emitter.name(operand)
        # ONNX Runtime finds source positions in float32. By whole factors they are exact where they decide about
        # an index; elsewhere the indices are written out.
        for axis, length, size in zip(axes, lengths, op.sizes, strict=True):
            x = emitter.emit("Gather", [x, emitter.integers(op.nearest_indices(length, size))], axis=axis)
    elif channels_first or (operand.type.rank == 4 and axes == (2, 3)):
        x = emitter.channels_first(operand) if channels_first else emitter.name(operand)
        x = _resize_channels_first(emitter, x, op)
    else:
        x = _resize_any_rank(emitter, operand, op, axes[0], node.result.type.shape)
    emitter.define(node.result, x, CHANNELS_FIRST if channels_first else None)


def _resize_any_rank(emitter: OnnxEmitter, operand: Value, op: Resize, axis: int, result: Shape) -> str:
    """ONNX Runtime interpolates along the last two of four axes: fold the others around them."""
    leading, trailing = operand.type.shape[:axis], operand.type.shape[axis + 2 :]
    folded = (_fold(leading), *operand.type.shape[axis : axis + 2], _fold(trailing))
    x = emitter.emit("Reshape", [emitter.name(operand), emitter.integers(static_shape(folded))])
    x = _resize_channels_first(emitter, emitter.emit("Transpose", [x], perm=CHANNELS_FIRST), op)
    return emitter.reshape(emitter.emit("Transpose", [x], perm=CHANNELS_LAST), result)


def _fold(dims: Shape) -> int:
    """One dimension for all of ``dims``: -1, for ONNX to fill in, where one is free."""
    if not all(isinstance(d, int) for d in dims):
        return -1
    return int(np.prod(static_shape(dims), dtype=np.int64))


def _resize_channels_first(emitter: OnnxEmitter, x: str, op: Resize) -> str:
    # The attribute "axes" would spare the leading sizes, but ONNX Runtime's transpose optimizer overlooks it.
    leading = emitter.emit("Shape", [x], start=0, end=2)
    sizes = emitter.emit("Concat", [leading, emitter.integers(op.sizes)], axis=0)
    return emitter.emit(
        "Resize", [x, "", "", sizes], mode=op.mode, coordinate_transformation_mode=op.coordinates,
        nearest_mode=op.nearest,
    )
