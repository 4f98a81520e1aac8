"""Element-wise ops on block floating point."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from qcompiler.ir.block_array import BlockArray
from qcompiler.ir.op import BlockForm, Tensor, block_form, require
from qcompiler.ir.types import Elem, TensorType
from qcompiler.numerics.block_alignment import largest_exponents, shift_to
from qcompiler.numerics.block_arithmetic import AlignLarger, ExactProduct
from qcompiler.numerics.block_conversion import mantissas_at, spread
from qcompiler.numerics.block_format import BlockFormat
from qcompiler.numerics.rounding import Int64
from qcompiler.ops.block_values import (
    aligned_blocks,
    all_block_floats,
    block_elem,
    block_float,
    blocks_of,
    mantissas_and_exponents,
    resolve_block,
    same_format,
    stored_blocks,
)


class Aligned(BlockForm):
    """Base of functions of two operands that meet at the larger exponent."""

    def infer_elems(self, op: Any, operands: Sequence[TensorType]) -> tuple[Elem | None, ...]:
        all_block_floats(operands)
        return (None,)

    def combine(self, op: Any, a: Int64, b: Int64) -> Int64:
        """The op on integers at one exponent."""
        return np.asarray(op.ufunc(a, b))

    def evaluate(self, op: Any, operands: Sequence[Tensor], results: Sequence[TensorType]) -> tuple[BlockArray, ...]:
        (type,), rank = results, results[0].rank
        (a, a_exponents), (b, b_exponents) = (
            tuple(array.reshape((1,) * (rank - array.ndim) + array.shape) for array in mantissas_and_exponents(t))
            for t in operands
        )
        blocks, rounding = blocks_of(type), block_float(type).format.rounding
        shape = np.broadcast_shapes(a.shape, b.shape)
        grid = largest_exponents(np.maximum(a_exponents, b_exponents), shape, blocks)
        target = spread(grid, shape, blocks)
        aligned = (shift_to(x, e, target, rounding) for x, e in ((a, a_exponents), (b, b_exponents)))
        return (stored_blocks(self.combine(op, *aligned), grid, type),)


@block_form("add", "sub")
class Sum(Aligned):
    """Operands meet at the larger exponent, as the cited arithmetic says."""

    def verify(self, op: Any, operands: Sequence[TensorType], results: Sequence[TensorType]) -> None:
        resolve_block(op, AlignLarger)


@block_form("maximum", "minimum")
class Selection(Aligned):
    """The larger or smaller of two values at the larger of their exponents."""

    def verify(self, op: Any, operands: Sequence[TensorType], results: Sequence[TensorType]) -> None:
        for operand in operands:
            same_format(op.name, operand, results[0])


@block_form("mul")
class Product(BlockForm):
    """Mantissas are multiplied and exponents added, as the cited arithmetic says."""

    def infer_elems(self, op: Any, operands: Sequence[TensorType]) -> tuple[Elem | None, ...]:
        all_block_floats(operands)
        bits = sum(block_float(t).format.mantissa for t in operands)
        require(bits <= 62, f"products of these mantissas have {bits} bits, the limit is 62")
        return (None,)

    def verify(self, op: Any, operands: Sequence[TensorType], results: Sequence[TensorType]) -> None:
        resolve_block(op, ExactProduct)

    def evaluate(self, op: Any, operands: Sequence[Tensor], results: Sequence[TensorType]) -> tuple[BlockArray, ...]:
        (a, a_exponents), (b, b_exponents) = (mantissas_and_exponents(t) for t in operands)
        exponents, product = a_exponents + b_exponents, a * b
        return (aligned_blocks(product, exponents.reshape((1,) * (product.ndim - exponents.ndim) + exponents.shape),
                               results[0]),)


@block_form("relu", "clip")
class Limit(BlockForm):
    """Mantissas limited to the bounds' own mantissas at the block's exponent, rounded as the format says.

    A bound that the format cannot hold at that exponent is its smallest or largest mantissa.
    """

    def infer_elems(self, op: Any, operands: Sequence[TensorType]) -> tuple[Elem | None, ...]:
        return (block_elem(operands[0]),)

    def evaluate(self, op: Any, operands: Sequence[Tensor], results: Sequence[TensorType]) -> tuple[BlockArray, ...]:
        (x,) = operands
        mantissas, exponents = mantissas_and_exponents(x)
        block_format = block_float(x.type).format
        for limit, bound in zip(op.limits, (np.maximum, np.minimum), strict=True):
            if np.isfinite(limit):
                mantissas = bound(mantissas, limit_at(limit, exponents, block_format))
        limited = np.clip(mantissas, block_format.smallest, block_format.largest)
        return (BlockArray(limited.astype(block_format.mantissa_dtype), x.block.exponents),)


def limit_at(limit: float, exponents: Int64, block_format: BlockFormat) -> Int64:
    """A real bound as mantissas of a format at given exponents; saturated at 2**62."""
    fraction, exponent = np.frexp(np.float64(limit))
    significand = np.full((), int(np.ldexp(fraction, 53)), np.int64)
    return mantissas_at(significand, np.full((), int(exponent) - 53, np.int64), exponents, block_format)
