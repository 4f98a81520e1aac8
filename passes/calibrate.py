"""The pass ``calibrate``."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcompiler.analysis.scale_groups import Interval, tie_scales
from qcompiler.calibration.coarsest_scale import raise_scales_that_are_too_fine
from qcompiler.calibration.observers import OBSERVERS
from qcompiler.calibration.runner import observe
from qcompiler.ir import ConstantArray, Graph, Node
from qcompiler.ir.dimension import static_shape
from qcompiler.numerics import parameters_from_range
from qcompiler.ops.block_conversion import FakeBlock
from qcompiler.ops.constant import constant_value
from qcompiler.ops.contraction import Contraction
from qcompiler.ops.quantization import FakeQuant
from qcompiler.pipeline import Context, Pass, PassResult, Stage, compiler_pass, option

_SMALLEST_PRODUCT = 2.0**-125
"""Scales of accumulators are normal float32 numbers."""
_BIAS_LIMIT = 2.0**30
"""Biases stay below this many steps, which leaves a bit of a 32-bit accumulator to the products."""


@compiler_pass("calibrate")
class Calibrate(Pass):
    """Choose scale and zero point of every annotated value.

    The float program runs on the calibration data, batch by batch; each group's interval is the union of its
    members'. Ties that the data show to be harmful are cut. Weights take their scales from their own values; a
    channel whose bias would not fit the accumulator gets a larger scale. Of block floating point, which finds its
    exponents in the values, it chooses those that the target fixes.
    """

    needs = Stage.ANNOTATED | Stage.CALIBRATED
    leaves = Stage.CALIBRATED
    needs_target = True
    needs_data = True

    method: str = option("minmax", "how a value's interval follows from what was seen", tuple(OBSERVERS))
    cut_ratio: float = option(
        4.0, "untie an operand whose interval is this many times shorter than the result's", minimum=1.0
    )

    def run(self, graph: Graph, context: Context) -> PassResult:
        target = context.require_target(self.name)
        if target.has_blocks:
            self.fix_exponents(graph, context)
            return PassResult(graph, True)
        marks = [n for n in graph.nodes if isinstance(n.op, FakeQuant)]
        intervals = self.activation_intervals(graph, marks, context)
        groups = tie_scales(graph, target, intervals, self.cut_ratio)
        for members in groups.values():
            _set_group(members, intervals)
        cancelled = raise_scales_that_are_too_fine(graph, groups)
        if cancelled:
            context.warn(
                f"{len(cancelled)} values, that of layer {cancelled[0].layer!r} first, nearly cancel on all the "
                "calibration data; their scale was raised to what the operands' rounding leaves meaningful"
            )
        raised = {n: _fit_accumulator(n) for n in graph.nodes if isinstance(n.op, Contraction)}
        layers = [node.layer for node, channels in raised.items() if channels]
        if layers:
            context.warn(
                f"{sum(raised.values())} weight channels in {len(layers)} layers, {layers[0]!r} first, got a larger "
                "scale so that their bias fits the accumulator: it is over 2**22 times as large as their weights, or "
                "these or the activations are vanishingly small"
            )
        return PassResult(graph, True)

    def fix_exponents(self, graph: Graph, context: Context) -> None:
        """Choose the exponents that the target fixes: the smallest at which all that was seen fits."""
        marks = [n for n in graph.nodes if isinstance(n.op, FakeBlock) and n.op.is_fixed]
        intervals = self.activation_intervals(graph, marks, context)
        for node in marks:
            assert isinstance(node.op, FakeBlock)
            node.set_op(node.op.fixed_for(*intervals[node]))

    def activation_intervals(self, graph: Graph, marks: list[Node], context: Context) -> dict[Node, Interval]:
        """Real interval of each fake_quant's values: seen in the data, or of the constant itself."""
        intervals: dict[Node, Interval] = {}
        computed: list[Node] = []
        for node in marks:
            array = constant_value(node.operands[0])
            if array is None:
                computed.append(node)
            else:
                intervals[node] = (float(array.min()), float(array.max())) if array.size else (0.0, 0.0)
        if computed:
            watched = list(dict.fromkeys(n.operands[0] for n in computed))
            observers = [OBSERVERS[self.method]() for _ in watched]
            observe(graph, watched, observers, context.require_data(self.name), context.progress)
            seen = {value: o.interval() for value, o in zip(watched, observers, strict=True)}
            intervals.update((node, seen[node.operands[0]]) for node in computed)
        return intervals


def _set_group(members: list[Node], intervals: dict[Node, Interval]) -> None:
    """Give all members of a group the parameters that hold all their values."""
    if len(members) == 1 and _mark(members[0]).blocks:
        _set_weights(members[0])
        return
    known = [intervals[m] for m in members if m in intervals]
    low = min((i[0] for i in known), default=0.0)
    high = max((i[1] for i in known), default=0.0)
    first = _mark(members[0])
    scale, zero_point = parameters_from_range(low, high, first.qmin, first.qmax, first.fixed_zero_point)
    if first.fixed_scale is not None:
        scale = np.asarray(first.fixed_scale, np.float32)
        if first.fixed_zero_point is None:
            zero_point = np.asarray(np.clip(np.rint(first.qmin - low / scale), first.qmin, first.qmax), np.int64)
    for member in members:
        _set(member, scale, zero_point)


def _set_weights(node: Node) -> None:
    """Per-block parameters from the weights themselves."""
    op = _mark(node)
    weights = constant_value(node.operands[0])
    assert weights is not None
    low, high = block_extremes(weights, static_shape(op.blocks))
    scale, zero_point = parameters_from_range(low, high, op.qmin, op.qmax, op.fixed_zero_point)
    # A block of zeros has no interval of its own; the tensor's largest scale keeps its bias on a grid like the others'.
    empty = (low == 0) & (high == 0)
    if empty.any() and not empty.all():
        scale = np.where(empty, scale[~empty].max(), scale)
    _set(node, scale, zero_point)


def block_extremes(array: NDArray[Any], blocks: tuple[int, ...]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Smallest and largest value of each block, on the block grid."""
    split: list[int] = []
    for size, length in zip(array.shape, blocks, strict=True):
        split += [size // length, length]
    cut = array.reshape(split)
    inner = tuple(range(1, 2 * array.ndim, 2))
    return cut.min(inner), cut.max(inner)


def _fit_accumulator(node: Node) -> int:
    """Raise the scale of weight channels whose bias, or scale, would leave the accumulator; returns how many."""
    activation, weights = (v.producer for v in node.operands[:2])
    if activation is None or weights is None:
        return 0
    x, w = activation.op, weights.op
    # What the host runs has weights as they are.
    if not (isinstance(x, FakeQuant) and isinstance(w, FakeQuant) and x.scale and w.scale and w.zero_point):
        return 0
    if constant_value(weights.operands[0]) is None:
        return 0
    scale, x_scale = w.scale.array, float(x.scale.array)
    least = np.full(scale.shape, _SMALLEST_PRODUCT / x_scale)
    bias = constant_value(node.operands[2]) if len(node.operands) == 3 else None
    if bias is not None:
        needed = np.abs(bias.astype(np.float64)) / (x_scale * _BIAS_LIMIT)
        least = np.maximum(least, needed.reshape(scale.shape) if scale.shape else needed.max())
    raised = int((least > scale).sum())
    if raised:
        _set(weights, np.maximum(scale, least).astype(np.float32), w.zero_point.array)
    return raised


def _set(node: Node, scale: NDArray[np.float32], zero_point: NDArray[np.int64]) -> None:
    node.set_op(_mark(node).replace(scale=ConstantArray(scale), zero_point=ConstantArray(zero_point)))


def _mark(node: Node) -> FakeQuant:
    assert isinstance(node.op, FakeQuant)
    return node.op
