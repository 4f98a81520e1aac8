"""Exponents of results that are made of several blocks."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcompiler.backends.tvm.kernel_program import ProgramBuilder, View, exponent_count
from qcompiler.backends.tvm.kernels.exponent_maximum import LargestExponents, PairExponents
from qcompiler.backends.tvm.kernels.mantissa_addressing import Address, AxisAddress, merged
from qcompiler.ir import Value
from qcompiler.ir.dimension import static_shape
from qcompiler.ir.types import block_float_grid
from qcompiler.numerics.block_conversion import spread
from qcompiler.ops.block_values import block_float, blocks_of

Places = NDArray[np.int32]
"""Which exponent of an operand belongs to each number; -1 for none."""


def grid_of(value: Value) -> tuple[int, ...]:
    """Blocks of a value along each dimension."""
    return static_shape(block_float_grid(value.type.shape, block_float(value.type).blocks))


def exponent_places(value: Value) -> Places:
    """Which of its exponents each number of a value has, in the value's shape."""
    grid, shape = grid_of(value), static_shape(value.type.shape)
    numbers = np.arange(prod(grid), dtype=np.int64).reshape(grid)
    return np.broadcast_to(spread(numbers, shape, blocks_of(value.type)), shape).astype(np.int32)


def lower_pair_exponents(
    result: Value, operands: list[Value], function: str, builder: ProgramBuilder, label: str
) -> View:
    """The exponents of a result whose numbers each come from one number of both operands.

    Args:
        result: whose exponents are computed.
        operands: two, broadcast to the result's shape.
        function: ``max`` or ``sum``, of the two.
        builder: takes the calls.
        label: the user's layers.
    """
    lowest = block_float(result.type).format.exponent_range[0]
    addresses = [_on_grid(result, operand) for operand in operands]
    views = {name: builder.exponents(v) for name, v in zip(("a_exponents", "b_exponents"), operands, strict=True)}
    nested = [a for a in addresses if a is not None]
    if len(nested) == len(operands):
        shape, (a, b) = merged(grid_of(result), nested)
        target = builder.exponents_result(result)
        builder.call_by_name(PairExponents(shape, a, b, function, lowest), {**views, "y_exponents": target}, label)
        return target
    shape = static_shape(result.type.shape)
    places = [np.broadcast_to(exponent_places(v), shape) for v in operands]
    if function == "sum":
        return largest_sums(result, (operands[0], places[0]), (operands[1], places[1]), builder, label)
    return largest_exponents(result, list(zip(operands, places, strict=True)), builder, label)


def _on_grid(result: Value, operand: Value) -> Address | None:
    """An operand's exponents on the grid of the result's blocks; None where one of those sees several."""
    counts, sizes = grid_of(operand), static_shape(operand.type.shape)
    grid, shape = grid_of(result), static_shape(result.type.shape)
    lengths, own = blocks_of(result.type), blocks_of(operand.type)
    missing = len(shape) - len(sizes)
    found = [AxisAddress(0)] * missing
    for axis, count in enumerate(counts):
        its, whole = lengths[missing + axis], grid[missing + axis] == 1
        length = shape[missing + axis] if whole else its
        if count == 1:
            found.append(AxisAddress(0))
        elif own[axis] % length == 0:
            found.append(AxisAddress(0, own[axis] // length, prod(counts[axis + 1 :])))
        else:
            return None
    return tuple(found)


def largest_exponents(
    result: Value, operands: list[tuple[Value, Places]], builder: ProgramBuilder, label: str, target: View | None = None
) -> View:
    """The exponents of a result: of each block the largest exponent of the numbers that it is made of.

    Args:
        result: whose exponents are computed.
        operands: values, and for each number of the result (further numbers along further last axes) the place of its
            exponent among those of the value, or -1.
        builder: takes the calls.
        label: the user's layers.
        target: where they go; the place of the result's exponents by default.
    """
    blocks, lowest = exponent_count(result), block_float(result.type).format.exponent_range[0]
    own = exponent_places(result)
    previous: View | None = None
    for index, (operand, places) in enumerate(operands):
        starts, (terms,) = _terms(own, (places,), blocks)
        kernel = LargestExponents(blocks, len(terms), exponent_count(operand), 0, previous is not None, lowest)
        views = {
            "x_exponents": builder.exponents(operand), "x_places": builder.constant(_not_empty(terms)),
            "starts": builder.constant(starts),
        }
        if previous is not None:
            views["previous"] = previous
        is_last = index == len(operands) - 1
        previous = (target or builder.exponents_result(result)) if is_last else builder.temporary("int32", blocks)
        builder.call_by_name(kernel, {**views, "y_exponents": previous}, label)
    assert previous is not None
    return previous


def largest_sums(
    result: Value, x: tuple[Value, Places], w: tuple[Value, Places], builder: ProgramBuilder, label: str
) -> View:
    """As :func:`largest_exponents`, of sums of two exponents."""
    blocks, lowest = exponent_count(result), block_float(result.type).format.exponent_range[0]
    starts, (x_terms, w_terms) = _terms(exponent_places(result), (x[1], w[1]), blocks)
    kernel = LargestExponents(blocks, len(x_terms), exponent_count(x[0]), exponent_count(w[0]), False, lowest)
    target = builder.exponents_result(result)
    views = {
        "x_exponents": builder.exponents(x[0]), "x_places": builder.constant(_not_empty(x_terms)),
        "w_exponents": builder.exponents(w[0]), "w_places": builder.constant(_not_empty(w_terms)),
        "starts": builder.constant(starts), "y_exponents": target,
    }
    builder.call_by_name(kernel, views, label)
    return target


def _terms(own: Places, places: tuple[Places, ...], blocks: int) -> tuple[Places, list[Places]]:
    """Where the terms of each block begin, and the terms: each distinct tuple of places once."""
    shape = np.broadcast_shapes(*(p.shape for p in places))
    numbers = np.broadcast_to(own.reshape(own.shape + (1,) * (len(shape) - own.ndim)), shape)
    columns = [np.broadcast_to(p, shape).reshape(-1).astype(np.int64) for p in places]
    rows = np.stack([numbers.reshape(-1).astype(np.int64), *columns], axis=1)
    rows = rows[(rows >= 0).all(axis=1)]
    distinct = np.unique(rows, axis=0) if len(rows) else rows
    starts = np.searchsorted(distinct[:, 0], np.arange(blocks + 1)).astype(np.int32)
    return starts, [distinct[:, 1 + i].astype(np.int32) for i in range(len(places))]


def _not_empty(terms: Places) -> NDArray[Any]:
    """A constant has at least one number; no block begins there."""
    return terms if len(terms) else np.zeros(1, np.int32)
