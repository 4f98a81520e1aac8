"""Predicates on windows, strides, reduced axes and image sizes."""

from __future__ import annotations

from math import prod

from qcompiler.ir import Node
from qcompiler.ops.contraction import Contraction, Conv2DBase
from qcompiler.ops.reduction import Reduction
from qcompiler.ops.resize import Resize
from qcompiler.target.legality import kernel_of
from qcompiler.target.predicate import predicate
from qcompiler.target.target import Target


@predicate("large-stride-only-unpadded")
def large_stride_only_unpadded(node: Node, target: Target, *, largest: int) -> str | None:
    """strides above {largest} go with dilation 1 and without padding"""
    attributes = node.op.attributes()
    strides, dilations = attributes.get("strides", ()), attributes.get("dilations", ())
    plain = not any(attributes.get("pads", ())) and all(d == 1 for d in dilations)
    return None if plain or all(s <= largest for s in strides) else f"strides {list(strides)}"


@predicate("large-kernel-only-unpadded")
def large_kernel_only_unpadded(node: Node, target: Target, *, largest: int) -> str | None:
    """kernels above {largest} along an axis go without padding"""
    kernel, padded = kernel_of(node), any(node.op.attributes().get("pads", ()))
    return None if kernel is None or not padded or max(kernel) <= largest else "x".join(map(str, kernel))


@predicate("kernel-height-at-most")
def kernel_height_at_most(node: Node, target: Target, *, largest: int) -> str | None:
    """the kernel's height is at most {largest}"""
    kernel = kernel_of(node)
    return None if kernel is None or kernel[0] <= largest else str(kernel[0])


@predicate("kernel-area-at-most")
def kernel_area_at_most(node: Node, target: Target, *, largest: int) -> str | None:
    """height times width of the kernel is at most {largest}"""
    kernel = kernel_of(node)
    return None if kernel is None or prod(kernel) <= largest else "x".join(map(str, kernel))


@predicate("depthwise-strides-at-most")
def depthwise_strides_at_most(node: Node, target: Target, *, largest: int) -> str | None:
    """strides of a convolution with a group for each channel are at most {largest}"""
    op = node.op
    if not isinstance(op, Conv2DBase) or op.groups == 1 or max(op.strides) <= largest:
        return None
    return f"strides {list(op.strides)}"


@predicate("strides-in")
def strides_in(node: Node, target: Target, *, sizes: str) -> str | None:
    """the strides, height x width, are one of {sizes}"""
    found = "x".join(map(str, node.op.attributes().get("strides", ())))
    return None if not found or found in sizes.split("/") else found


@predicate("reduced-axes-shorter-than")
def reduced_axes_shorter_than(node: Node, target: Target, *, length: int) -> str | None:
    """every axis that is reduced is shorter than {length}"""
    if not isinstance(node.op, Reduction):
        return None
    shape = node.operands[0].type.shape
    reduced = (shape[axis] for axis in node.op.axes)
    return " and ".join(str(size) for size in reduced if isinstance(size, int) and size >= length) or None


@predicate("reduction-at-most")
def reduction_at_most(node: Node, target: Target, *, length: int) -> str | None:
    """at most {length} products are summed"""
    if not isinstance(node.op, Contraction):
        return None
    found = node.op.reduction_length([v.type for v in node.operands])
    return None if found <= length else str(found)


@predicate("upsamples-by")
def upsamples_by(node: Node, target: Target, *, factors: str, half_pixel: int) -> str | None:
    """an image grows by one factor along both axes: {factors}, or {half_pixel} if linear with half-pixel centers"""
    op = node.op
    if not isinstance(op, Resize):
        return None
    before, after = [node.operands[0].type.shape[axis] for axis in op.axes], list(op.sizes)
    if before == after or before == [1, 1]:
        return None
    ends = 1 if op.coordinates == "align_corners" else 0
    centered = op.mode == "linear" and op.coordinates == "half_pixel"
    for factor in [half_pixel] if centered else map(int, factors.split("/")):
        if all(isinstance(b, int) and a - ends == factor * (b - ends) for b, a in zip(before, after, strict=True)):
            return None
    return f"{before[0]}x{before[1]} to {after[0]}x{after[1]}"
