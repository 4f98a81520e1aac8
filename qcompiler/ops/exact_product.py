"""Sums of integer products through BLAS, exact because no partial sum leaves the mantissa."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_FLOAT32_EXACT = 1 << 24
_FLOAT64_EXACT = 1 << 53
_INT32_EXACT = 1 << 31
_SHORTEST_FLOAT32_CHUNK = 128


@dataclass(frozen=True)
class ProductPlan:
    """How products of two arrays are summed without rounding; for floats, how they are summed at all.

    Attributes:
        carrier: format in which factors are multiplied and partial sums formed.
        chunk: longest slice of the reduction whose sum ``carrier`` holds exactly.
        total: format of the whole sum.
    """

    carrier: np.dtype[Any]
    chunk: int
    total: np.dtype[Any]

    def multiply(self, a: Array, b: Array) -> Array:
        """``a @ b`` of arrays in the carrier format; ``[..., M, K]`` times ``[..., K, N]``, in the total format."""
        terms = a.shape[-1]
        if terms <= self.chunk:
            return (a @ b).astype(self.total, copy=False)
        total = self.multiply(a[..., : self.chunk], b[..., : self.chunk, :])
        for start in range(self.chunk, terms, self.chunk):
            part = slice(start, start + self.chunk)
            total = total + (a[..., part] @ b[..., part, :]).astype(self.total)
        return total


def plan_product(a: Array, b: Array, terms: int) -> ProductPlan:
    """A plan for sums of ``terms`` products of elements of ``a`` and ``b``.

    float32 is twice as fast as float64; long reductions are cut into slices whose sums stay below 2**24.
    """
    if a.dtype.kind == "f":
        return ProductPlan(a.dtype, terms, a.dtype)
    largest = max(_magnitude(a) * _magnitude(b), 1)
    total = np.dtype(np.int32 if terms * largest < _INT32_EXACT else np.int64)
    chunk = (_FLOAT32_EXACT - 1) // largest
    if chunk >= min(terms, _SHORTEST_FLOAT32_CHUNK):
        return ProductPlan(np.dtype(np.float32), max(min(chunk, terms), 1), total)
    if terms * largest < _FLOAT64_EXACT:
        return ProductPlan(np.dtype(np.float64), terms, total)
    return ProductPlan(np.dtype(np.int64), terms, np.dtype(np.int64))


def matmul(a: Array, b: Array) -> Array:
    """``a @ b``: exact for integers (int32 or int64), plain float for floats.

    Args:
        a: ``[..., M, K]``.
        b: ``[..., K, N]``.
    """
    plan = plan_product(a, b, a.shape[-1])
    return plan.multiply(a.astype(plan.carrier, copy=False), b.astype(plan.carrier, copy=False))


def _magnitude(array: Array) -> int:
    return max(abs(int(array.min())), abs(int(array.max()))) if array.size else 0
