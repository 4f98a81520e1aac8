"""How windows of convolutions and pools lie on an image."""

from __future__ import annotations

Pair = tuple[int, int]
Pads = tuple[int, int, int, int]
"""Top, left, bottom, right."""


def window_extent(kernel: Pair, dilations: Pair) -> Pair:
    """Rows and columns of the input that a window spans."""
    return (kernel[0] - 1) * dilations[0] + 1, (kernel[1] - 1) * dilations[1] + 1


def window_counts(sizes: Pair, kernel: Pair, strides: Pair, dilations: Pair, pads: Pads) -> Pair:
    """Rows and columns of windows on an image of this height and width: those of the result."""
    top, left, bottom, right = pads
    height, width = window_extent(kernel, dilations)
    return (
        (sizes[0] + top + bottom - height) // strides[0] + 1,
        (sizes[1] + left + right - width) // strides[1] + 1,
    )
