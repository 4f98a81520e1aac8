"""Ops that move numbers without changing them."""

from __future__ import annotations

from math import prod

import numpy as np

from qcompiler.backends.lowering import lowering
from qcompiler.backends.tvm.kernel_program import NoLowering, ProgramBuilder
from qcompiler.backends.tvm.kernels.gather import Gather as GatherKernel
from qcompiler.backends.tvm.kernels.movement import Fill, box_copy, broadcast_copy, slice_copy
from qcompiler.backends.tvm.kernels.transpose import transpose
from qcompiler.backends.tvm.lowerings.tail import layers
from qcompiler.ir import Node, Value
from qcompiler.ir.dimension import static_shape
from qcompiler.ops.constant import constant_value
from qcompiler.ops.resize import Resize
from qcompiler.ops.shape import Concat, Transpose
from qcompiler.ops.slicing import Gather, Pad, Slice, Split


def shape_of(value: Value) -> tuple[int, ...]:
    return static_shape(value.type.shape)


def dtype_of(value: Value) -> str:
    """The format of a value's numbers in memory."""
    return str(value.type.storage.dtype)


@lowering("tvm", "reshape")
def lower_reshape(node: Node, builder: ProgramBuilder) -> None:
    """The same numbers in the same place."""
    builder.place(node.result, builder.view(node.operands[0]))


@lowering("tvm", "transpose")
def lower_transpose(node: Node, builder: ProgramBuilder) -> None:
    """A copy; none where only axes of size 1 change places."""
    assert isinstance(node.op, Transpose)
    shape, permutation = shape_of(node.operands[0]), node.op.permutation
    moved = [axis for axis in permutation if shape[axis] != 1]
    if moved == sorted(moved):
        builder.place(node.result, builder.view(node.operands[0]))
        return
    kernel = transpose(shape, permutation, dtype_of(node.result))
    builder.call(kernel, [builder.view(node.operands[0]), builder.result(node.result)], layers(node))


@lowering("tvm", "slice")
def lower_slice(node: Node, builder: ProgramBuilder) -> None:
    """A copy of what the slice holds; none where it lies side by side."""
    assert isinstance(node.op, Slice)
    starts, steps = [0] * node.operands[0].type.rank, [1] * node.operands[0].type.rank
    for axis, start, step in zip(node.op.axes, node.op.starts, node.op.steps, strict=True):
        starts[axis], steps[axis] = start, step
    _lower_part(node, node.result, starts, steps, builder)


@lowering("tvm", "split")
def lower_split(node: Node, builder: ProgramBuilder) -> None:
    """A slice for each part."""
    assert isinstance(node.op, Split)
    rank, start = node.operands[0].type.rank, 0
    for part, size in zip(node.results, node.op.sizes, strict=True):
        if size:
            starts = [start if axis == node.op.axis else 0 for axis in range(rank)]
            _lower_part(node, part, starts, [1] * rank, builder)
        else:
            builder.result(part)
        start += size


def _lower_part(node: Node, part: Value, starts: list[int], steps: list[int], builder: ProgramBuilder) -> None:
    source, shape, counts = node.operands[0], shape_of(node.operands[0]), shape_of(part)
    view = builder.view(source)
    cut = next((axis for axis, size in enumerate(counts) if size != 1), len(counts))
    if set(steps) == {1} and counts[cut + 1 :] == shape[cut + 1 :]:
        offset = sum(start * prod(shape[axis + 1 :]) for axis, start in enumerate(starts))
        builder.place(part, view.behind(offset))
        return
    kernel = slice_copy(shape, starts, counts, steps, dtype_of(part))
    builder.call(kernel, [view, builder.result(part)], layers(node))


@lowering("tvm", "concat")
def lower_concat(node: Node, builder: ProgramBuilder) -> None:
    """A copy of each operand into its part of the result."""
    assert isinstance(node.op, Concat)
    target, start = shape_of(node.result), 0
    result = builder.result(node.result)
    axis = node.op.axis % len(target)
    for operand in node.operands:
        shape = shape_of(operand)
        if prod(shape):
            starts = [start if i == axis else 0 for i in range(len(shape))]
            kernel = box_copy(shape, target, starts, dtype_of(operand))
            builder.call(kernel, [builder.view(operand), result], layers(node))
        start += shape[axis]


@lowering("tvm", "pad")
def lower_pad(node: Node, builder: ProgramBuilder) -> None:
    """A constant border and a copy within; repeated elements by index."""
    op, (source,) = node.op, node.operands
    assert isinstance(op, Pad)
    shape, target, dtype = shape_of(source), shape_of(node.result), dtype_of(source)
    result = builder.result(node.result)
    if op.mode == "constant":
        value = builder.constant(np.asarray([op.fill(source.type)], dtype))
        builder.call(Fill(prod(target), dtype), [value, result], layers(node))
        if prod(shape):
            builder.call(box_copy(shape, target, op.before, dtype), [builder.view(source), result], layers(node))
        return
    axes = [i for i, (low, high) in enumerate(zip(op.before, op.after, strict=True)) if low or high]
    if not axes:
        builder.copy(builder.view(source), result, layers(node))
        return
    indices = []
    for axis in range(axes[0], axes[-1] + 1):
        places = np.arange(shape[axis], dtype=np.int32)
        widths = (op.before[axis], op.after[axis])
        indices.append(np.pad(places, widths, mode="edge" if op.mode == "edge" else "reflect"))
    _gather(node, builder, axes[0], indices)


@lowering("tvm", "expand")
def lower_expand(node: Node, builder: ProgramBuilder) -> None:
    """A copy that repeats."""
    kernel = broadcast_copy(shape_of(node.operands[0]), shape_of(node.result), dtype_of(node.result))
    builder.call(kernel, [builder.view(node.operands[0]), builder.result(node.result)], layers(node))


@lowering("tvm", "gather")
def lower_gather(node: Node, builder: ProgramBuilder) -> None:
    """A copy of what the indices pick, which the program must know: those found at run time may be out of bounds."""
    op, (source, picked) = node.op, node.operands
    assert isinstance(op, Gather)
    indices = constant_value(picked)
    if indices is None:
        raise NoLowering("native code needs constant indices of a gather", layer=node.layer)
    axis = op.axis % source.type.rank
    size = shape_of(source)[axis]
    _gather(node, builder, axis, [np.where(indices < 0, indices + size, indices).reshape(-1).astype(np.int32)])


def _gather(node: Node, builder: ProgramBuilder, first: int, indices: list[np.ndarray]) -> None:
    """Pick by index along neighbouring axes."""
    source = node.operands[0]
    shape = shape_of(source)
    last = first + len(indices)
    kernel = GatherKernel(
        dtype_of(source), prod(shape[:first]), shape[first:last], tuple(len(i) for i in indices), prod(shape[last:])
    )
    views = [builder.view(source), *(builder.constant(i) for i in indices), builder.result(node.result)]
    builder.call(kernel, views, layers(node))


@lowering("tvm", "resize")
def lower_nearest_resize(node: Node, builder: ProgramBuilder) -> None:
    """Nearest neighbours, picked by index. Arithmetic that interpolates has lowerings of its own."""
    op = node.op
    assert isinstance(op, Resize)
    if op.mode != "nearest":
        raise NoLowering(f"native code has no form of resize {op.arithmetic}", layer=node.layer)
    shape = shape_of(node.operands[0])
    indices = [op.nearest_indices(shape[a], s).astype(np.int32) for a, s in zip(op.axes, op.sizes, strict=True)]
    _gather(node, builder, op.axes[0], indices)
