"""Pooling, reductions over axes, softmax and argmax of block floating point."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qcompiler.backends.lowering import lowering
from qcompiler.backends.tvm.block_regions import BlockRegion, label_of
from qcompiler.backends.tvm.kernel_program import NoLowering, ProgramBuilder, View, exponent_count
from qcompiler.backends.tvm.kernels.exponent_maximum import PairExponents
from qcompiler.backends.tvm.kernels.mantissa_addressing import AxisAddress, address
from qcompiler.backends.tvm.kernels.mantissa_argmax import BlockArgMax
from qcompiler.backends.tvm.kernels.mantissa_reading import StoredMantissas
from qcompiler.backends.tvm.kernels.mantissa_softmax import BlockSoftmaxRows
from qcompiler.backends.tvm.kernels.mantissa_window import ReduceWindows, WindowAxis
from qcompiler.backends.tvm.kernels.reduction import Reducer
from qcompiler.backends.tvm.lowerings.block_exponents import Places, exponent_places, largest_exponents
from qcompiler.backends.tvm.lowerings.block_results import finish_region, source_of, stored_value, tensor_views
from qcompiler.ir import Node, Value
from qcompiler.ir.dimension import static_shape
from qcompiler.numerics.block_arithmetic import ReciprocalMean
from qcompiler.numerics.block_table import EXPONENTIAL_PLACES
from qcompiler.ops.block_values import block_float, blocks_of
from qcompiler.ops.pooling import Pool2D
from qcompiler.ops.quantized import resolve
from qcompiler.ops.reduction import ArgMax, Reduction

_REDUCERS = {"max_pool2d": Reducer.MAX, "reduce_max": Reducer.MAX, "reduce_min": Reducer.MIN}
_EXACT_BITS, _EXACT_EXPONENTS = 53, 900
"""Of values that float64 holds."""


@lowering("tvm-block-root", "max_pool2d", "reduce_max", "reduce_min")
def lower_selection(region: BlockRegion, builder: ProgramBuilder) -> None:
    """The largest or smallest of each window."""
    lower_windows(region, builder)


@lowering("tvm-block-root", "reduce_sum", arithmetic="align-larger")
def lower_sum(region: BlockRegion, builder: ProgramBuilder) -> None:
    """Sums of windows."""
    lower_windows(region, builder)


@lowering("tvm-block-root", "mean", "average_pool2d", arithmetic="reciprocal")
def lower_mean(region: BlockRegion, builder: ProgramBuilder) -> None:
    """Sums of windows, times reciprocals of their counts."""
    rule = resolve(region.root.op, region.root.op.arithmetic)  # type: ignore[attr-defined]
    assert isinstance(rule, ReciprocalMean)
    lower_windows(region, builder, rule)


def lower_windows(region: BlockRegion, builder: ProgramBuilder, rule: ReciprocalMean | None = None) -> None:
    """Numbers of each window meet at the largest exponent of the result's block.

    Args:
        region: a pool or a reduction.
        builder: takes the calls.
        rule: of a mean; None for others.
    """
    root = region.root
    operand, result = root.operands[0], root.result
    axes, shape = _window_axes(root)
    met = _met_exponents(root, builder, region.label)
    elem = block_float(result.type)
    kernel = ReduceWindows(
        axes, shape, _dense(operand, static_shape(operand.type.shape), blocks_of(operand.type)),
        _dense(result, shape, _with_reduced(root, blocks_of(result.type))),
        _REDUCERS.get(root.op.name, Reducer.SUM), rule is not None, elem.format.rounding,
    )
    views = {**tensor_views("x", operand, builder), "y_exponents": met, "y": builder.result(result)}
    if rule is None:
        builder.call_by_name(kernel, views, region.label)
        builder.place_exponents(result, met)
    else:
        counts = _counts(axes, shape)
        factors = np.broadcast_to(rule.reciprocals(counts), (*shape[:-1], 1)).reshape(-1)
        builder.call_by_name(kernel, {**views, "factors": builder.constant(factors)}, region.label)
        _lower_places(result, met, rule.places(counts), builder, region.label)
    if region.limit is not None or region.conversion is not None:
        finish_region(region, source_of(result, builder), builder)


@lowering("tvm-block-root", "softmax", arithmetic="block-exponential")
def lower_softmax(region: BlockRegion, builder: ProgramBuilder) -> None:
    """Rows along the last axis."""
    root = region.root
    source, result = root.operands[0], root.result
    shape, elem = static_shape(source.type.shape), block_float(result.type)
    if root.op.axis % len(shape) != len(shape) - 1:  # type: ignore[attr-defined]
        raise NoLowering("native code needs softmax along the last axis", layer=root.layer)
    kernel = BlockSoftmaxRows(shape, stored_value(source, shape), str(elem.storage.dtype), elem.format.rounding)
    views = {
        **tensor_views("x", source, builder), "y": builder.result(result),
        "table": builder.constant(root.op.constants["exponentials"].array),  # type: ignore[attr-defined]
    }
    builder.call_by_name(kernel, views, region.label)
    lowest = elem.format.exponent_range[0]
    exponents = np.full(exponent_count(result), max(-EXPONENTIAL_PLACES, lowest), np.int32)
    builder.place_exponents(result, builder.constant(exponents))
    if region.limit is not None or region.conversion is not None:
        finish_region(region, source_of(result, builder), builder)


@lowering("tvm-block", "argmax")
def lower_argmax(node: Node, builder: ProgramBuilder) -> None:
    """Places of the largest values."""
    op, (source,) = node.op, node.operands
    assert isinstance(op, ArgMax)
    shape, elem = static_shape(source.type.shape), block_float(source.type)
    if elem.format.mantissa > _EXACT_BITS or max(map(abs, elem.format.exponent_range)) > _EXACT_EXPONENTS:
        raise NoLowering(
            "native code compares values that a float64 holds", layer=node.layer, found=str(elem),
            expected=f"mantissas of at most {_EXACT_BITS} bits, exponents of at most {_EXACT_EXPONENTS}",
        )
    kernel = BlockArgMax(shape, op.axis % len(shape), stored_value(source, shape))
    views = {**tensor_views("x", source, builder), "y": builder.result(node.result)}
    builder.call_by_name(kernel, views, label_of([node]))


def _window_axes(node: Node) -> tuple[tuple[WindowAxis, ...], tuple[int, ...]]:
    """How windows lie along each axis of the operand, and how many there are."""
    op, sizes = node.op, static_shape(node.operands[0].type.shape)
    if isinstance(op, Pool2D):
        if op.layout != "NHWC":
            raise NoLowering("native code pools channels-last images", layer=node.layer, found=op.layout)
        spatial = (
            WindowAxis(sizes[1 + i], op.kernel[i], op.strides[i], op.dilations[i], op.pads[i]) for i in (0, 1)
        )
        return (WindowAxis(sizes[0]), *spatial, WindowAxis(sizes[3])), static_shape(node.result.type.shape)
    assert isinstance(op, Reduction)
    axes = tuple(WindowAxis(n, n, 0) if i in op.axes else WindowAxis(n) for i, n in enumerate(sizes))
    return axes, tuple(1 if i in op.axes else n for i, n in enumerate(sizes))


def _with_reduced(node: Node, blocks: tuple[int, ...]) -> tuple[int, ...]:
    """Block lengths of a result with an entry for each axis of the operand."""
    op = node.op
    if not isinstance(op, Reduction) or op.keepdims:
        return blocks
    kept = iter(blocks)
    return tuple(1 if i in op.axes else next(kept) for i in range(node.operands[0].type.rank))


def _dense(value: Value, shape: tuple[int, ...], blocks: tuple[int, ...]) -> StoredMantissas:
    elem = block_float(value.type)
    return StoredMantissas(str(elem.storage.dtype), elem.format.mantissa, address(shape, blocks, shape))


def _met_exponents(node: Node, builder: ProgramBuilder, label: str) -> View:
    """For each block of the result the largest exponent of all numbers of its windows."""
    operand, result = node.operands[0], node.result
    if exponent_count(operand) == exponent_count(result) == 1:
        return builder.exponents(operand)
    places = _window_places(node, exponent_places(operand))
    target = builder.temporary("int32", exponent_count(result))
    return largest_exponents(result, [(operand, places)], builder, label, target)


def _window_places(node: Node, places: Places) -> Places:
    """The places of the exponents that each result's window sees, along a new last axis; -1 for padding."""
    op = node.op
    if isinstance(op, Pool2D):
        windows = op.padded_windows(places, -1)
        return windows.reshape(*windows.shape[:4], -1)
    assert isinstance(op, Reduction)
    rank = places.ndim
    moved = np.moveaxis(places, op.axes, range(rank - len(op.axes), rank))
    flat = moved.reshape(*moved.shape[: rank - len(op.axes)], -1)
    return np.expand_dims(flat, op.axes) if op.keepdims else flat


def _counts(axes: tuple[WindowAxis, ...], shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Taps of each window that lie inside of the operand, broadcastable to the result."""
    counts = np.ones((1,) * len(shape), np.int64)
    for index, (axis, size) in enumerate(zip(axes, shape, strict=True)):
        if axis.taps == 1 and axis.stays_inside(size):
            continue
        first = np.arange(size)[:, None] * axis.stride + np.arange(axis.taps)[None] * axis.dilation - axis.pad
        inside = ((first >= 0) & (first < axis.size)).sum(axis=1)
        counts = counts * inside.reshape([-1 if i == index else 1 for i in range(len(shape))])
    return counts


def _lower_places(result: Value, met: View, places: int, builder: ProgramBuilder, label: str) -> None:
    """The exponents of a mean: those of its sums, less the places of the reciprocals."""
    count, lowest = exponent_count(result), block_float(result.type).format.exponent_range[0]
    each = AxisAddress(0, 1, 1 if count > 1 else 0)
    kernel = PairExponents((count,), (each,), (AxisAddress(0),), "sum", lowest)
    views = {
        "a_exponents": met, "b_exponents": builder.constant(np.asarray([-places], np.int32)),
        "y_exponents": builder.exponents_result(result),
    }
    builder.call_by_name(kernel, views, label)
