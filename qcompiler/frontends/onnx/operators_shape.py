"""Handlers of operators that move, select or repeat elements."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from qcompiler.frontends.onnx.layer import Layer, UnsupportedOperator, handles, static_sizes
from qcompiler.frontends.onnx.shape_arithmetic import FIX_BATCH, resolve_reshape, slice_parameters
from qcompiler.frontends.onnx.tensor_data import tensor_array
from qcompiler.ir import Dim, Node, Shape, SymbolicDim, Value
from qcompiler.ir.dimension import broadcast_shapes, element_count
from qcompiler.ops.shape import Concat, Expand, Reshape, Transpose
from qcompiler.ops.slicing import Gather, Pad, Slice, Split


def reshape_to(layer: Layer, x: Value, shape: Shape) -> Value:
    """``x`` under another shape; ``x`` itself where it has it."""
    return x if x.type.shape == shape else layer.emit(Reshape(shape), x)


@handles("Reshape")
def _reshape(layer: Layer) -> Value:
    x = layer.operand(0)
    target = layer.parameter(1, "the target shape").reshape(-1).tolist()
    return reshape_to(layer, x, resolve_reshape(layer, x.type.shape, target))


@handles("Flatten")
def _flatten(layer: Layer) -> Value:
    x = layer.operand(0)
    shape, rank = x.type.shape, x.type.rank
    axis = layer.integer("axis", 1)
    if not -rank <= axis <= rank:
        raise layer.invalid(f"axis {axis} is outside rank {rank}")
    axis = axis + rank if axis < 0 else axis
    return reshape_to(layer, x, (element_count(shape[:axis]), element_count(shape[axis:])))


@handles("Squeeze")
def _squeeze(layer: Layer) -> Value:
    x = layer.operand(0)
    shape, rank = x.type.shape, x.type.rank
    axes = layer.axes(1, 13)
    if axes is None:
        if any(isinstance(d, SymbolicDim) for d in shape):
            raise UnsupportedOperator("squeezes every axis of size 1, which the batch may have; name the axes")
        chosen = {i for i, d in enumerate(shape) if d == 1}
    else:
        chosen = {layer.axis(a, rank) for a in axes}
    for axis in chosen:
        if shape[axis] != 1:
            raise layer.invalid(f"axis {axis} has size {shape[axis]}, not 1")
    return reshape_to(layer, x, tuple(d for i, d in enumerate(shape) if i not in chosen))


@handles("Unsqueeze")
def _unsqueeze(layer: Layer) -> Value:
    x = layer.operand(0)
    axes = layer.axes(1, 13) or []
    rank = x.type.rank + len(axes)
    chosen = {layer.axis(a, rank) for a in axes}
    if len(chosen) != len(axes):
        raise layer.invalid(f"axes {axes} repeat one")
    rest = iter(x.type.shape)
    return reshape_to(layer, x, tuple(1 if i in chosen else next(rest) for i in range(rank)))


@handles("Transpose")
def _transpose(layer: Layer) -> Value:
    x = layer.operand(0)
    permutation = layer.integers("perm") or list(range(x.type.rank))[::-1]
    if permutation == list(range(x.type.rank)):
        return x
    return layer.emit(Transpose(tuple(permutation)), x)


@handles("Expand")
def _expand(layer: Layer) -> Value:
    x = layer.operand(0)
    target = layer.parameter(1, "the target shape").reshape(-1).tolist()
    try:
        unchanged = broadcast_shapes(x.type.shape, tuple(target)) == x.type.shape
    except ValueError as error:
        raise layer.invalid(str(error), fix=FIX_BATCH) from error
    return x if unchanged else layer.emit(Expand(tuple(target)), x)


@handles("Tile")
def _tile(layer: Layer) -> Value:
    x = layer.operand(0)
    repeats = layer.fixed_integers(1, "the repeats operand")
    if len(repeats) != x.type.rank or min(repeats, default=1) < 1:
        raise layer.invalid(f"repeats {repeats} do not fit an operand of rank {x.type.rank}")
    for axis, count in enumerate(repeats):
        if count > 1:
            static_sizes(layer, x.type.shape, [axis])
            x = layer.emit(Concat(axis), *[x] * count)
    return x


@handles("ConstantOfShape")
def _constant_of_shape(layer: Layer) -> Value:
    """Only shapes that hold the batch come here; others are evaluated at import."""
    value = layer.attributes.get("value")
    fill = np.zeros(1, np.float32) if value is None else tensor_array(value, layer.name)
    shape = tuple(layer.parameter(0, "the shape").reshape(-1).tolist())
    return layer.emit(Expand(shape), layer.constant(fill.reshape((1,) * len(shape))))


@handles("Concat")
def _concat(layer: Layer) -> Value:
    operands = layer.operands()
    axis = layer.axis(layer.integer("axis", 0), operands[0].type.rank)
    if len(operands) == 1:
        return operands[0]
    return layer.emit(Concat(axis), *operands)


@handles("Split")
def _split(layer: Layer) -> Sequence[Value]:
    x = layer.operand(0)
    axis = layer.axis(layer.integer("axis", 0), x.type.rank)
    (length,) = static_sizes(layer, x.type.shape, [axis])
    sizes = layer.integers("split") if layer.opset < 13 else None
    if layer.opset >= 13 and layer.has(1):
        sizes = layer.fixed_integers(1, "the split operand")
    if sizes is None:
        # Equal parts; from opset 18 on the last one may be smaller.
        parts = layer.integer("num_outputs", len(layer.node.output))
        if parts < 1:
            raise layer.invalid(f"num_outputs is {parts}")
        size = -(-length // parts)
        sizes = [max(min(size, length - i * size), 0) for i in range(parts)]
    if len(sizes) != len(layer.node.output):
        raise layer.invalid(f"{len(sizes)} parts for {len(layer.node.output)} outputs")
    node: Node = layer.emit_node(Split(axis, tuple(sizes)), (x,))
    return node.results


@handles("Slice")
def _slice(layer: Layer) -> Value:
    x = layer.operand(0)
    shape = x.type.shape
    ranges = [
        (axis, *_slice_range(layer, shape[axis], axis, start, end, step))
        for axis, start, end, step in zip(*slice_parameters(layer, len(shape)), strict=True)
    ]
    kept = sorted(r for r in ranges if r[1:] != (0, shape[r[0]], 1))
    if not kept:
        return x
    axes, starts, ends, steps = zip(*kept, strict=True)
    return layer.emit(Slice(axes, starts, ends, steps), x)


def _slice_range(layer: Layer, size: Dim, axis: int, start: object, end: object, step: int) -> tuple[int, Dim, int]:
    """Start, end and step, counted from the front and within ``size``."""
    if step == 0:
        raise layer.invalid("has a step of 0")
    if isinstance(size, SymbolicDim):
        # Exporters write a huge number for "to the end".
        if start == 0 and step == 1 and (end == size or (isinstance(end, int) and end >= 2**31 - 1)):
            return 0, size, 1
        raise UnsupportedOperator(f"it cuts axis {axis}, whose size {size} is free; fix the batch")
    if not isinstance(start, int) or not isinstance(end, int):
        raise UnsupportedOperator("starts or ends depend on the batch size; fix the batch")
    start = start + size if start < 0 else start
    end = end + size if end < 0 else end
    if step > 0:
        return min(max(start, 0), size), min(max(end, 0), size), step
    return min(max(start, 0), size - 1), min(max(end, -1), size - 1), step


@handles("Pad")
def _pad(layer: Layer) -> Value:
    x = layer.operand(0)
    rank = x.type.rank
    mode = layer.text("mode", "constant")
    if mode not in ("constant", "reflect", "edge"):
        raise UnsupportedOperator(f"mode={mode}")
    if layer.opset < 11:
        pads, value, axes = layer.integers("pads") or [], layer.number("value", 0.0), None
    else:
        pads = layer.fixed_integers(1, "the pads operand")
        value = float(layer.parameter(2, "the padding value").reshape(-1)[0]) if layer.has(2) else 0.0
        axes = layer.fixed_integers(3, "the axes operand") if layer.has(3) else None
    chosen = list(range(rank)) if axes is None else [layer.axis(a, rank) for a in axes]
    if len(pads) != 2 * len(chosen):
        raise layer.invalid(f"{len(pads)} pads for {len(chosen)} axes")
    before, after = [0] * rank, [0] * rank
    for i, axis in enumerate(chosen):
        before[axis], after[axis] = pads[i], pads[i + len(chosen)]
    if mode != "constant" and min(pads, default=0) < 0:
        raise UnsupportedOperator(f"negative padding in mode {mode}")
    x = _cut(layer, x, before, after)
    widths = tuple(max(b, 0) for b in before), tuple(max(a, 0) for a in after)
    return layer.emit(Pad(*widths, mode, value), x) if any(map(any, widths)) else x


def _cut(layer: Layer, x: Value, before: Sequence[int], after: Sequence[int]) -> Value:
    """Negative padding removes elements."""
    axes = tuple(i for i in range(x.type.rank) if before[i] < 0 or after[i] < 0)
    if not axes:
        return x
    sizes = static_sizes(layer, x.type.shape, axes)
    starts = tuple(max(-before[a], 0) for a in axes)
    ends = tuple(size - max(-after[a], 0) for a, size in zip(axes, sizes, strict=True))
    return layer.emit(Slice(axes, starts, ends, (1,) * len(axes)), x)


@handles("Gather")
def _gather(layer: Layer) -> Value:
    x = layer.operand(0)
    axis = layer.axis(layer.integer("axis", 0), x.type.rank)
    if layer.known(1):
        (size,) = static_sizes(layer, x.type.shape, [axis])
        indices = np.asarray(layer.fixed_integers(1, "the indices"))
        if indices.size and not -size <= indices.min() <= indices.max() < size:
            raise layer.invalid(f"an index lies outside [-{size}, {size})")
    return layer.emit(Gather(axis), x, layer.operand(1))


@handles("DepthToSpace")
def _depth_to_space(layer: Layer) -> Value:
    x, block = _blocks(layer)
    batch, channels, height, width = x.type.shape
    (count,) = static_sizes(layer, x.type.shape, [1])
    if count % block**2:
        raise layer.invalid(f"{channels} channels do not divide into blocks of {block}x{block}")
    depth = count // block**2
    if layer.text("mode", "DCR") == "CRD":
        split, order = (batch, depth, block, block, height, width), (0, 1, 4, 2, 5, 3)
    else:
        split, order = (batch, block, block, depth, height, width), (0, 3, 4, 1, 5, 2)
    moved = layer.emit(Transpose(order), layer.emit(Reshape(split), x))
    high, wide = static_sizes(layer, x.type.shape, (2, 3))
    return layer.emit(Reshape((batch, depth, high * block, wide * block)), moved)


@handles("SpaceToDepth")
def _space_to_depth(layer: Layer) -> Value:
    x, block = _blocks(layer)
    batch = x.type.shape[0]
    depth, high, wide = static_sizes(layer, x.type.shape, (1, 2, 3))
    if math.gcd(high, wide) % block:
        raise layer.invalid(f"size {high}x{wide} does not divide into blocks of {block}x{block}")
    split = layer.emit(Reshape((batch, depth, high // block, block, wide // block, block)), x)
    moved = layer.emit(Transpose((0, 3, 5, 1, 2, 4)), split)
    return layer.emit(Reshape((batch, depth * block**2, high // block, wide // block)), moved)


def _blocks(layer: Layer) -> tuple[Value, int]:
    x, block = layer.operand(0), layer.integer("blocksize", 1)
    if x.type.rank != 4 or block < 1:
        raise layer.invalid(f"needs rank 4 and a positive block size, found rank {x.type.rank} and {block}")
    return x, block
