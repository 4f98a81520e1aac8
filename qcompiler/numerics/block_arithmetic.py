"""Arithmetic on block floating point that a target may choose."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qcompiler.errors import QCompilerError
from qcompiler.numerics.block_accumulator import OVERFLOW_RULES, FixedPointAccumulator
from qcompiler.numerics.block_contraction import SUMMATION_ORDERS
from qcompiler.numerics.registry import arithmetic
from qcompiler.numerics.rounding import Int64


class BlockArithmetic:
    """Base of arithmetic on block floating point."""


@arithmetic("conv2d", "fixed-point")
@arithmetic("conv_transpose2d", "fixed-point")
@arithmetic("matmul", "fixed-point")
@dataclass(frozen=True)
class FixedPointSum(BlockArithmetic):
    """Sums of products in fixed point, as wide as the result's mantissa.

    The dot product of the mantissas of a pair of blocks is exact. A result takes the largest exponent of its pairs of
    blocks, less ``fraction``, but at least the bias's exponent. Dots at smaller exponents are shifted right, rounded
    as the result's format says, and added in order; the bias comes last. A bias is never shifted left.

    Parameters: ``overflow`` of the accumulator: forbidden (proved at compile time), saturate (after each addition) or
    wrap; ``fraction``: binary places kept below the last bit of the largest pair of blocks.
    """

    overflow: str = "forbidden"
    fraction: int = 0

    def __post_init__(self) -> None:
        if self.overflow not in OVERFLOW_RULES:
            raise QCompilerError(f"unknown overflow {self.overflow!r}", expected="one of " + ", ".join(OVERFLOW_RULES))

    def accumulator(self, bits: int, rounding: str) -> FixedPointAccumulator:
        """The accumulator of a result with mantissas of ``bits`` that rounds by ``rounding``."""
        return FixedPointAccumulator(bits, self.overflow, rounding, self.fraction)


@arithmetic("conv2d", "float32")
@arithmetic("conv_transpose2d", "float32")
@arithmetic("matmul", "float32")
@dataclass(frozen=True)
class Float32Sum(BlockArithmetic):
    """Sums of products in float32: IEEE 754 binary32, half to even, with subnormal numbers.

    The dot product of the mantissas of a pair of blocks is exact and rounded to float32 once. Dots are added in order
    without fused steps, the bias last. A sum beyond float32 is an error.

    Parameters: ``order`` of the additions: sequential (from the first block to the last) or pairwise (neighbours,
    then neighbouring sums).
    """

    order: str = "sequential"

    def __post_init__(self) -> None:
        if self.order not in SUMMATION_ORDERS:
            raise QCompilerError(
                f"unknown order of summation {self.order!r}", expected="one of " + ", ".join(SUMMATION_ORDERS)
            )


@arithmetic("add", "align-larger")
@arithmetic("sub", "align-larger")
@arithmetic("reduce_sum", "align-larger")
@dataclass(frozen=True)
class AlignLarger(BlockArithmetic):
    """A sum at the largest exponent of what meets in the result's block.

    Operands at smaller exponents are shifted right and rounded as the result's format says; the sum is exact.
    """


@arithmetic("mul", "exact-product")
@dataclass(frozen=True)
class ExactProduct(BlockArithmetic):
    """The product of the mantissas at the sum of the exponents, exact.

    Where products of several exponents meet in a block of the result, the smaller ones are shifted right and rounded
    as the result's format says.
    """


@arithmetic("mean", "reciprocal")
@arithmetic("average_pool2d", "reciprocal")
@dataclass(frozen=True)
class ReciprocalMean(BlockArithmetic):
    """A sum at the largest exponent, as for ``align-larger``, times the fixed-point reciprocal of the count.

    The reciprocal of ``n`` is the integer nearest to ``2**places / n``, ties to even, where ``places`` makes the
    reciprocal of the smallest count one of ``bits`` bits. Products are exact; the result's exponent is lower by
    ``places``. A count that is a power of two loses nothing.

    Parameters: ``bits`` of the reciprocal, its sign included.
    """

    bits: int = 16

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 31:
            raise QCompilerError("a reciprocal has 2 to 31 bits", found=str(self.bits))

    def places(self, counts: NDArray[np.int64]) -> int:
        """Binary places of the reciprocals of these counts."""
        return self.bits - 2 + (int(counts.min()) - 1).bit_length()

    def reciprocals(self, counts: NDArray[np.int64]) -> Int64:
        """The reciprocal of each count, at ``places``."""
        # Below 2**31 * 2**20, so float64 division is the correctly rounded quotient, never a wrong tie.
        return np.rint(np.float64(2.0 ** self.places(counts)) / counts).astype(np.int64)
