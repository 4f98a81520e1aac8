"""Pooling, and reductions over axes: values meet at the largest exponent of the result's block."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from qcompiler.ir.block_array import BlockArray
from qcompiler.ir.op import Array, BlockForm, Tensor, block_form
from qcompiler.ir.scalar import I64
from qcompiler.ir.types import Elem, TensorType
from qcompiler.numerics.block_alignment import NO_EXPONENT, largest_exponents, shift_to
from qcompiler.numerics.block_arithmetic import AlignLarger, ReciprocalMean
from qcompiler.numerics.block_conversion import spread
from qcompiler.numerics.rounding import Int64
from qcompiler.ops.block_values import (
    block_float,
    blocks_of,
    held_by_float64,
    mantissas_and_exponents,
    resolve_block,
    same_format,
    stored_blocks,
)
from qcompiler.ops.pooling import Pool2D


class WindowReduction(BlockForm):
    """Base: ``reduce`` combines the values of a window, which stand along the last axis."""

    def infer_elems(self, op: Any, operands: Sequence[TensorType]) -> tuple[Elem | None, ...]:
        block_float(operands[0])
        return (None,)

    def reduce(self, op: Any, windows: Int64, inside: Array, exponents: Int64) -> tuple[Int64, Int64]:
        """Results and their exponents.

        Args:
            op: the op.
            windows: values at ``exponents``, ``[*result shape, n]``; 0 outside of the operand.
            inside: whether each is inside of the operand: with length 1 for the samples of a pool, and everywhere for a
                reduction.
            exponents: on the result's block grid.
        """
        raise NotImplementedError

    def evaluate(self, op: Any, operands: Sequence[Tensor], results: Sequence[TensorType]) -> tuple[BlockArray, ...]:
        (type,) = results
        x, exponents = mantissas_and_exponents(operands[0])
        windows = _windows(op, x, 0)
        inside = _inside(op, x)
        each = _windows(op, np.broadcast_to(exponents, x.shape), NO_EXPONENT)
        blocks, shape = blocks_of(type), windows.shape[:-1]
        grid = largest_exponents(each.max(-1), shape, blocks)
        target = np.broadcast_to(spread(grid, shape, blocks), shape)[..., None]
        rounding = block_float(type).format.rounding
        reduced, found = self.reduce(op, shift_to(windows, each, target, rounding), inside, grid)
        return (stored_blocks(reduced, found, type),)


@block_form("max_pool2d", "reduce_max", "reduce_min")
class Select(WindowReduction):
    """The largest or smallest value; padding never wins."""

    def verify(self, op: Any, operands: Sequence[TensorType], results: Sequence[TensorType]) -> None:
        same_format(op.name, operands[0], results[0])

    def reduce(self, op: Any, windows: Int64, inside: Array, exponents: Int64) -> tuple[Int64, Int64]:
        if op.name == "reduce_min":
            return windows.min(-1), exponents
        return np.where(inside, windows, np.iinfo(np.int64).min).max(-1), exponents


@block_form("reduce_sum")
class Sum(WindowReduction):
    """Values meet at the largest exponent, as the cited arithmetic says."""

    def verify(self, op: Any, operands: Sequence[TensorType], results: Sequence[TensorType]) -> None:
        resolve_block(op, AlignLarger)

    def reduce(self, op: Any, windows: Int64, inside: Array, exponents: Int64) -> tuple[Int64, Int64]:
        return windows.sum(-1), exponents


@block_form("mean", "average_pool2d")
class Mean(WindowReduction):
    """A sum times the reciprocal of the count, as the cited arithmetic says."""

    def verify(self, op: Any, operands: Sequence[TensorType], results: Sequence[TensorType]) -> None:
        resolve_block(op, ReciprocalMean)

    def reduce(self, op: Any, windows: Int64, inside: Array, exponents: Int64) -> tuple[Int64, Int64]:
        rule = resolve_block(op, ReciprocalMean)
        counts = np.broadcast_to(inside, (*inside.shape[:-1], windows.shape[-1])).sum(-1)
        return windows.sum(-1) * rule.reciprocals(counts), exponents - rule.places(counts)


@block_form("argmax")
class ArgMax(BlockForm):
    """The first of the largest values, compared exactly."""

    def infer_elems(self, op: Any, operands: Sequence[TensorType]) -> tuple[Elem | None, ...]:
        held_by_float64(operands[0])
        return (I64,)

    def evaluate(self, op: Any, operands: Sequence[Tensor], results: Sequence[TensorType]) -> tuple[Array, ...]:
        mantissas, exponents = mantissas_and_exponents(operands[0])
        values = np.ldexp(mantissas.astype(np.float64), exponents)
        found: Array = values.argmax(op.axis, keepdims=op.keepdims).astype(np.int64)
        return (found,)


def _inside(op: Any, x: Array) -> Array:
    """Whether each value of a window is inside of ``x``, broadcastable to the windows."""
    if not isinstance(op, Pool2D):
        return np.ones((1,) * (x.ndim + 1 if op.keepdims else x.ndim - len(op.axes) + 1), np.bool_)
    found: Array = _windows(op, np.ones((1, *x.shape[1:]), np.int64), 0) > 0
    return found


def _windows(op: Any, x: Array, fill: int) -> Array:
    """The values that each result is made of, along a new last axis; ``fill`` outside of the operand."""
    if isinstance(op, Pool2D):
        found = op.padded_windows(op.channels_last(x), fill)
        cut = found.reshape(*found.shape[:4], math.prod(found.shape[4:]))
        return cut if op.layout == "NHWC" else cut.transpose(0, 3, 1, 2, 4)
    kept = x.ndim - len(op.axes)
    moved = np.moveaxis(x, op.axes, range(kept, x.ndim))
    cut = moved.reshape(*moved.shape[:kept], math.prod(moved.shape[kept:]))
    return np.expand_dims(cut, op.axes) if op.keepdims else cut
