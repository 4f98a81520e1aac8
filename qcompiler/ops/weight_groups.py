"""Weights in groups along the reduction: a whole multiplier for each group, a scale for each output channel.

A weight of channel c in group g is ``q * m[c, g] * s[c]``. A contraction multiplies the dot product of each group by
the group's multiplier and sums the groups. By distributivity that is the dot product with the integers ``q * m``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcompiler.ir.constant_array import ConstantArray
from qcompiler.ir.op import OpTypeError, require
from qcompiler.ir.types import Affine, TensorType, channel_blocks, spread_blocks
from qcompiler.ops.quantized import affine


def weight_scales(weights: TensorType, axis: int, multipliers: ConstantArray | None) -> NDArray[np.float32]:
    """The scales at which a contraction accumulates its weights.

    Args:
        weights: an affine type.
        axis: the axis of output channels.
        multipliers: uint8 on the block grid of ``weights``, at least 1; None for weights without groups.

    Returns:
        float32: a scalar for one scale, else one number for each output channel. With multipliers it is the scale of
        a group divided by its multiplier.

    Raises:
        OpTypeError: scales along other axes; or multipliers that do not fit: their shape, a zero point other than 0,
            or groups of one channel whose scales are not whole multiples of one float32.
    """
    elem = affine(weights)
    if multipliers is None:
        if elem.is_per_tensor:
            return elem.scale.array
        require(
            elem.blocks == channel_blocks(weights.shape, axis),
            f"operand 1 must have one scale, or one for each index of axis {axis}, found blocks {elem.blocks}",
        )
        return elem.scale.array.reshape(-1)
    _check_groups(weights, elem, axis, multipliers)
    return _channel_scales(elem.scale.array, axis, multipliers.array)


def integer_weights(weights: TensorType, stored: NDArray[Any], multipliers: ConstantArray | None) -> NDArray[np.int64]:
    """``(q - zero_point) * m``: the integers by which a contraction multiplies its centered operand 0.

    Args:
        weights: an affine type without free dimensions.
        stored: the stored integers ``q``.
        multipliers: as for :func:`weight_scales`.
    """
    elem = affine(weights)
    centered: NDArray[np.int64] = stored.astype(np.int64) - elem.zero_point_for(stored.shape)
    if multipliers is None:
        return centered
    return np.asarray(centered * spread_blocks(multipliers.array.astype(np.int64), stored.shape, elem.blocks), np.int64)


def _check_groups(weights: TensorType, elem: Affine, axis: int, multipliers: ConstantArray) -> None:
    array = multipliers.array
    require(array.dtype == np.uint8, f"group multipliers are uint8, found {array.dtype}")
    require(
        len(elem.blocks) == weights.rank and elem.blocks[axis] == 1,
        f"group multipliers need operand 1 with groups of one index of axis {axis}, found {elem}",
    )
    require(
        array.shape == elem.scale.shape,
        f"group multipliers of shape {array.shape} do not fit a grid of {elem.scale.shape} groups",
    )
    require(bool((array >= 1).all()), "group multipliers must be at least 1")
    require(elem.symmetric, f"grouped weights have zero point 0, found {elem}")


def _channel_scales(scale: NDArray[np.float32], axis: int, multipliers: NDArray[Any]) -> NDArray[np.float32]:
    """The float32 of which all scales of a channel's groups are multiples."""
    scales = np.moveaxis(scale, axis, 0).reshape(scale.shape[axis], -1)
    factors = np.moveaxis(multipliers, axis, 0).reshape(scales.shape)
    base = np.asarray(scales[:, 0] / factors[:, 0], np.float32)
    # float64 holds the product of a float32 and a multiplier exactly, so that equality is exact.
    if (scales.astype(np.float64) != base[:, None].astype(np.float64) * factors).any():
        raise OpTypeError("the scales of operand 1 must be its group multipliers times one number for each channel")
    return base
