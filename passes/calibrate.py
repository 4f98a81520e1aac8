"""The pass ``calibrate``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcompiler.analysis.scale_groups import Interval, tie_scales
from qcompiler.calibration.coarsest_scale import raise_scales_that_are_too_fine
from qcompiler.calibration.observers import OBSERVERS, Observer
from qcompiler.calibration.power_of_two import best_power_of_two
from qcompiler.calibration.runner import observe
from qcompiler.ir import ConstantArray, Graph, Node
from qcompiler.ir.dimension import static_shape
from qcompiler.numerics import next_power_of_two, parameters_from_range
from qcompiler.ops.block_conversion import FakeBlock
from qcompiler.ops.constant import constant_value
from qcompiler.ops.contraction import Contraction
from qcompiler.ops.quantization import FakeQuant
from qcompiler.passes.accumulator_fit import fit_accumulator
from qcompiler.passes.grouped_weights import is_grouped, mark_of, set_group_scales
from qcompiler.pipeline import Context, Pass, PassResult, Stage, compiler_pass, option

_STEPS_TO_SPARE = 1 << 15
"""With so many steps, half of them are as good as all."""


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
    margin: float = option(
        2.0, "values of 16 bits hold this many times what was seen: they have steps to spare", minimum=1.0
    )

    def run(self, graph: Graph, context: Context) -> PassResult:
        target = context.require_target(self.name)
        if target.has_blocks:
            self.fix_exponents(graph, context)
            return PassResult(graph, True)
        marks = [n for n in graph.nodes if isinstance(n.op, FakeQuant)]
        seen = self.watch(graph, marks, context)
        intervals = {mark: self.interval_of(mark, seen) for mark in marks}
        groups = tie_scales(graph, target, intervals, self.cut_ratio)
        for members in groups.values():
            _set_group(members, intervals, seen)
        cancelled = raise_scales_that_are_too_fine(graph, groups)
        if cancelled:
            context.warn(
                f"{len(cancelled)} values, that of layer {cancelled[0].layer!r} first, nearly cancel on all the "
                "calibration data; their scale was raised to what the operands' rounding leaves meaningful"
            )
        raised = {n: fit_accumulator(n, target) for n in graph.nodes if isinstance(n.op, Contraction)}
        layers = [node.layer for node, channels in raised.items() if channels]
        if layers:
            context.warn(
                f"{sum(raised.values())} weight channels in {len(layers)} layers got a larger scale so that their bias "
                "fits the accumulator, beside which it is too large, or weights or activations are vanishingly small: "
                + ", ".join(map(repr, dict.fromkeys(layers)))
            )
        return PassResult(graph, True)

    def fix_exponents(self, graph: Graph, context: Context) -> None:
        """Choose the exponents that the target fixes: the smallest at which all that was seen fits."""
        marks = [n for n in graph.nodes if isinstance(n.op, FakeBlock) and n.op.is_fixed]
        seen = self.watch(graph, marks, context)
        for node in marks:
            assert isinstance(node.op, FakeBlock)
            node.set_op(node.op.fixed_for(*(_constant_interval(node) or seen[node].interval())))

    def watch(self, graph: Graph, marks: list[Node], context: Context) -> dict[Node, Observer]:
        """What the data show of each value that is no constant."""
        computed = [node for node in marks if constant_value(node.operands[0]) is None]
        if not computed:
            return {}
        observers = {value: OBSERVERS[self.method]() for value in dict.fromkeys(n.operands[0] for n in computed)}
        observe(
            graph, list(observers), list(observers.values()), context.require_data(self.name), context.progress
        )
        return {node: observers[node.operands[0]] for node in computed}

    def interval_of(self, node: Node, seen: Mapping[Node, Observer]) -> Interval:
        """Real interval of a fake_quant's values: chosen from the data, or of the constant itself."""
        mark, constant = mark_of(node), _constant_interval(node)
        if constant is not None:
            return constant
        low, high = seen[node].best_interval(mark.qmax - mark.qmin)
        # Whatever exceeds what was seen by a little would otherwise be the largest error of all.
        wider = self.margin if mark.qmax - mark.qmin >= _STEPS_TO_SPARE else 1.0
        return low * wider, high * wider


def _constant_interval(node: Node) -> Interval | None:
    array = constant_value(node.operands[0])
    if array is None:
        return None
    return (float(array.min()), float(array.max())) if array.size else (0.0, 0.0)


def _set_group(members: list[Node], intervals: Mapping[Node, Interval], seen: Mapping[Node, Observer]) -> None:
    """Give all members of a group the parameters that hold all their values."""
    if len(members) == 1 and mark_of(members[0]).blocks:
        if is_grouped(members[0]):
            set_group_scales(members[0])
        else:
            _set_weights(members[0])
        return
    known = [intervals[m] for m in members if m in intervals]
    low = min((i[0] for i in known), default=0.0)
    high = max((i[1] for i in known), default=0.0)
    first = mark_of(members[0])
    scale, zero_point = parameters_from_range(low, high, first.qmin, first.qmax, first.fixed_zero_point)
    if any(mark_of(m).power_of_two for m in members):
        scale = _power_of_two(members, next_power_of_two(scale), seen)
    if first.fixed_scale is not None:
        scale = np.asarray(first.fixed_scale, np.float32)
        if first.fixed_zero_point is None:
            zero_point = np.asarray(np.clip(np.rint(first.qmin - low / scale), first.qmin, first.qmax), np.int64)
    for member in members:
        _set(member, scale, zero_point)


def _power_of_two(
    members: list[Node], scale: NDArray[np.float32], seen: Mapping[Node, Observer]
) -> NDArray[np.float32]:
    """A power of two for a group: that of its interval, or where the errors are known, the one that errs least."""
    op, array = mark_of(members[0]), constant_value(members[0].operands[0])
    if len(members) == 1 and array is not None:
        return best_power_of_two(array, scale, (), op.qmin, op.qmax)
    best, least = scale, math.inf
    for candidate in (scale * np.float32(2.0**-step) for step in (-1, 0, 1, 2)):
        step = float(candidate)
        errors = [seen[m].squared_error(op.qmin * step, op.qmax * step, step) for m in members if m in seen]
        known = [error for error in errors if error is not None]
        if known and len(known) == len(errors) and sum(known) < least:
            best, least = candidate, sum(known)
    return best


def _set_weights(node: Node) -> None:
    """Per-block parameters from the weights themselves."""
    op = mark_of(node)
    weights = constant_value(node.operands[0])
    assert weights is not None
    low, high = block_extremes(weights, static_shape(op.blocks))
    scale, zero_point = parameters_from_range(low, high, op.qmin, op.qmax, op.fixed_zero_point)
    if op.power_of_two:
        scale = best_power_of_two(weights, next_power_of_two(scale), static_shape(op.blocks), op.qmin, op.qmax)
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


def _set(node: Node, scale: NDArray[np.float32], zero_point: NDArray[np.int64]) -> None:
    node.set_op(mark_of(node).replace(scale=ConstantArray(scale), zero_point=ConstantArray(zero_point)))
