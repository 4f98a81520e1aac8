"""Weights in groups along the reduction: which groups a descriptor's type stands for, and whether a node has them."""

from __future__ import annotations

from qcompiler.ir import Affine, Node, Shape
from qcompiler.ops.contraction import Contraction, Conv2DBase
from qcompiler.target.descriptor import TypeSpec


def group_blocks(spec: TypeSpec, node: Node, index: int) -> Shape:
    """Block lengths of operand ``index`` of ``node``, held in an affine format with groups.

    Groups lie along the input channels of one tap, the reduced axis of a matrix product; the last one may be shorter.
    Where there is one input channel, as in a depthwise convolution, a group is the taps of an output channel.

    Raises:
        ValueError: the operand is not the weights of a contraction.
    """
    op, type = node.op, node.operands[index].type
    if not isinstance(op, Contraction) or index != 1 or not isinstance(spec.blocks, int):
        raise ValueError("groups lie along the reduction of a contraction's weights")
    if isinstance(op, Conv2DBase):
        axis = 3 if op.layout == "NHWC" else 1
        if type.shape[axis] == 1:
            return tuple(1 if i == 0 else size for i, size in enumerate(type.shape))
    else:
        axis = type.rank - 1 if op.weight_channel_axis(type.rank) == type.rank - 2 else type.rank - 2
    length = type.shape[axis]
    assert isinstance(length, int)
    return tuple(max(min(spec.blocks, length), 1) if i == axis else 1 for i in range(type.rank))


def admits_groups(spec: TypeSpec, node: Node, index: int) -> str | None:
    """Why a format does not admit the groups of an affine operand, or their absence; None where it does."""
    op, elem = node.op, node.operands[index].type.elem
    if not isinstance(op, Contraction) or index != 1 or not isinstance(elem, Affine):
        return None
    multipliers = op.group_multipliers
    if spec.group_multiplier is None:
        return None if multipliers is None else "has no groups with multipliers"
    if multipliers is None:
        return "has a multiplier for each group"
    blocks = group_blocks(spec, node, index)
    if elem.blocks != blocks:
        return f"has groups of {list(blocks)}"
    smallest, largest = spec.group_multiplier
    if multipliers.array.size and not smallest <= multipliers.array.min() <= multipliers.array.max() <= largest:
        return f"has group multipliers within {spec.group_multiplier}"
    return None
