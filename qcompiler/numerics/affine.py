"""Affine quantization: real = scale * (q - zero_point)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qcompiler.numerics.registry import arithmetic, check_choice
from qcompiler.numerics.rounding import REAL_ROUNDINGS, Int64

_SMALLEST_SCALE = float(np.finfo(np.float32).tiny)
"""Scales are normal float32 numbers."""


@dataclass(frozen=True)
class Quantization:
    """Parameters of an affine tensor, broadcastable to its shape.

    Attributes:
        scale: float32.
        zero_point: int64.
        qmin, qmax: bounds of the stored integers.
    """

    scale: NDArray[np.float32]
    zero_point: Int64
    qmin: int
    qmax: int

    def clamp(self, q: Int64) -> Int64:
        return np.clip(q, self.qmin, self.qmax)

    @property
    def largest_difference(self) -> int:
        """Largest magnitude of ``q - zero_point``."""
        return int(max((self.qmax - self.zero_point).max(), (self.zero_point - self.qmin).max()))

    @property
    def largest_magnitude(self) -> int:
        """Largest magnitude of ``q``."""
        return max(abs(self.qmin), abs(self.qmax))


class Intermediate(NamedTuple):
    """A number inside an arithmetic, for overflow proofs.

    Attributes:
        what: what it is, for messages.
        bound: largest magnitude that any input gives it.
        limit: largest magnitude that hardware of this arithmetic holds.
    """

    what: str
    bound: int
    limit: int


@arithmetic("quantize", "affine")
class AffineQuantize:
    """q = clamp(round(x / scale) + zero_point), division in float32, zero point added after rounding.

    ``half-away`` is LiteRT's QUANTIZE (``AffineQuantize``), ``half-even`` ONNX's QuantizeLinear.
    """

    rounding: str = "half-away"

    def __post_init__(self) -> None:
        check_choice("rounding", self.rounding, REAL_ROUNDINGS)

    def apply(self, x: NDArray[np.float32], output: Quantization) -> Int64:
        """Quantize.

        Args:
            x: float32, no NaN; infinities saturate.
            output: parameters of the result.

        Returns:
            int64 within [qmin, qmax].
        """
        with np.errstate(over="ignore"):
            quotient = x.astype(np.float32, copy=False) / output.scale
        # Beyond +-2**40 every storage format saturates; the bound keeps the conversion to integers defined.
        whole = REAL_ROUNDINGS[self.rounding](np.clip(quotient, -(2.0**40), 2.0**40))
        return output.clamp(whole.astype(np.int64) + output.zero_point)


def dequantize(q: NDArray[Any], source: Quantization) -> NDArray[np.float32]:
    """``scale * (q - zero_point)`` in float32.

    The product is formed in float64 and rounded to float32: correctly rounded for differences below 2**29.
    """
    difference = q.astype(np.int64) - source.zero_point
    return (source.scale.astype(np.float64) * difference).astype(np.float32)


def parameters_from_range(
    minimum: ArrayLike, maximum: ArrayLike, qmin: int, qmax: int, zero_point: int | None = None
) -> tuple[NDArray[np.float32], Int64]:
    """Scale and zero point of ranges, with real zero exactly representable.

    scale = (max - min) / (qmax - qmin), where the range is first extended to contain zero. With a given
    ``zero_point`` the scale is the smallest that holds both ends.

    Args:
        minimum, maximum: ends of the ranges, one for each block.
        qmin, qmax: bounds of the stored integers.
        zero_point: fixed zero point, or None to choose one.

    Returns:
        float32 scales and int64 zero points; scale 1 where the range is the single point 0.
    """
    low = np.minimum(np.asarray(minimum, np.float64), 0.0)
    high = np.maximum(np.asarray(maximum, np.float64), 0.0)
    if zero_point is None:
        scale = _positive((high - low) / (qmax - qmin), low == high)
        chosen = np.rint(qmin - low / scale.astype(np.float64)).astype(np.int64)
        return scale, np.clip(chosen, qmin, qmax)
    below, above = zero_point - qmin, qmax - zero_point
    candidates = [np.zeros_like(low)]
    if below:
        candidates.append(-low / below)
    if above:
        candidates.append(high / above)
    scale = _positive(np.max(candidates, axis=0), low == high)
    return scale, np.full(scale.shape, zero_point, np.int64)


def next_power_of_two(scale: ArrayLike) -> NDArray[np.float32]:
    """The smallest powers of two that are no smaller than positive float32 numbers."""
    fraction, exponent = np.frexp(np.asarray(scale, np.float32))
    return np.asarray(np.ldexp(np.float32(1), exponent - (fraction == 0.5)), np.float32)


def _positive(scale: NDArray[np.float64], degenerate: NDArray[np.bool_]) -> NDArray[np.float32]:
    """``scale`` as float32 numbers of at least ``_SMALLEST_SCALE``, 1 where the range is degenerate."""
    return np.where(degenerate, 1.0, np.maximum(scale, _SMALLEST_SCALE)).astype(np.float32)
