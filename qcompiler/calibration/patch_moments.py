"""Means and covariances of what a contraction multiplies with its weights, over calibration data."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcompiler.calibration.observers import Observer
from qcompiler.ir import Node
from qcompiler.ops.contraction import Contraction, Conv2DBase
from qcompiler.ops.convolution_kernel import windows

_PATCHES = 64
"""Patches taken of each sample; neighbours say much the same."""
_ROWS = 1024
"""Patches that are multiplied at once."""


class PatchMoments(Observer):
    """First and second moments of the patches of a contraction's operand 0, in memory that depends on weights alone.

    A patch is what one result element sums up: ``terms`` numbers for each group, in the order of the weights with
    channels last. Of each batch some patches are drawn at random, with a fixed seed.

    Args:
        node: the contraction.
    """

    def __init__(self, node: Node) -> None:
        self.node = node
        self.random = np.random.default_rng(0)
        self.count = 0
        self.origin: NDArray[np.float32] | None = None
        self.waiting: list[NDArray[np.float32]] = []
        self.total: NDArray[np.float64] | float = 0.0
        self.products: NDArray[np.float64] | float = 0.0

    def update(self, array: NDArray[Any]) -> None:
        self.waiting.append(patches(self.node, array, self.random))
        # Many rows are multiplied at once: the product is large even where the rows are few.
        if sum(rows.shape[1] for rows in self.waiting) >= _ROWS:
            self.take_in()

    def take_in(self) -> None:
        """Add the patches that wait to the moments."""
        if not self.waiting:
            return
        rows = np.concatenate(self.waiting, 1)
        self.waiting = []
        # Counted from zero, what hardly varies would have covariances of rounding errors alone, negative ones too.
        if self.origin is None and rows.shape[1]:
            self.origin = rows[:, :1].copy()
        rows = rows if self.origin is None else rows - self.origin
        self.count += rows.shape[1]
        self.total = self.total + rows.sum(1, dtype=np.float64)
        self.products = self.products + (rows.transpose(0, 2, 1) @ rows).astype(np.float64)

    def interval(self) -> tuple[float, float]:
        extremes = [float(extreme(rows)) for rows in self.waiting if rows.size for extreme in (np.min, np.max)]
        return min(extremes, default=0.0), max(extremes, default=0.0)

    @property
    def means(self) -> NDArray[np.float64]:
        """``[groups, terms]``."""
        shift = self._shift
        return shift if self.origin is None else shift + self.origin[:, 0]

    @property
    def covariances(self) -> NDArray[np.float64]:
        """``[groups, terms, terms]``."""
        shift = self._shift
        return np.asarray(self.products / max(self.count, 1) - shift[:, :, None] * shift[:, None, :])

    @property
    def _shift(self) -> NDArray[np.float64]:
        """The means less ``origin``, from which all patches are counted."""
        self.take_in()
        return np.asarray(self.total / max(self.count, 1))


def patches(node: Node, x: NDArray[Any], random: np.random.Generator) -> NDArray[np.float32]:
    """Some rows ``[groups, rows, terms]`` of what a contraction multiplies with its weights."""
    op = node.op
    assert isinstance(op, Contraction)
    if not isinstance(op, Conv2DBase):
        rows = x.reshape(-1, x.shape[-1])
        return np.asarray(rows[_drawn(len(rows), len(x), random)].astype(np.float32)[None])
    last = x if op.layout == "NHWC" else x.transpose(0, 2, 3, 1)
    weights = np.zeros((op.groups, *op.kernel(node.operands[1].type.shape), last.shape[3] // op.groups), np.float32)
    padded, kernel, strides = op.as_convolution(last, weights, 0)
    view = windows(padded, (kernel.shape[1], kernel.shape[2]), strides, op.dilations)
    places = np.unravel_index(_drawn(int(np.prod(view.shape[:3])), len(x), random), view.shape[:3])
    drawn = view[places].reshape(len(places[0]), op.groups, -1, *kernel.shape[1:3])
    return np.asarray(
        drawn.transpose(1, 0, 3, 4, 2).reshape(op.groups, len(places[0]), -1).astype(np.float32)
    )


def _drawn(count: int, samples: int, random: np.random.Generator) -> NDArray[np.int64]:
    return random.choice(count, min(count, _PATCHES * samples), replace=False) if count else np.zeros(0, np.int64)
