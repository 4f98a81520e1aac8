"""The real numbers that stored ones stand for."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from qcompiler.ir import Affine, BlockFloat, Tensor
from qcompiler.numerics import dequantize
from qcompiler.ops import block_conversion
from qcompiler.ops.quantized import parameters


def real_numbers(tensor: Tensor) -> NDArray[Any]:
    """The real numbers that a tensor stands for.

    Returns:
        Float32 for affine types, float64 for block floating point, and of plain types the numbers as they are.
    """
    if isinstance(tensor.type.elem, Affine):
        return dequantize(tensor.data, parameters(tensor.type))
    return block_conversion.real_numbers(tensor) if isinstance(tensor.type.elem, BlockFloat) else tensor.data
