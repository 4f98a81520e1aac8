"""Sums of integer products through BLAS, exact because no partial sum leaves the mantissa."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_FLOAT32_EXACT = 1 << 24
_FLOAT64_EXACT = 1 << 53
_SHORTEST_FLOAT32_CHUNK = 128


def matmul(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    """``a @ b``: exact int64 for integers, plain float for floats.

    Integers are multiplied in float32, in slices of the reduction short enough that every partial sum stays below
    2**24, or in float64 below 2**53.

    Args:
        a: ``[..., M, K]``.
        b: ``[..., K, N]``.
    """
    if a.dtype.kind == "f":
        product: NDArray[Any] = a @ b
        return product
    terms = a.shape[-1]
    largest = max(_magnitude(a) * _magnitude(b), 1)
    chunk = (_FLOAT32_EXACT - 1) // largest
    if chunk >= min(terms, _SHORTEST_FLOAT32_CHUNK):
        return _float32_chunks(a, b, chunk)
    if terms * largest < _FLOAT64_EXACT:
        return (a.astype(np.float64) @ b.astype(np.float64)).astype(np.int64)
    return a.astype(np.int64) @ b.astype(np.int64)


def _float32_chunks(a: NDArray[Any], b: NDArray[Any], chunk: int) -> NDArray[np.int64]:
    a32, b32 = a.astype(np.float32), b.astype(np.float32)
    total: NDArray[np.int64] | None = None
    for start in range(0, max(a.shape[-1], 1), chunk):
        part = (a32[..., start : start + chunk] @ b32[..., start : start + chunk, :]).astype(np.int64)
        total = part if total is None else total + part
    assert total is not None
    return total


def accumulate(terms: NDArray[Any], weights: NDArray[Any], total: NDArray[Any]) -> None:
    """``total += terms * weights`` in the format of ``total``, which must hold every partial sum."""
    total += terms * weights


def accumulator_dtype(a: NDArray[Any], b: NDArray[Any], terms: int) -> np.dtype[Any]:
    """A format that holds every partial sum of ``terms`` products exactly."""
    if a.dtype.kind == "f":
        return a.dtype
    largest = _magnitude(a) * _magnitude(b) * terms
    return np.dtype(np.float32 if largest < _FLOAT32_EXACT else np.int64)


def _magnitude(array: NDArray[Any]) -> int:
    return max(abs(int(array.min())), abs(int(array.max()))) if array.size else 0
