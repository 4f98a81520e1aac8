"""Ops that move values of block floating point.

Mantissas move as any numbers do. Where no block of the result takes in values of several exponents, exponents move
along; otherwise values go to the largest.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from qcompiler.backends.lowering import find_lowering, lowering
from qcompiler.backends.tvm.block_regions import label_of
from qcompiler.backends.tvm.kernel_program import NoLowering, ProgramBuilder, View, exponent_count
from qcompiler.backends.tvm.kernels.mantissa_addressing import address, merged
from qcompiler.backends.tvm.kernels.mantissa_reading import StoredMantissas
from qcompiler.backends.tvm.kernels.mantissa_realignment import RealignMantissas
from qcompiler.backends.tvm.kernels.mantissa_source import LimitedSource
from qcompiler.backends.tvm.kernels.mantissa_write import WriteMantissas
from qcompiler.backends.tvm.kernels.movement import box_copy, slice_copy
from qcompiler.backends.tvm.lowerings.block_exponents import Places, exponent_places, grid_of, largest_exponents
from qcompiler.backends.tvm.lowerings.block_results import source_of
from qcompiler.ir import Node, Tensor, TensorType, Value
from qcompiler.ir.dimension import static_shape
from qcompiler.ir.scalar import I64
from qcompiler.ops.block_values import block_float
from qcompiler.ops.constant import constant_value
from qcompiler.ops.shape import Concat
from qcompiler.ops.slicing import Pad


@lowering("tvm-block", "reshape", "transpose", "slice", "split", "pad", "expand", "gather", "resize")
def lower_movement(node: Node, builder: ProgramBuilder) -> None:
    """Mantissas by the lowering of plain numbers, and their exponents."""
    source = node.operands[0]
    all_places = _moved_places(node, [source])
    found = [
        _lower_exponents(r, source, p, builder, label_of([node])) for r, p in zip(node.results, all_places, strict=True)
    ]
    move = find_lowering("tvm", node.op)
    assert move is not None
    move(node, builder)
    for result, places, is_moved in zip(node.results, all_places, found, strict=True):
        if not is_moved and places.size:
            _realign(result, places, builder.exponents(source), exponent_count(source), builder, label_of([node]))


@lowering("tvm-block", "concat")
def lower_concat(node: Node, builder: ProgramBuilder) -> None:
    """A copy of each operand into its part of the result, at the result's exponents."""
    operands = [v for v in node.operands if prod(static_shape(v.type.shape))]
    label, result = label_of([node]), node.result
    places = _moved_places(node, node.operands)[0]
    firsts = np.cumsum([0, *(exponent_count(v) for v in node.operands)])
    terms = [
        (v, np.where((places >= first) & (places < last), places - first, -1).astype(np.int32))
        for v, first, last in zip(node.operands, firsts[:-1], firsts[1:], strict=True)
        if v in operands
    ]
    if _is_mixed(result, places) and prod(grid_of(result)) > 1:
        largest_exponents(result, terms, builder, label)
        gathered = builder.temporary("int32", int(firsts[-1]))
        for value, first in zip(node.operands, firsts[:-1], strict=True):
            count = exponent_count(value)
            if count:
                copy = slice_copy((count,), (0,), (count,), (1,), "int32")
                builder.call(copy, [builder.exponents(value), gathered.behind(int(first))], label)
        _copy_parts(node, result, [builder.view(v) for v in node.operands], builder)
        _realign(result, places, gathered, int(firsts[-1]), builder, label)
        return
    largest_exponents(result, terms, builder, label)
    if not _is_mixed(result, places):
        _copy_parts(node, result, [builder.view(v) for v in node.operands], builder)
        return
    _copy_parts(node, result, [_at_one_exponent(v, result, builder, label) for v in node.operands], builder)


def _at_one_exponent(value: Value, result: Value, builder: ProgramBuilder, label: str) -> View:
    """A value's mantissas at the only exponent of a result of its format."""
    shape = static_shape(value.type.shape)
    size = prod(shape)
    elem = block_float(value.type)
    target = builder.temporary(str(elem.storage.dtype), size)
    if not size:
        return target
    found = source_of(value, builder)
    joined, (own, to) = merged(shape, (*found.source.addresses, address(shape, None, shape)))
    kernel = WriteMantissas(
        LimitedSource(found.source.readdressed(joined, [own])),
        StoredMantissas(str(elem.storage.dtype), elem.format.mantissa, to), elem.format,
    )
    views = {**found.views, "y": target, "y_exponents": builder.exponents(result)}
    builder.call_by_name(kernel, views, label)
    return target


def _copy_parts(node: Node, result: Value, views: Sequence[View], builder: ProgramBuilder) -> None:
    assert isinstance(node.op, Concat)
    target, start = static_shape(result.type.shape), 0
    to, dtype = builder.result(result), str(result.type.storage.dtype)
    axis = node.op.axis % len(target)
    for operand, view in zip(node.operands, views, strict=True):
        shape = static_shape(operand.type.shape)
        if prod(shape):
            starts = [start if i == axis else 0 for i in range(len(shape))]
            builder.call(box_copy(shape, target, starts, dtype), [view, to], label_of([node]))
        start += shape[axis]


def _moved_places(node: Node, operands: Sequence[Value]) -> list[Places]:
    """For each result the place of each number's exponent among those of all operands in a row; -1 for padding."""
    op, first, tensors = node.op, 0, []
    for operand in operands:
        places = exponent_places(operand).astype(np.int64) + first
        tensors.append(Tensor(TensorType(places.shape, I64), places))
        first += exponent_count(operand)
    for operand in node.operands[len(operands) :]:
        # Indices of a gather.
        array = constant_value(operand)
        if array is None:
            raise NoLowering("native code needs constant indices", layer=node.layer, found=op.name)
        tensors.append(Tensor(operand.type, array))
    if isinstance(op, Pad):
        op = op.replace(value=-1.0)
    types = [TensorType(r.type.shape, I64) for r in node.results]
    return [np.asarray(found).astype(np.int32) for found in op.evaluate(tensors, types)]


def _is_mixed(result: Value, places: Places) -> bool:
    """Whether a block of the result takes in values of several exponents."""
    own, count = exponent_places(result).reshape(-1), exponent_count(result)
    flat = places.reshape(-1)
    inside = flat >= 0
    least, most = np.full(count, np.iinfo(np.int32).max, np.int32), np.full(count, -1, np.int32)
    np.minimum.at(least, own[inside], flat[inside])
    np.maximum.at(most, own[inside], flat[inside])
    return bool(((most >= 0) & (least != most)).any())


def _lower_exponents(result: Value, operand: Value, places: Places, builder: ProgramBuilder, label: str) -> bool:
    """The exponents of a result; whether its mantissas need no change."""
    if not places.size:
        builder.exponents_result(result)
        return True
    if exponent_count(operand) == exponent_count(result) and _is_same_order(result, places):
        builder.place_exponents(result, builder.exponents(operand))
        return True
    largest_exponents(result, [(operand, places)], builder, label)
    return not _is_mixed(result, places)


def _is_same_order(result: Value, places: Places) -> bool:
    """Whether the exponents of a result are those of the operand, in order."""
    return bool((places == exponent_places(result)).all())


def _realign(
    result: Value, places: Places, exponents: View, count: int, builder: ProgramBuilder, label: str
) -> None:
    """Replace moved mantissas, each at its operand's exponent, by those at the result's exponents."""
    moved, elem = builder.view(result), block_float(result.type)
    kernel = RealignMantissas(
        places.size, count, exponent_count(result), str(elem.storage.dtype), elem.format.mantissa, elem.format.rounding
    )
    target = builder.temporary(str(elem.storage.dtype), places.size)
    views = {
        "x": moved, "x_exponents": exponents, "x_places": builder.constant(places.reshape(-1)),
        "y_exponents": builder.exponents(result), "y_places": builder.constant(exponent_places(result).reshape(-1)),
        "y": target,
    }
    builder.call_by_name(kernel, views, label)
    builder.place(result, target)
