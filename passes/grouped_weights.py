"""What ``calibrate`` does with weights in groups: a multiplier for each group, a scale for each output channel."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcompiler.calibration.group_scales import few_mantissa_bits, group_scales
from qcompiler.errors import QCompilerError
from qcompiler.ir import ConstantArray, Node
from qcompiler.ir.dimension import static_shape
from qcompiler.ops.constant import constant_value
from qcompiler.ops.contraction import Contraction
from qcompiler.ops.quantization import FakeQuant


def is_grouped(node: Node) -> bool:
    """Whether a node marks weights in groups."""
    return isinstance(node.op, FakeQuant) and node.op.multiplier_range is not None


def set_group_scales(node: Node, importance: NDArray[Any] | None = None) -> None:
    """Choose scales and multipliers of marked weights from the weights themselves.

    Args:
        node: marks weights in groups.
        importance: how much the squared error of each weight counts, of the weights' shape; 1 by default.
    """
    op, weights = mark_of(node), constant_value(node.operands[0])
    assert op.multiplier_range is not None
    assert weights is not None
    scale, multipliers = group_scales(
        weights, static_shape(op.blocks), channel_axis(node), (op.qmin, op.qmax), op.multiplier_range,
        importance,
    )
    _set(node, scale, multipliers)


def raise_group_scales(node: Node, least: NDArray[Any]) -> None:
    """Let the channels' scales be at least ``least``, broadcast over the grid of groups; multipliers stay."""
    op = mark_of(node)
    assert op.multipliers is not None
    assert op.multiplier_range is not None
    scale = op.integer_scale
    raised = few_mantissa_bits(np.maximum(scale, least), op.multiplier_range[1], up=True)
    _set(node, np.where(least > scale, raised * op.multipliers.array, op.elem.scale.array), op.multipliers.array)


def channel_axis(node: Node) -> int:
    """The axis of marked weights that runs over output channels, by the contraction that uses them.

    Raises:
        QCompilerError: no contraction uses them.
    """
    for user, index in node.result.uses:
        if isinstance(user.op, Contraction) and index == 1:
            return user.op.weight_channel_axis(node.result.type.rank)
    raise QCompilerError("weights in groups belong to a contraction", layer=node.layer, found="another use")


def _set(node: Node, scale: NDArray[Any], multipliers: NDArray[np.uint8]) -> None:
    node.set_op(mark_of(node).replace(
        scale=ConstantArray(scale.astype(np.float32)), zero_point=ConstantArray(np.zeros(scale.shape, np.int64)),
        multipliers=ConstantArray(multipliers),
    ))


def mark_of(node: Node) -> FakeQuant:
    """The fake_quant of a node that is known to be one."""
    assert isinstance(node.op, FakeQuant)
    return node.op
