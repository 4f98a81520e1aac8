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
        """Smallest and largest real number to represent; NaN if a NaN was seen, infinite if an infinity was."""


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


OBSERVERS: dict[str, type[Observer]] = {"minmax": MinMax}
"""Observers by the name that ``calibrate{method=...}`` takes."""
