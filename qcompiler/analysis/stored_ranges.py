"""Which stored integers a value can really have: often fewer than its type allows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from qcompiler.analysis.accumulators import NOTHING, Interval, SumBounds, contraction_sums, type_range
from qcompiler.ir import Affine, Fact, Graph, Node, TensorType, Value
from qcompiler.ops.constant import Constant
from qcompiler.ops.contraction import Contraction
from qcompiler.ops.fused import Fused
from qcompiler.ops.pooling import AveragePool2D, MaxPool2D
from qcompiler.ops.quantization import Clamp, Requantize
from qcompiler.ops.quantized import affine
from qcompiler.ops.shape import Reshape
from qcompiler.ops.slicing import Gather, Pad
from qcompiler.ops.table import LookupTable

_LARGEST_EVALUATED = 1 << 31
"""Every form of requantize is defined for operands below this magnitude."""
_LARGEST_RESULT = 2.0**40


def stored_ranges(
    graph: Graph, inputs: Mapping[Value, Interval] = NOTHING, outer: Mapping[Value, Value] = NOTHING
) -> dict[Value, Interval]:
    """The least and the largest stored integer that each affine value can have, for any input.

    Clamps, tables, constants and the bounds of accumulators narrow what types allow; ops that move values keep what
    is known. A bound holds as long as no accumulator overflows.

    Args:
        graph: an integer program, or the body of a fused op.
        inputs: what is known of the graph's inputs.
        outer: for a body, the operand behind each of its inputs.

    Returns:
        A range for every affine value of ``graph``, those inside of fused bodies not included.
    """
    ranges: dict[Value, Interval] = {}
    for value in graph.inputs:
        if isinstance(value.type.elem, Affine):
            ranges[value] = inputs.get(value) or type_range(value.type)
    for node in graph.nodes:
        if isinstance(node.op, Fused):
            inside = body_ranges(node, ranges)
            for result, output in zip(node.results, node.op.body.outputs, strict=True):
                if output.value in inside:
                    ranges[result] = inside[output.value]
            continue
        found = _result_range(node, ranges, outer)
        for result in node.results:
            if isinstance(result.type.elem, Affine):
                ranges[result] = _intersection(found, result.type)
    return ranges


def body_ranges(node: Node, ranges: Mapping[Value, Interval]) -> dict[Value, Interval]:
    """:func:`stored_ranges` of the body of a fused node, from those of the program around it."""
    assert isinstance(node.op, Fused)
    pairs = list(zip(node.op.body.inputs, node.operands, strict=True))
    known = {inside: ranges[outside] for inside, outside in pairs if outside in ranges}
    return stored_ranges(node.op.body, known, dict(pairs))


def narrowed(value: Value, ranges: Mapping[Value, Interval]) -> TensorType:
    """The type of a value with the bounds that its stored integers really keep, for bounds that follow from a type."""
    elem = value.type.elem
    if value not in ranges or not isinstance(elem, Affine):
        return value.type
    low, high = ranges[value]
    return TensorType(value.type.shape, replace(elem, qmin=low, qmax=high))


def _intersection(found: Interval | None, type: TensorType) -> Interval:
    low, high = type_range(type)
    return (max(low, found[0]), min(high, found[1])) if found else (low, high)


def _result_range(node: Node, ranges: Mapping[Value, Interval], outer: Mapping[Value, Value]) -> Interval | None:
    """What bounds the results of a node; None where only their type does."""
    op, known = node.op, [ranges.get(v) for v in node.operands]
    if isinstance(op, Constant):
        array = op.value.array
        return (int(array.min()), int(array.max())) if array.size else None
    if isinstance(op, Contraction):
        is_affine = all(isinstance(v.type.elem, Affine) for v in node.operands)
        return contraction_sums(node, outer, ranges).all.interval if is_affine else None
    first = known[0] if known else None
    if first is None:
        return None
    if isinstance(op, Requantize):
        return _requantized(node, op, first, ranges, outer)
    if isinstance(op, Clamp):
        return min(max(first[0], op.minimum), op.maximum), min(max(first[1], op.minimum), op.maximum)
    if isinstance(op, LookupTable):
        entries = op.entries_for(node.operands[0].type, first)
        return int(entries.min()), int(entries.max())
    if isinstance(op, AveragePool2D):
        # The rounded average of integers lies between them. An arithmetic of a plugin's may be of another kind.
        named = op.arithmetic is not None and op.arithmetic.name in ("average", "average-half-away")
        return first if named else None
    if op.name in ("maximum", "minimum") and known[1] is not None:
        pick = max if op.name == "maximum" else min
        return pick(first[0], known[1][0]), pick(first[1], known[1][1])
    return _moved(node, known) if Fact.VALUE_PRESERVING in op.facts else None


def _moved(node: Node, known: list[Interval | None]) -> Interval | None:
    """Every result element is one of the operands', or padding."""
    op, sources = node.op, known
    if isinstance(op, Gather | Reshape):
        sources = known[:1]
    if isinstance(op, MaxPool2D) and any(op.pads) and not _sees_input(op):
        return None
    found = [interval for interval in sources if interval is not None]
    if len(found) < len(sources):
        return None
    if isinstance(op, Pad) and op.mode == "constant":
        fill = int(op.fill(node.operands[0].type))
        found.append((fill, fill))
    return min(low for low, _ in found), max(high for _, high in found)


def _sees_input(op: MaxPool2D) -> bool:
    """Whether every window surely covers an element of the input, so that padding never wins."""
    top, left, bottom, right = op.pads
    return op.dilations == (1, 1) and max(top, bottom) < op.kernel[0] and max(left, right) < op.kernel[1]


def _requantized(
    node: Node, op: Requantize, operand: Interval, ranges: Mapping[Value, Interval], outer: Mapping[Value, Value]
) -> Interval | None:
    """The form applied to both ends: every form is monotone."""
    source, result, form = node.operands[0], affine(node.result.type), op.form()
    constants = {name: value.array.reshape(-1) for name, value in op.constants.items()}
    bounds = SumBounds((operand[0],), (operand[1],))
    producer = source.producer
    if producer is not None and isinstance(producer.op, Contraction):
        bounds = contraction_sums(producer, outer, ranges).all
    zero_points = affine(source.type).zero_point.array.reshape(-1)
    largest = max(map(abs, bounds.interval)) + int(np.abs(zero_points).max())
    ratio = float(form.to_ratio(constants).max())
    limit = form.largest_operand(constants)
    if largest >= _LARGEST_EVALUATED or largest * ratio > _LARGEST_RESULT:
        return None
    if limit is not None and largest > int(np.min(limit)):
        return None
    ends = [
        np.clip(form.scale(np.array(end, np.int64) - zero_points, constants) + int(result.zero_point.array),
                result.qmin, result.qmax)
        for end in (bounds.low, bounds.high)
    ]
    return int(ends[0].min()), int(ends[1].max())
