"""Arrays in a few figures: range, mean, zeros, saturation, histogram."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

BINS = 12
"""Bars of a histogram; integers that take fewer values have one for each."""


@dataclass(frozen=True)
class Histogram:
    """Counts of numbers between edges; the last bar holds its upper edge too."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True)
class NumberSummary:
    """What numbers an array holds.

    Attributes:
        count: how many.
        minimum, maximum, mean: of those that are finite; None where none is.
        zeros: share of zeros, from 0 to 1.
        not_finite: how many are infinite or NaN.
        histogram: of the finite ones.
    """

    count: int
    minimum: float | None
    maximum: float | None
    mean: float | None
    zeros: float
    not_finite: int
    histogram: Histogram


def summarize(array: Array) -> NumberSummary:
    """The figures of an array of any shape and type."""
    numbers = np.asarray(array).reshape(-1)
    real = numbers.astype(np.float64)
    finite = real[np.isfinite(real)]
    some = bool(finite.size)
    return NumberSummary(
        numbers.size,
        float(finite.min()) if some else None, float(finite.max()) if some else None,
        float(finite.mean()) if some else None,
        share(int((numbers == 0).sum()), numbers.size), numbers.size - finite.size,
        _histogram(finite, whole=numbers.dtype.kind in "iub"),
    )


def share(part: int, total: int) -> float:
    """``part`` of ``total``, from 0 to 1; 0 of nothing."""
    return part / total if total else 0.0


def _histogram(finite: NDArray[np.float64], whole: bool) -> Histogram:
    if not finite.size:
        return Histogram((), ())
    if whole:
        # Bars of equally many integers, the last one aside: else some would hold more by rounding alone.
        low, high = int(finite.min()), int(finite.max())
        step = -(-(high - low + 1) // BINS)
        edges = np.array([*range(low, high + 1, step), high + 1], np.float64)
    else:
        edges = np.histogram_bin_edges(finite, BINS)
    counts, edges = np.histogram(finite, edges)
    return Histogram(tuple(map(float, edges)), tuple(map(int, counts)))
