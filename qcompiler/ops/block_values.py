"""What ops on block floating point share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from qcompiler.errors import QCompilerError
from qcompiler.ir.block_array import BlockArray
from qcompiler.ir.dimension import static_shape
from qcompiler.ir.op import Array, OpTypeError, Tensor, require
from qcompiler.ir.types import BlockFloat, Elem, TensorType
from qcompiler.numerics.block_alignment import align_to_blocks
from qcompiler.numerics.block_conversion import spread
from qcompiler.numerics.rounding import Int64
from qcompiler.ops.quantized import resolve


def block_float(type: TensorType) -> BlockFloat:
    """The block floating-point element type of ``type``."""
    if not isinstance(type.elem, BlockFloat):
        raise OpTypeError(f"needs block floating point, found {type}")
    return type.elem


def held_by_float64(type: TensorType) -> None:
    """Require block floating point whose every value is a float64 number."""
    found = block_float(type).format
    lowest, highest = found.exponent_range
    require(
        found.mantissa <= 54 and lowest >= -1074 and highest + found.mantissa <= 1024,
        f"needs values that float64 holds: mantissas of at most 54 bits, exponents from -1074 on, found {type}",
    )


def all_block_floats(operands: Sequence[TensorType]) -> None:
    """Require block floating point of all operands."""
    for operand in operands:
        block_float(operand)


def blocks_of(type: TensorType) -> tuple[int, ...]:
    """Block lengths of a block floating-point type."""
    return static_shape(block_float(type).blocks)


def mantissas_and_exponents(tensor: Tensor) -> tuple[Int64, Int64]:
    """Mantissas, and the exponents of the values, broadcastable to them."""
    mantissas, exponents = tensor.block
    return mantissas.astype(np.int64), spread(exponents, mantissas.shape, blocks_of(tensor.type))


def stored_blocks(mantissas: Int64, exponents: Array, type: TensorType) -> BlockArray:
    """Computed mantissas and exponents as a value of ``type``.

    Args:
        mantissas: of the shape of ``type``.
        exponents: on its block grid.

    Raises:
        QCompilerError: a mantissa or an exponent does not fit; a legal program never does this.
    """
    block_format = block_float(type).format
    if mantissas.size and (mantissas.min() < block_format.smallest or mantissas.max() > block_format.largest):
        raise QCompilerError(
            f"overflow of a {block_format.mantissa}-bit mantissa",
            expected=f"{block_format.smallest} to {block_format.largest}",
            found=f"values from {mantissas.min()} to {mantissas.max()}",
        )
    lowest, highest = block_format.exponent_range
    # Only a block of zeros may have an exponent below the lowest.
    below = exponents < lowest
    if below.any() and (np.where(spread(below, mantissas.shape, blocks_of(type)) != 0, mantissas, 0) != 0).any():
        raise QCompilerError(
            f"underflow of an {block_format.exponent}-bit exponent", expected=f"at least {lowest}",
            found=str(exponents.min()),
        )
    bounded = np.maximum(exponents, lowest).astype(np.int32)
    if bounded.size and bounded.max() > highest:
        raise QCompilerError(
            f"overflow of an {block_format.exponent}-bit exponent", expected=f"at most {highest}",
            found=str(bounded.max()),
        )
    return BlockArray(mantissas.astype(block_format.mantissa_dtype), np.ascontiguousarray(bounded))


def aligned_blocks(values: Int64, exponents: Array, type: TensorType) -> BlockArray:
    """Integers with an exponent each as a value of ``type``: each block at the largest exponent of its values."""
    rounding = block_float(type).format.rounding
    return stored_blocks(*align_to_blocks(values, exponents, blocks_of(type), rounding), type)


def same_format(op_name: str, operand: TensorType, result: TensorType) -> None:
    """Require a result that differs from an operand in its blocks at most, and has no fixed exponents."""
    require(
        block_float(operand).format == block_float(result).format,
        f"{op_name} keeps the format of its operand, {operand}, found {result}",
    )
    require(block_float(result).exponents is None, f"{op_name} finds its exponents at run time, found {result}")


def block_elem(type: TensorType) -> Elem:
    """The element type, for ops whose result has the same."""
    return block_float(type)


def resolve_block(op: Any, kind: type[Any]) -> Any:
    """The arithmetic that ``op`` cites, which must be one of block floating point.

    Raises:
        OpTypeError: it cites none, or another one.
    """
    found = resolve(op, op.arithmetic)
    require(isinstance(found, kind), f"arithmetic {op.arithmetic} is not one of block floating point")
    return found
