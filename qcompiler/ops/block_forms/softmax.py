"""Softmax on block floating point."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from qcompiler.ir.block_array import BlockArray
from qcompiler.ir.op import BlockForm, Constants, Tensor, block_form, require
from qcompiler.ir.types import Elem, TensorType
from qcompiler.numerics.block_alignment import shift_to
from qcompiler.numerics.block_table import EXPONENTIAL_PLACES, BlockSoftmax
from qcompiler.ops.block_values import (
    aligned_blocks,
    block_float,
    mantissas_and_exponents,
    resolve_block,
)


@block_form("softmax")
class Probabilities(BlockForm):
    """Exponentials from a table over their exact sum, as the cited arithmetic says."""

    def infer_elems(self, op: Any, operands: Sequence[TensorType]) -> tuple[Elem | None, ...]:
        block_float(operands[0])
        return (None,)

    def verify(self, op: Any, operands: Sequence[TensorType], results: Sequence[TensorType]) -> None:
        rule = resolve_block(op, BlockSoftmax)
        require(op.constants == Constants(rule.constants()), f"constants are not those of {op.arithmetic}")

    def evaluate(self, op: Any, operands: Sequence[Tensor], results: Sequence[TensorType]) -> tuple[BlockArray, ...]:
        (type,) = results
        x, exponents = mantissas_and_exponents(operands[0])
        row = exponents.max(op.axis, keepdims=True)
        rounding = block_float(type).format.rounding
        met = shift_to(x, exponents, row, rounding)
        last, at = (np.moveaxis(a, op.axis, -1) for a in (met, np.broadcast_to(row, _one(x.shape, op.axis))))
        found = resolve_block(op, BlockSoftmax).apply(last, at, op.constants["exponentials"].array, rounding)
        mantissas = np.moveaxis(found, -1, op.axis)
        return (aligned_blocks(mantissas, np.full((1,) * x.ndim, -EXPONENTIAL_PLACES), type),)


def _one(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    """``shape`` with length 1 along ``axis``."""
    return tuple(1 if i == axis % len(shape) else size for i, size in enumerate(shape))
