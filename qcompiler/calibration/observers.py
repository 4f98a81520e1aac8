"""Observers: what calibration remembers of a value, in memory that does not depend on the number of samples."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Observer(ABC):
    """Sees a value batch by batch and then names its interval."""

    @abstractmethod
    def update(self, array: NDArray[Any]) -> None:
        """Take in one batch; float32, finite or not."""

    @abstractmethod
    def interval(self) -> tuple[float, float]:
        """Smallest and largest real number seen; NaN if a NaN was seen, infinite if an infinity was."""

    def best_interval(self, steps: int) -> tuple[float, float]:
        """The interval to represent in ``steps`` equal steps; what lies outside will saturate."""
        return self.interval()

    def squared_error(self, low: float, high: float, step: float) -> float | None:
        """What rounding to multiples of ``step`` and saturating at an interval's ends loses; None if not known."""
        return None


class MinMax(Observer):
    """Smallest and largest value seen."""

    def __init__(self) -> None:
        self.low = math.inf
        self.high = -math.inf

    def update(self, array: NDArray[Any]) -> None:
        if array.size:
            self.low = float(np.minimum(self.low, array.min()))
            self.high = float(np.maximum(self.high, array.max()))

    def interval(self) -> tuple[float, float]:
        return (self.low, self.high) if self.low <= self.high or math.isnan(self.low) else (0.0, 0.0)


class SquaredError(MinMax):
    """Counts by magnitude, from which follows the interval that loses the least squared error.

    A float32 number's exponent and the highest bits of its fraction are its bin: 16 bins an octave, for either sign.
    All numbers of a bin are taken for its middle. Where the search finds nothing better, the interval is that of
    ``minmax``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.counts = np.zeros(1 << (32 - _DROPPED_BITS), np.int64)

    def update(self, array: NDArray[Any]) -> None:
        super().update(array)
        bits = np.ascontiguousarray(array, np.float32).reshape(-1).view(np.uint32)
        self.counts += np.bincount(bits >> np.uint32(_DROPPED_BITS), minlength=self.counts.size)

    def best_interval(self, steps: int) -> tuple[float, float]:
        low, high = self.interval()
        # Each end in turn moves inwards as long as that helps.
        for _ in range(2):
            ends = high * _FRACTIONS if high > 0 else [high]
            high = float(min(ends, key=lambda end: self._error_of(low, float(end), steps)))
            ends = low * _FRACTIONS if low < 0 else [low]
            low = float(min(ends, key=lambda end: self._error_of(float(end), high, steps)))
        return low, high

    def _error_of(self, low: float, high: float, steps: int) -> float:
        step = (max(high, 0.0) - min(low, 0.0)) / steps
        return self.squared_error(min(low, 0.0), max(high, 0.0), step)

    def squared_error(self, low: float, high: float, step: float) -> float:
        used = np.flatnonzero(self.counts)
        numbers = _MIDDLES[used]
        saturated = np.clip(numbers, low, high) - numbers
        # Rounding errors are spread evenly; numbers below half a step vanish.
        rounding = np.minimum(np.square(numbers), step * step / 12)
        return float((self.counts[used] * (np.square(saturated) + rounding)).sum())


_DROPPED_BITS = 19
with np.errstate(invalid="ignore"):  # the bins of NaNs, which no value that is calibrated has
    _MIDDLES = (
        (np.arange(1 << (32 - _DROPPED_BITS), dtype=np.uint32) << np.uint32(_DROPPED_BITS))
        + np.uint32(1 << (_DROPPED_BITS - 1))
    ).view(np.float32).astype(np.float64)
_FRACTIONS = np.exp2(-np.arange(0, 49) / 16)
"""Parts of an end of the interval that are tried: three octaves, as finely as the bins."""

OBSERVERS: dict[str, type[Observer]] = {"minmax": MinMax, "mse": SquaredError}
"""Observers by the name that ``calibrate{method=...}`` takes."""
