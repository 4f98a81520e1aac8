"""The integers that constants become: what ``realize`` stores, and what proofs before it count on."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcompiler.ir import Affine
from qcompiler.numerics import AffineQuantize, Quantization


def stored_constant(array: NDArray[Any], elem: Affine) -> NDArray[np.int64]:
    """A float constant as stored integers within the bounds of ``elem``: nearest, ties to even."""
    parameters = Quantization(elem.scale_for(array.shape), elem.zero_point_for(array.shape), elem.qmin, elem.qmax)
    return AffineQuantize("half-even").apply(array, parameters)


def stored_bias(array: NDArray[Any], elem: Affine) -> NDArray[np.float64]:
    """A bias at the accumulator's scale: nearest whole numbers, ties to even, which the storage need not hold."""
    whole: NDArray[np.float64] = np.rint(array.astype(np.float64) / elem.scale_for(array.shape).astype(np.float64))
    return whole
