"""The fused multiply-add of float32, in numpy, which has none."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def fused_multiply_add(x: ArrayLike, y: ArrayLike, addend: ArrayLike) -> NDArray[np.float32]:
    """``x * y + addend``, rounded once to float32, as the processor's FMA instruction does.

    The product of two float32 numbers is exact in float64. Their sum with the addend may not be; it is then rounded
    to odd, after which rounding to float32 gives the nearest float32 to the exact sum: S. Boldo, G. Melquiond,
    "Emulation of a FMA and correctly rounded sums: proved algorithms using rounding to odd", IEEE Transactions on
    Computers 57(4), 2008.

    Args:
        x, y, addend: numbers that float32 holds; they broadcast. Products and results are normal numbers or zero.
    """
    product = np.asarray(x, np.float64) * np.asarray(y, np.float64)
    term = np.asarray(addend, np.float64)
    total = np.asarray(product + term)
    # Knuth's TwoSum: the error of the float64 sum, exactly.
    other = total - product
    error = (product - (total - other)) + (term - other)
    if error.any():
        even = (total.view(np.int64) & 1) == 0
        toward_exact = np.nextafter(total, np.where(error > 0, np.inf, -np.inf))
        total = np.where((error != 0) & even, toward_exact, total)
    return total.astype(np.float32)
