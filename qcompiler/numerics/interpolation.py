"""Integer bilinear resize. Source: LiteRT ``reference/resize_bilinear.h`` (``ResizeBilinearInteger``)."""

from __future__ import annotations

import numpy as np

from qcompiler.numerics.affine import Quantization
from qcompiler.numerics.registry import arithmetic
from qcompiler.numerics.rounding import Int64, divide_half_away

_FRACTION_BITS = 10


@arithmetic("resize", "litert-resize-bilinear")
class LitertResizeBilinear:
    """10-bit coordinates, 20-bit weights, one rounding with ties away from zero; scale and zero point stay."""

    def coordinates(
        self, input_size: int, output_size: int, half_pixel: bool, align_corners: bool
    ) -> tuple[Int64, Int64, Int64]:
        """Lower and upper source index of each result index, and the weight of the upper one in 1/1024."""
        one = 1 << _FRACTION_BITS
        if align_corners and output_size > 1:
            step = (one * (input_size - 1) + (output_size - 1) // 2) // (output_size - 1)
        else:
            step = (one * input_size + output_size // 2) // output_size
        position = np.arange(output_size, dtype=np.int64) * step
        if half_pixel:
            position += step // 2 - one // 2
        lower = np.maximum(np.sign(position) * (np.abs(position) >> _FRACTION_BITS), 0)
        ceiling = position + one - 1
        upper = np.minimum(np.sign(ceiling) * (np.abs(ceiling) >> _FRACTION_BITS), input_size - 1)
        return lower, upper, position - one * lower

    def apply(
        self, x: Int64, output_sizes: tuple[int, int], output: Quantization, half_pixel: bool, align_corners: bool
    ) -> Int64:
        """Resize axes 1 and 2 of ``[N, H, W, C]`` stored integers."""
        one = 1 << _FRACTION_BITS
        top, bottom, down = self.coordinates(x.shape[1], output_sizes[0], half_pixel, align_corners)
        left, right, across = self.coordinates(x.shape[2], output_sizes[1], half_pixel, align_corners)
        down, across = down[:, None, None], across[None, :, None]
        upper, lower = x[:, top], x[:, bottom]
        total = (
            upper[:, :, left] * (one - down) * (one - across)
            + lower[:, :, left] * down * (one - across)
            + upper[:, :, right] * (one - down) * across
            + lower[:, :, right] * down * across
        )
        return output.clamp(divide_half_away(total, 1 << (2 * _FRACTION_BITS)))
