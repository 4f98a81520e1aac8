"""The pass ``canonicalize``."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from qcompiler.analysis.rewriting import (
    add_locations,
    constant_value,
    new_constant,
    only_user,
    replace_node,
    same_but_for_unit_axes,
    scalar_value,
)
from qcompiler.ir import Builder, Fact, Graph, Node, Untraced, Value
from qcompiler.ir.dimension import SymbolicDim
from qcompiler.ops.activation import ClampFunction, Clip, Relu
from qcompiler.ops.binary import Add, Maximum, Minimum
from qcompiler.ops.contraction import Contraction
from qcompiler.ops.pooling import AveragePool2D
from qcompiler.ops.quantization import Cast
from qcompiler.ops.reduction import Mean
from qcompiler.ops.resize import Resize
from qcompiler.ops.shape import Concat, Expand, Reshape, Transpose
from qcompiler.ops.slicing import Pad, Slice
from qcompiler.pipeline import Context, Pass, PassResult, compiler_pass

Rule = Callable[[Graph, Node], bool]


@compiler_pass("canonicalize")
class Canonicalize(Pass):
    """Bring a program to one way of saying things.

    Removes ops that change nothing, merges neighbouring reshapes, transposes and clamps, turns transposes that only
    move dimensions of size 1 into reshapes, moves constant additions into the bias of the contraction before them,
    and writes an average pool over the whole image as a mean.
    """

    def run(self, graph: Graph, context: Context) -> PassResult:
        changed = False
        for node in graph.nodes:
            rules = _RULES.get(node.op.name, ())
            if Fact.UNARY in node.op.facts:
                rules = (*rules, _sink_reshape)
            changed |= any(rule(graph, node) for rule in rules)
        return PassResult(graph, changed)


def _remove_identity(graph: Graph, node: Node) -> bool:
    """An op whose result is its operand."""
    (operand, *_), result = node.operands, node.results[0]
    if operand.type != result.type or len(node.results) != 1:
        return False
    op = node.op
    unchanged = (
        isinstance(op, Reshape | Expand | Slice | Pad | Cast)
        or (isinstance(op, Concat) and len(node.operands) == 1)
        or (isinstance(op, Transpose) and op.permutation == tuple(range(operand.type.rank)))
        or (isinstance(op, Clip) and op.limits == (-math.inf, math.inf))
    )
    if isinstance(op, Slice):
        unchanged = all(step == 1 for step in op.steps)
    if unchanged:
        replace_node(graph, node, operand)
    return unchanged


def _merge_transposes(graph: Graph, node: Node) -> bool:
    """transpose(transpose(x))."""
    inner = node.operands[0].producer
    if inner is None or not isinstance(inner.op, Transpose):
        return False
    assert isinstance(node.op, Transpose)
    permutation = tuple(inner.op.permutation[p] for p in node.op.permutation)
    source = inner.operands[0]
    if permutation == tuple(range(len(permutation))):
        replace_node(graph, node, source)
    else:
        merged = Builder(graph, node, node.loc)(Transpose(permutation), source, origin=node.result.origin)
        replace_node(graph, node, merged)
    _erase_if_unused(graph, inner)
    return True


def _transpose_to_reshape(graph: Graph, node: Node) -> bool:
    """A transpose that keeps the order of all dimensions but those of size 1."""
    assert isinstance(node.op, Transpose)
    source = node.operands[0]
    moved = [p for p in node.op.permutation if source.type.shape[p] != 1]
    if moved != sorted(moved):
        return False
    reshaped = Builder(graph, node, node.loc)(
        Reshape(node.result.type.shape), source, origin=node.result.origin
    )
    replace_node(graph, node, reshaped)
    return True


def _merge_reshapes(graph: Graph, node: Node) -> bool:
    """reshape(reshape(x))."""
    inner = node.operands[0].producer
    if inner is None or not isinstance(inner.op, Reshape):
        return False
    source = inner.operands[0]
    if isinstance(source.origin, Untraced) and same_but_for_unit_axes(source.type.shape, inner.result.type.shape):
        source.origin = inner.result.origin
    node.set_operand(0, source)
    _erase_if_unused(graph, inner)
    return True


def _sink_reshape(graph: Graph, node: Node) -> bool:
    """function(reshape(x)) as reshape(function(x)), so that the function stands next to what computes x."""
    inner = node.operands[0].producer
    if inner is None or not isinstance(inner.op, Reshape) or only_user(inner.result) is not node:
        return False
    source, origin = inner.operands[0], node.result.origin
    same_axes = same_but_for_unit_axes(source.type.shape, inner.result.type.shape)
    if same_axes and isinstance(source.origin, Untraced):
        source.origin = inner.result.origin
    builder = Builder(graph, node, node.loc)
    applied = builder(node.op, source, origin=origin if same_axes else None)
    reshaped = builder(inner.op, applied, loc=inner.loc, origin=origin)
    node.result.replace_uses(reshaped)
    graph.erase(node)
    graph.erase(inner)
    return True


def _merge_clamps(graph: Graph, node: Node) -> bool:
    """relu or clip of relu or clip."""
    inner = node.operands[0].producer
    if inner is None or not isinstance(inner.op, ClampFunction) or only_user(node.operands[0]) is None:
        return False
    assert isinstance(node.op, ClampFunction)
    (low, high), (inner_low, inner_high) = node.op.limits, inner.op.limits
    # clip(clip(x, a, b), c, d) with the inner limits moved into the outer interval.
    minimum, maximum = min(max(inner_low, low), high), min(max(inner_high, low), high)
    node.set_op(_clamp(minimum, maximum))
    add_locations(node, inner)
    node.set_operand(0, inner.operands[0])
    graph.erase(inner)
    return True


def _clamp(minimum: float, maximum: float) -> ClampFunction:
    return Relu() if (minimum, maximum) == (0.0, math.inf) else Clip(minimum, maximum)


def _clip_to_relu(graph: Graph, node: Node) -> bool:
    """clip to [0, inf)."""
    assert isinstance(node.op, Clip)
    if node.op.limits != (0.0, math.inf):
        return False
    node.set_op(Relu())
    return True


def _selection_to_clamp(graph: Graph, node: Node) -> bool:
    """maximum or minimum with a constant number."""
    for index in (0, 1):
        bound, other = scalar_value(node.operands[index]), node.operands[1 - index]
        if bound is None or other.type != node.result.type:
            continue
        op = _clamp(bound, math.inf) if isinstance(node.op, Maximum) else _clamp(-math.inf, bound)
        clamped = Builder(graph, node, node.loc)(op, other, origin=node.result.origin)
        replace_node(graph, node, clamped)
        return True
    return False


def _add_to_bias(graph: Graph, node: Node) -> bool:
    """contraction + constant that varies along the output channels only."""
    for index in (0, 1):
        value, array = node.operands[index], constant_value(node.operands[1 - index])
        contraction = value.producer
        if array is None or contraction is None or not isinstance(contraction.op, Contraction):
            continue
        if only_user(value) is not node or value.type != node.result.type:
            continue
        if constant_value(contraction.operands[1]) is None:
            # Without weights whose scale could give way, a large constant (a mask, say) would not fit a bias.
            continue
        bias = _as_bias(contraction, value, array)
        if bias is None:
            continue
        if len(contraction.operands) == 3:
            before = constant_value(contraction.operands[2])
            if before is None:
                continue
            bias = (before.astype(np.float64) + bias).astype(np.float32)
        builder = Builder(graph, node, contraction.loc)
        operands = (*contraction.operands[:2], new_constant(builder, bias))
        merged = builder(contraction.op, *operands, origin=node.result.origin)
        replace_node(graph, node, merged)
        graph.erase(contraction)
        return True
    return False


def _as_bias(contraction: Node, value: Value, array: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> (
    np.ndarray[tuple[int, ...], np.dtype[np.float32]] | None
):
    """``array``, broadcast against the result, as one number for each output channel; None where it varies else."""
    assert isinstance(contraction.op, Contraction)
    rank = value.type.rank
    axis = contraction.op.result_channel_axis(rank)
    channels = value.type.shape[axis]
    shape = (1,) * (rank - array.ndim) + array.shape
    if len(shape) != rank or isinstance(channels, SymbolicDim) or any(d != 1 for i, d in enumerate(shape) if i != axis):
        return None
    return np.broadcast_to(array.reshape(-1), (channels,)).astype(np.float32)


def _whole_average_to_mean(graph: Graph, node: Node) -> bool:
    """An average pool whose only window is the whole image."""
    op = node.op
    assert isinstance(op, AveragePool2D)
    axes = (1, 2) if op.layout == "NHWC" else (2, 3)
    shape = node.operands[0].type.shape
    if tuple(shape[a] for a in axes) != op.kernel or any(op.pads):
        return False
    mean = Builder(graph, node, node.loc)(Mean(axes, True), node.operands[0], origin=node.result.origin)
    replace_node(graph, node, mean)
    return True


def _plain_coordinates(graph: Graph, node: Node) -> bool:
    """Coordinates "pytorch_half_pixel" differ from "half_pixel" only where the result has a single row or column."""
    op = node.op
    assert isinstance(op, Resize)
    if op.coordinates != "pytorch_half_pixel" or 1 in op.sizes:
        return False
    node.set_op(op.replace(coordinates="half_pixel"))
    return True


def _drop_neutral_operand(graph: Graph, node: Node) -> bool:
    """x * 1, x / 1, x + 0, x - 0."""
    neutral = 1.0 if node.op.name in ("mul", "div") else 0.0
    sides = (1,) if node.op.name in ("sub", "div") else (0, 1)
    for side in sides:
        other = node.operands[1 - side]
        array = constant_value(node.operands[side])
        if array is not None and other.type == node.result.type and bool((array == neutral).all()):
            replace_node(graph, node, other)
            return True
    return False


def _erase_if_unused(graph: Graph, node: Node) -> None:
    if not any(value.uses for value in node.results):
        graph.erase(node)


_RULES: dict[str, tuple[Rule, ...]] = {
    "reshape": (_merge_reshapes, _remove_identity),
    "transpose": (_merge_transposes, _remove_identity, _transpose_to_reshape),
    "expand": (_remove_identity,),
    "slice": (_remove_identity,),
    "pad": (_remove_identity,),
    "cast": (_remove_identity,),
    "concat": (_remove_identity,),
    Maximum.name: (_selection_to_clamp,),
    Minimum.name: (_selection_to_clamp,),
    Add.name: (_drop_neutral_operand, _add_to_bias),
    "sub": (_drop_neutral_operand,),
    "mul": (_drop_neutral_operand,),
    "div": (_drop_neutral_operand,),
    "resize": (_plain_coordinates,),
    "clip": (_remove_identity, _merge_clamps, _clip_to_relu),
    "relu": (_merge_clamps,),
    "average_pool2d": (_whole_average_to_mean,),
}
