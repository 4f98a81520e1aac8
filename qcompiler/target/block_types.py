"""Which block floating-point types a descriptor's types stand for."""

from __future__ import annotations

import math

from qcompiler.ir import BlockFloat, Node, Shape, SymbolicDim, TensorType
from qcompiler.ops.contraction import Contraction, Conv2DBase
from qcompiler.target.descriptor import TypeSpec


def operand_blocks(spec: TypeSpec, node: Node, index: int) -> Shape:
    """Block lengths of operand ``index`` of ``node``, held in a format of kind 'block'.

    Blocks of a number of values run along the reduction of a contraction, so that those of both operands line up. The
    reduction of a depthwise convolution runs over taps: its weights have blocks of the taps of a row.
    """
    type = node.operands[index].type
    if not isinstance(spec.blocks, int) or not isinstance(node.op, Contraction) or index != 1:
        return block_lengths(spec, type.shape)
    op, rank = node.op, type.rank
    axis = rank - 2 if op.name == "matmul" and not getattr(op, "transpose_b", False) else rank - 1
    length = spec.blocks
    if isinstance(op, Conv2DBase) and op.groups > 1:
        terms = op.channels(type.shape)[1]
        if terms == 1:
            axis -= 1 if op.layout == "NHWC" else 0
        else:
            length = math.gcd(length, terms)
    return block_lengths(spec, type.shape, axis, length)


def result_blocks(spec: TypeSpec, node: Node, type: TensorType) -> Shape:
    """Block lengths of a result of ``node``, held in a format of kind 'block'.

    What writes blocks anew writes them along any axis: a contraction may need them along its reduction.
    """
    usual = block_lengths(spec, type.shape)
    if node.op.name not in ("normalize", "to_block") or not isinstance(type.elem, BlockFloat):
        return usual
    along = (block_lengths(spec, type.shape, axis) for axis in range(type.rank))
    return next((blocks for blocks in along if blocks == type.elem.blocks), usual)


def block_lengths(spec: TypeSpec, shape: Shape, axis: int = -1, length: int | None = None) -> Shape:
    """Block lengths of a tensor held in a format of kind 'block'; those of a number of values run along ``axis``."""
    if spec.blocks == "tensor":
        # A sample's rows along an axis with a free dimension.
        return tuple(d.coefficient if isinstance(d, SymbolicDim) else max(d, 1) for d in shape)
    blocks = [1] * len(shape)
    if isinstance(spec.blocks, int) and shape:
        wanted, size = length or spec.blocks, shape[axis]
        blocks[axis] = math.gcd(wanted, size.coefficient) if isinstance(size, SymbolicDim) else wanted
    return tuple(blocks)


def admits_block(spec: TypeSpec, type: TensorType, elem: BlockFloat, blocks: Shape) -> str | None:
    """Why a format does not admit a block floating-point type; None where it does.

    Args:
        spec: the format.
        type: a type whose element is ``elem``.
        elem: block floating point.
        blocks: the block lengths that the format has for it.
    """
    if spec.kind != "block":
        return f"needs plain {' or '.join(spec.storages)}" if spec.kind == "scalar" else "needs scale and zero point"
    if elem.format != spec.block_format:
        expected = BlockFloat(spec.block_format, blocks)
        return f"is of format {expected}"
    if elem.blocks != blocks:
        return f"has blocks {list(blocks)} on {type}"
    if spec.exponents == "fixed" and elem.exponents is None:
        return "has exponents that are fixed at compile time"
    return None
