"""Which taps of a kernel one result element can see at the same time."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from qcompiler.ir import TensorType
from qcompiler.ops.contraction import Conv2D, Conv2DBase
from qcompiler.ops.inference import static_dim

Taps = NDArray[np.bool_]


def visible_taps(op: Conv2DBase, x: TensorType, w: TensorType) -> list[Taps]:
    """The largest sets of taps that lie inside the input for some result element.

    Padding hides taps at a border; where the input is smaller than the kernel, no result sees all of them. Strides of
    a transposed convolution share its taps out among neighbouring results.

    Args:
        op: the convolution.
        x: its operand 0, of static height and width.
        w: its operand 1.

    Returns:
        ``bool[KH, KW]`` each; no set is part of another. At least one.
    """
    first = 1 if op.layout == "NHWC" else 2
    kernel = op.kernel(w.shape)
    (result,) = op.infer_shapes([x, w])
    rows, columns = (
        _largest(
            _visible(
                op, axis, static_dim(x.shape[first + axis], "spatial size"), kernel[axis],
                static_dim(result[first + axis], "spatial size"),
            )
        )
        for axis in (0, 1)
    )
    return [np.asarray(np.outer(row, column)) for row in rows for column in columns]


def _visible(op: Conv2DBase, axis: int, size: int, kernel: int, results: int) -> Taps:
    """``bool[results, kernel]``: whether a result sees a tap along one axis."""
    places = np.arange(results)[:, None]
    taps = np.arange(kernel)[None, :] * op.dilations[axis]
    stride, pad = op.strides[axis], op.pads[axis]
    if isinstance(op, Conv2D):
        source = places * stride + taps - pad
        return np.asarray((source >= 0) & (source < size))
    # Element i of the input and tap k add to element i * stride + k * dilation - pad.
    spread = places + pad - taps
    return np.asarray((spread % stride == 0) & (spread >= 0) & (spread // stride < size))


def _largest(seen: Taps) -> list[Taps]:
    """The distinct rows that are not part of another; one at least."""
    sets: Iterable[Taps] = np.unique(seen, axis=0)
    kept: list[Taps] = []
    for one in sorted(sets, key=lambda s: -int(s.sum())):
        if not any(bool((one <= other).all()) for other in kept):
            kept.append(one)
    return kept
