"""Sums of products of 16-bit numbers, estimated from their high bytes.

With ``x = 256 * a + 128 + c`` and ``w = 256 * b + d``, where a is the high byte of x (rounded down), and b that of w
(to the nearest)::

    sum(x * w) = 2**16 * sum(a * b) + 2**15 * sum(b) + sum((256 * a + 128) * d) + sum(c * w)

The first two parts are the estimate: products of bytes, and a constant for each output. What they leave out is small:
``abs(256 * a + 128) < 2**15`` and ``abs(c) <= 2**7``. The sum's low 32 bits come from products of 16 bits that wrap
around. Where the estimate is less than ``2**31`` away, both determine the sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcompiler.backends.tvm.element import Stage, Step
from qcompiler.backends.tvm.kernels.elementwise import Elementwise, elementwise
from qcompiler.backends.tvm.lanes import Expr, literal_like

PLACES = 16
"""The estimate is a multiple of 2**16."""


@dataclass(frozen=True)
class HighByte(Stage):
    """``floor(x / 256) + zero_point`` of int16 numbers.

    Attributes:
        zero_point: 0 for int8 results, 128 for uint8.
    """

    zero_point: int

    def expression(self, operands: Sequence[Expr]) -> Expr:
        (x,) = operands
        return (x >> literal_like(8, x)) + literal_like(self.zero_point, x)


def zero_point_of(stored: str) -> int:
    """What stands for the high byte 0 in activations of this format, ``int8`` or ``uint8``."""
    return 128 if stored == "uint8" else 0


def high_bytes_kernel(count: int, stored: str) -> Elementwise:
    """From int16 ``input_0`` to the high bytes ``y``.

    Args:
        count: how many numbers.
        stored: format of the high bytes, ``int8`` or ``uint8``.
    """
    steps = (Step(HighByte(zero_point_of(stored)), (0,)),)
    return elementwise((count,), (("int16", (count,), False),), steps, stored)


@dataclass(frozen=True)
class EstimateWeights:
    """What estimates sums of products.

    Attributes:
        high: int8, shaped as the weights.
        bias: int32 ``[N]``, added to the sums of products of high bytes.
    """

    high: NDArray[np.int8]
    bias: NDArray[np.int32]


def estimate_weights(weights: NDArray[np.int16]) -> EstimateWeights | None:
    """High bytes of weights whose estimates are near enough, whatever the activations are; None for other weights.

    Args:
        weights: int16 ``[N, ...]``; what follows the first axis is summed up.
    """
    wide = weights.astype(np.int32).reshape(len(weights), -1)
    high = np.minimum((wide + 128) >> 8, 127)
    # Half of the bytes' sum stands for 2**15 times it: where that is odd, 2**15 is left out.
    away = (_magnitudes(wide) << 7) + (_magnitudes(wide - (high << 8)) << 15) + (1 << 15)
    if (away >= 1 << 31).any():
        return None
    return EstimateWeights(
        high.astype(np.int8).reshape(weights.shape), (high.sum(axis=1, dtype=np.int64) >> 1).astype(np.int32)
    )


def _magnitudes(numbers: NDArray[Any]) -> NDArray[np.int64]:
    """Sums of magnitudes by output."""
    sums: NDArray[np.int64] = np.abs(numbers).sum(axis=1, dtype=np.int64)
    return sums
