"""Powers of two as scales of constants: a step finer, at which the largest numbers saturate, often errs less."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcompiler.ir.types import spread_blocks

_FINER = 3
"""Halvings that are tried."""


def best_power_of_two(
    array: NDArray[Any], scale: NDArray[np.float32], blocks: tuple[int, ...], qmin: int, qmax: int
) -> NDArray[np.float32]:
    """The power of two, among ``scale`` and its halves, with the least squared error of each block.

    Args:
        array: the numbers, float32.
        scale: powers of two at which all of them fit, on the grid of blocks.
        blocks: block length in each dimension; ``()`` for one block.
        qmin, qmax: bounds of the stored integers; the zero point is 0.
    """
    best, least = scale, squared_error(array, scale, blocks, qmin, qmax)
    for step in range(1, _FINER + 1):
        candidate = (scale * np.float32(2.0**-step)).astype(np.float32)
        error = squared_error(array, candidate, blocks, qmin, qmax)
        best, least = np.where(error < least, candidate, best), np.minimum(error, least)
    return best


def squared_error(
    array: NDArray[Any], scale: NDArray[np.float32], blocks: tuple[int, ...], qmin: int, qmax: int
) -> NDArray[np.float64]:
    """What rounding to multiples of ``scale`` within the bounds loses, on the grid of blocks."""
    steps = spread_blocks(scale, array.shape).astype(np.float64)
    rounded = np.clip(np.rint(array / steps), qmin, qmax) * steps
    error = np.square(array - rounded)
    if not blocks:
        return np.asarray(error.sum())
    split = [part for size, length in zip(array.shape, blocks, strict=True) for part in (size // length, length)]
    return np.asarray(error.reshape(split).sum(tuple(range(1, 2 * array.ndim, 2))))
