"""Scales of weights in groups: one scale for each output channel, a whole multiplier for each group.

The idea of a whole multiplier for each short vector under one real scale for each channel is that of Dai et al.,
VS-Quant: Per-vector Scaled Quantization for Accurate Low-Precision Neural Network Inference, MLSys 2021.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Real = NDArray[np.float64]

_STEPS = np.linspace(0.5, 1.0, 11)
"""Steps of a group that are tried, as parts of the smallest step at which none of its weights is clipped."""
_DIVISORS = 24
"""How many scales of a channel are tried."""
_CHANGES = (-2, -1, 0, 1, 2)
"""How far multipliers are tried from the nearest to a group's best step: errors have several minima."""
_MANTISSA_BITS = 24
"""Bits of a float32's mantissa, the leading one included."""
_SMALLEST = 2.0**-118
"""Scales stay so far above float32's smallest normal number that their product with any multiplier is exact."""
_NUMBERS = 1 << 16
"""Weights that are looked at together: their copies stay in a processor's cache."""


def group_scales(
    weights: NDArray[Any], blocks: tuple[int, ...], axis: int, limits: tuple[int, int], multipliers: tuple[int, int],
    importance: NDArray[Any] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Scales and multipliers at which the rounded weights differ least from the weights, in the sum of squares.

    Args:
        weights: real numbers.
        blocks: length of a group in each dimension, 1 along ``axis``; the last group of a dimension may be shorter.
        axis: the axis of output channels.
        limits: smallest and largest stored integer.
        multipliers: smallest and largest multiplier, within 1 and 255.
        importance: how much the squared error of each weight counts, of the shape of ``weights``; 1 by default.

    Returns:
        float32 scales and uint8 multipliers on the grid of groups. Each scale is exactly its multiplier times one
        float32 of its channel.
    """
    grouped, grid = _by_groups(weights, blocks, axis)
    counts = np.ones_like(grouped) if importance is None else _by_groups(importance, blocks, axis)[0]
    channels, groups, _ = grouped.shape
    scale, chosen = np.zeros(channels), np.full((channels, groups), multipliers[0], np.uint8)
    for part in _parts(grouped):
        scale[part], chosen[part] = _Search(grouped[part], counts[part], limits, multipliers).best()
    empty = scale == 0
    # A channel of zeros has no scale of its own; the tensor's largest keeps its bias on a grid like the others'.
    scale[empty] = scale.max(initial=0) or 1.0
    base = few_mantissa_bits(np.maximum(scale, _SMALLEST), multipliers[1])
    order = (axis, *(i for i in range(weights.ndim) if i != axis))
    back = np.argsort(order)
    on_grid = chosen.reshape([grid[i] for i in order]).transpose(back)
    shape = [1] * weights.ndim
    shape[axis] = channels
    return (base.reshape(shape) * on_grid).astype(np.float32), np.ascontiguousarray(on_grid)


def few_mantissa_bits(scale: Real, largest_multiplier: int, *, up: bool = False) -> NDArray[np.float32]:
    """The nearest float32 scales, or the next larger, whose product with any multiplier is exact in float32."""
    mantissa, exponent = np.frexp(scale)
    bits = _MANTISSA_BITS - largest_multiplier.bit_length()
    whole = (np.ceil if up else np.rint)(np.ldexp(mantissa, bits))
    return np.asarray(np.ldexp(whole, exponent - bits), np.float32)


def _by_groups(weights: NDArray[Any], blocks: tuple[int, ...], axis: int) -> tuple[Real, tuple[int, ...]]:
    """``[channels, groups, weights of a group]``, short groups filled up with zeros, and the grid of groups."""
    grid = tuple(-(-size // block) for size, block in zip(weights.shape, blocks, strict=True))
    padding = [(0, n * block - size) for n, block, size in zip(grid, blocks, weights.shape, strict=True)]
    padded = np.pad(weights.astype(np.float64), padding)
    cut = padded.reshape([length for pair in zip(grid, blocks, strict=True) for length in pair])
    outer = [2 * axis, *(2 * i for i in range(weights.ndim) if i != axis)]
    inner = [2 * i + 1 for i in range(weights.ndim)]
    channels = grid[axis]
    groups, length = int(np.prod(grid)) // max(channels, 1), int(np.prod(blocks))
    return cut.transpose(*outer, *inner).reshape(channels, groups, length), grid


def _parts(grouped: Real) -> Iterator[slice]:
    """Slices of a few channels each."""
    channels, groups, length = grouped.shape
    step = max(1, _NUMBERS // max(groups * length, 1))
    return (slice(start, start + step) for start in range(0, channels, step))


@dataclass(frozen=True)
class _Search:
    """The search in a few channels.

    Attributes:
        weights, counts: weights and how much their errors count, ``[channels, groups, weights of a group]``.
        limits, multipliers: smallest and largest.
    """

    weights: Real
    counts: Real
    limits: tuple[int, int]
    multipliers: tuple[int, int]

    def best(self) -> tuple[Real, NDArray[np.int64]]:
        """A scale for each channel, 0 where all weights are, and the multipliers of its groups."""
        steps = self.best_steps()
        largest = steps.max(1)
        best = np.full(len(steps), np.inf)
        scale, chosen = np.zeros(len(steps)), np.full(steps.shape, self.multipliers[0])
        # The largest group gets one of the larger multipliers, which grade finely, and room for the next one.
        for divisor in np.linspace(max(self.multipliers[1] / 4, 1), self.multipliers[1] * 1.1, _DIVISORS):
            candidate = largest / divisor
            found, error = self.best_multipliers(steps, candidate)
            fitted = self.fitted(candidate, found)
            for tried, errors in ((candidate, error), (fitted, self.errors(fitted[:, None] * found))):
                total = errors.sum(1)
                better = (total < best) & (largest > 0)
                best[better], scale[better], chosen[better] = total[better], tried[better], found[better]
        return scale, chosen

    def best_steps(self) -> Real:
        """The step of each group at which rounding changes its weights least; 0 where they are all 0."""
        highest, lowest = self.weights.max(2, initial=0), self.weights.min(2, initial=0)
        whole = np.maximum(highest / max(self.limits[1], 1), -lowest / max(-self.limits[0], 1))
        best = np.full(whole.shape, np.inf)
        steps: Real = whole
        for part in _STEPS:
            error = self.errors(whole * part)
            steps = np.asarray(np.where(error < best, whole * part, steps))
            best = np.minimum(error, best)
        return steps

    def best_multipliers(self, steps: Real, scale: Real) -> tuple[NDArray[np.int64], Real]:
        """The multiplier of each group at a given scale, and the error of the group."""
        wanted = np.rint(np.divide(steps, scale[:, None], out=np.ones_like(steps), where=scale[:, None] > 0))
        best, chosen = np.full(steps.shape, np.inf), np.full(steps.shape, self.multipliers[0])
        for change in _CHANGES:
            candidate = np.clip(wanted + change, *self.multipliers).astype(np.int64)
            error = self.errors(scale[:, None] * candidate)
            chosen = np.where(error < best, candidate, chosen)
            best = np.minimum(error, best)
        return chosen, best

    def fitted(self, scale: Real, multipliers: NDArray[np.int64]) -> Real:
        """The scales that fit the integers best to which weights are rounded: least squares."""
        integers = self.rounded(scale[:, None] * multipliers) * multipliers[..., None]
        products = (self.counts * integers * self.weights).sum((1, 2))
        squares = (self.counts * np.square(integers)).sum((1, 2))
        fitted = np.divide(products, squares, out=scale.copy(), where=squares > 0)
        return np.asarray(np.where(fitted > 0, fitted, scale))

    def rounded(self, steps: Real) -> Real:
        """The integers to which weights are rounded."""
        step = np.where(steps > 0, steps, 1.0)[..., None]
        return np.asarray(np.clip(np.rint(self.weights / step), *self.limits))

    def errors(self, steps: Real) -> Real:
        """Sum of squared errors of each group."""
        return np.asarray((self.counts * np.square(self.rounded(steps) * steps[..., None] - self.weights)).sum(2))
