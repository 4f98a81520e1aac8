"""How wide the sums of a program's contractions are, and how the target's accumulators hold them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from qcompiler.analysis.accumulator_proof import Lack, find_lack, widths_of
from qcompiler.analysis.accumulators import Interval, contraction_sums
from qcompiler.analysis.stored_ranges import body_ranges, stored_ranges
from qcompiler.calibration.accumulator_extremes import measure_sums
from qcompiler.ir import Affine, Graph, Node, Value
from qcompiler.numerics.block_accumulator import bits_for
from qcompiler.ops.constant import constant_value
from qcompiler.ops.contraction import Contraction
from qcompiler.ops.fused import Fused
from qcompiler.ops.quantized import affine
from qcompiler.pipeline import CalibrationSource
from qcompiler.target import Target


@dataclass(frozen=True)
class AccumulatorRow:
    """The sums of one contraction.

    Attributes:
        layer: the user's layer.
        op: the contraction.
        terms: products in a sum.
        low, high: the smallest and the largest partial sum of any input, bias included.
        worst_case_bits: bits that hold these: a proof.
        seen_low, seen_high: the smallest and the largest partial sum in any order on data; None without data.
        calibrated_bits: bits that hold these; None without data.
        accumulator_bits: what the target has; None where the target is not known.
        home_bits: width in which the sums of parts meet; None where there is no home.
        parts: lengths of the parts of the reduction; empty where it is summed in one go.
        raised_bits: bits that the weights of some channel leave unused, since their scale was raised for the sake of
            sums or bias; to a tenth.
        how: how the accumulator holds the sums, in words.
    """

    layer: str
    op: str
    terms: int
    low: int
    high: int
    worst_case_bits: int
    seen_low: int | None
    seen_high: int | None
    calibrated_bits: int | None
    accumulator_bits: int | None
    home_bits: int | None
    parts: tuple[int, ...]
    raised_bits: float
    how: str

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return dataclasses.asdict(self)


def report_accumulators(
    graph: Graph, target: Target | None = None, data: CalibrationSource | None = None
) -> list[AccumulatorRow]:
    """A row for each quantized contraction of an integer program, in program order.

    Args:
        graph: the program.
        target: the target whose accumulators are meant.
        data: samples on which to measure what partial sums really get; see
            :func:`qcompiler.calibration.accumulator_extremes.measure_sums`.
    """
    seen = measure_sums(graph, data) if data is not None else {}
    return list(_rows(graph, target, seen, stored_ranges(graph), {}))


def _rows(
    graph: Graph, target: Target | None, seen: Mapping[Value, Interval], ranges: Mapping[Value, Interval],
    outer: Mapping[Value, Value],
) -> Iterator[AccumulatorRow]:
    for node in graph.nodes:
        if isinstance(node.op, Fused):
            inside = dict(zip(node.op.body.inputs, node.operands, strict=True))
            yield from _rows(node.op.body, target, seen, body_ranges(node, ranges), inside)
        elif isinstance(node.op, Contraction) and isinstance(node.result.type.elem, Affine):
            yield _row(node, target, seen.get(node.result), ranges, outer)


def _row(
    node: Node, target: Target | None, seen: Interval | None, ranges: Mapping[Value, Interval],
    outer: Mapping[Value, Value],
) -> AccumulatorRow:
    op = node.op
    assert isinstance(op, Contraction)
    sums = contraction_sums(node, outer, ranges)
    low, high = sums.all.interval
    widths = widths_of(target, node) if target else None
    lack = find_lack(widths, sums, op.parts) if widths else None
    seen_bits = bits_for(*seen) if seen else None
    raised = _unused_bits(node, outer)
    seen_low, seen_high = seen or (None, None)
    return AccumulatorRow(
        node.layer, op.name, sums.length, low, high, bits_for(low, high), seen_low, seen_high, seen_bits,
        widths.accumulator if widths else None, widths.home if widths else None, op.parts, raised,
        _how(op, target, lack, seen_bits, raised),
    )


def _how(op: Contraction, target: Target | None, lack: Lack | None, seen_bits: int | None, raised: float) -> str:
    if target is None:
        return "target unknown"
    if lack is not None:
        overflow = target.descriptor.limits.accumulator.overflow
        if overflow == "forbidden" or seen_bits is None or seen_bits > lack.bits:
            return f"does not fit: {lack.missing_bits} bits too many"
        return f"{'wraps' if overflow == 'wrap' else 'saturates'} only for inputs never seen"
    fits = f"split into {len(op.parts)}" if op.parts else "fits"
    return f"{fits}, shift raised by {raised:g} bits" if raised else fits


def _unused_bits(node: Node, outer: Mapping[Value, Value]) -> float:
    """Bits that the weights of some channel leave unused; channels of zeros do not count.

    Calibration lets the largest weight be the largest integer, or among powers of two more than half of it.
    """
    op, weights = node.op, node.operands[1]
    assert isinstance(op, Contraction)
    stored = constant_value(outer.get(weights, weights))
    elem = affine(weights.type)
    if stored is None or not elem.symmetric or op.group_multipliers is not None:
        return 0
    axis = op.weight_channel_axis(stored.ndim)
    others = None if elem.is_per_tensor else tuple(i for i in range(stored.ndim) if i != axis)
    largest = np.abs(stored.astype(np.int64)).max(others).reshape(-1)
    unused = max((math.log2(elem.qmax / int(m)) for m in largest if 0 < m <= elem.qmax), default=0.0)
    powers_of_two = bool((np.frexp(elem.scale.array)[0] == 0.5).all())
    return float(math.floor(unused)) if powers_of_two else round(unused, 1)
