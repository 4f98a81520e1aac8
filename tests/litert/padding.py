"""TensorFlow's padding schemes as the explicit pads of our ops."""

from __future__ import annotations

from collections.abc import Sequence


def same_padding(size: int, kernel: int, stride: int, dilation: int = 1) -> tuple[int, int]:
    """TensorFlow's SAME: the odd cell goes to the end."""
    total = max((-(-size // stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
    return total // 2, total - total // 2


def pads_for(
    padding: str, sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int] = (1, 1)
) -> tuple[int, int, int, int]:
    """Top, left, bottom and right pads of ``"SAME"`` or ``"VALID"``."""
    if padding == "VALID":
        return (0, 0, 0, 0)
    (top, bottom), (left, right) = (
        same_padding(*arguments) for arguments in zip(sizes, kernel, strides, dilations, strict=True)
    )
    return (top, left, bottom, right)
