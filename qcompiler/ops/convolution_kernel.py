"""Channels-last convolution in numpy, for floats and, exactly, for integers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from qcompiler.ops.exact_product import plan_product

Array = NDArray[Any]
Pair = tuple[int, int]

_PATCH_BYTES = 32 << 20
"""Patches of as many samples as fit in this are gathered at a time."""


def convolve(x: Array, w: Array, strides: Pair, dilations: Pair, groups: int) -> Array:
    """Valid cross-correlation.

    Args:
        x: ``[N, H, W, C]``, already padded; floats, or integers less their zero point.
        w: ``[O, KH, KW, C / groups]``.

    Returns:
        ``[N, OH, OW, O]``; int32 or int64 for integers.
    """
    if groups == x.shape[-1] and w.shape[3] == 1:
        return _depthwise(x, w, strides, dilations)
    if groups == 1:
        return _dense(x, w, strides, dilations)
    outputs, channels = w.shape[0] // groups, w.shape[3]
    parts = [
        _dense(x[..., g * channels : (g + 1) * channels], w[g * outputs : (g + 1) * outputs], strides, dilations)
        for g in range(groups)
    ]
    return np.concatenate(parts, -1)


def windows(x: Array, kernel: Pair, strides: Pair, dilations: Pair) -> Array:
    """A view ``[N, OH, OW, C, KH, KW]`` of all windows of ``[N, H, W, C]``."""
    spans = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True))
    view = sliding_window_view(x, spans, axis=(1, 2))
    result: Array = view[:, :: strides[0], :: strides[1], :, :: dilations[0], :: dilations[1]]
    return result


def _dense(x: Array, w: Array, strides: Pair, dilations: Pair) -> Array:
    """Every output channel sees every input channel: a matrix product of patches and filters."""
    outputs, kernel_height, kernel_width, channels = w.shape
    plan = plan_product(x, w, kernel_height * kernel_width * channels)
    weights = w.reshape(outputs, -1).T.astype(plan.carrier, copy=False)
    source = x.astype(plan.carrier, copy=False)
    patches = windows(source, (kernel_height, kernel_width), strides, dilations).transpose(0, 1, 2, 4, 5, 3)
    step = max(_PATCH_BYTES // max(patches[:1].size * plan.carrier.itemsize, 1), 1)
    parts = []
    for start in range(0, max(len(x), 1), step):
        block = patches[start : start + step]
        parts.append(plan.multiply(block.reshape(*block.shape[:3], len(weights)), weights))
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _depthwise(x: Array, w: Array, strides: Pair, dilations: Pair) -> Array:
    """One filter (or several: a channel multiplier) a channel: a sum of shifted products."""
    multiplier = w.shape[0] // x.shape[-1]
    kernel_height, kernel_width = w.shape[1:3]
    terms = kernel_height * kernel_width
    plan = plan_product(x, w, terms)
    carrier = plan.carrier if plan.chunk >= terms else np.dtype(np.int64)
    source = np.repeat(x, multiplier, -1) if multiplier > 1 else x
    source, weights = source.astype(carrier, copy=False), w[..., 0].astype(carrier)
    height = (x.shape[1] - (kernel_height - 1) * dilations[0] - 1) // strides[0] + 1
    width = (x.shape[2] - (kernel_width - 1) * dilations[1] - 1) // strides[1] + 1
    total = np.zeros((len(x), height, width, w.shape[0]), carrier)
    product = np.empty_like(total)
    for i in range(kernel_height):
        for j in range(kernel_width):
            top, left = i * dilations[0], j * dilations[1]
            shifted = source[
                :, top : top + (height - 1) * strides[0] + 1 : strides[0],
                left : left + (width - 1) * strides[1] + 1 : strides[1],
            ]
            np.multiply(shifted, weights[:, i, j], out=product)
            total += product
    return total.astype(plan.total, copy=False)
