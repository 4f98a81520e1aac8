"""The predicates that come with the compiler."""

from __future__ import annotations

from qcompiler.errors import QCompilerError
from qcompiler.ir import Dim, Node, SymbolicDim
from qcompiler.ir.dimension import format_shape
from qcompiler.ops.contraction import Contraction, Conv2DBase
from qcompiler.target.legality import kernel_of
from qcompiler.target.predicate import predicate
from qcompiler.target.target import Target


@predicate("multiple-of")
def multiple_of(node: Node, target: Target, *, factor: int, operand: int = 0, axis: int = -1) -> str | None:
    """the length of operand {operand} along axis {axis} is a multiple of {factor}"""
    if operand >= len(node.operands):
        return None
    shape = node.operands[operand].type.shape
    if not -len(shape) <= axis < len(shape):
        return f"rank {len(shape)}"
    return None if _is_multiple(shape[axis], factor) else str(shape[axis])


@predicate("channels-multiple-of")
def channels_multiple_of(node: Node, target: Target, *, factor: int) -> str | None:
    """input and output channels are multiples of {factor}"""
    op = node.op
    if not isinstance(op, Contraction):
        return None
    source, result = node.operands[0].type, node.result.type
    # A matrix product reduces over the last axis, where its result has the output channels.
    counts = {
        "input": source.shape[op.result_channel_axis(source.rank)],
        "output": result.shape[op.result_channel_axis(result.rank)],
    }
    broken = [f"{count} {side} channels" for side, count in counts.items() if not _is_multiple(count, factor)]
    return " and ".join(broken) or None


@predicate("input-channels-at-least")
def input_channels_at_least(node: Node, target: Target, *, count: int) -> str | None:
    """a contraction sums over at least {count} input channels"""
    op = node.op
    if not isinstance(op, Contraction):
        return None
    weights = node.operands[1].type
    if isinstance(op, Conv2DBase):
        channels: Dim = op.channels(weights.shape)[1]
    else:
        # The one of the last two axes that does not run over output channels.
        channels = weights.shape[2 * weights.rank - 3 - op.weight_channel_axis(weights.rank)]
    return None if not isinstance(channels, int) or channels >= count else f"{channels} input channels"


@predicate("kernel-in")
def kernel_in(node: Node, target: Target, *, sizes: str) -> str | None:
    """the kernel, height x width, is one of {sizes}"""
    kernel = kernel_of(node)
    if kernel is None:
        return None
    found = "x".join(map(str, kernel))
    return None if found in sizes.split("/") else found


@predicate("same-shape-operands")
def same_shape_operands(node: Node, target: Target) -> str | None:
    """all operands have the same shape: none is broadcast"""
    shapes = [v.type.shape for v in node.operands]
    return " and ".join(map(format_shape, shapes)) if len(set(shapes)) > 1 else None


@predicate("dense-or-depthwise")
def dense_or_depthwise(node: Node, target: Target) -> str | None:
    """a convolution has one group, or a group for each input channel"""
    op = node.op
    if not isinstance(op, Conv2DBase):
        return None
    _, inputs = op.channels(node.operands[1].type.shape)
    return None if op.groups == 1 or inputs == 1 else f"{op.groups} groups of {inputs} input channels"


@predicate("symmetric-pads")
def symmetric_pads(node: Node, target: Target) -> str | None:
    """padding is the same at the top and the bottom, and at the left and the right"""
    pads = getattr(node.op, "pads", None)
    return None if pads is None or pads[:2] == pads[2:] else str(list(pads))


def _is_multiple(dim: Dim, factor: int) -> bool:
    if factor < 1:
        raise QCompilerError("a predicate asks for multiples of a number below 1", found=f"factor={factor}")
    # A free length is any multiple of its coefficient.
    return (dim.coefficient if isinstance(dim, SymbolicDim) else dim) % factor == 0
