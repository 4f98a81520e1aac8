"""Whether a contraction's sums fit the target's accumulators, and how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Literal

from qcompiler.analysis.accumulators import NOTHING, ContractionSums, Interval, SumBounds, contraction_sums
from qcompiler.ir import SCALARS, Node, Value
from qcompiler.ops.contraction import Contraction
from qcompiler.ops.quantized import is_quantized
from qcompiler.target import Target


@dataclass(frozen=True)
class Widths:
    """The integers in which a contraction's sums are kept.

    Attributes:
        accumulator: bits of the accumulator.
        home: bits of the integer in which the sums of parts meet and the bias is added; None where the target has
            none, so that everything is summed in the accumulator.
        overflow: what the accumulator does when a sum does not fit.
    """

    accumulator: int
    home: int | None
    overflow: Literal["forbidden", "saturate", "wrap"]


@dataclass(frozen=True)
class Lack:
    """A sum that can be too large.

    Attributes:
        what: which sum.
        bits: width of the integer that should hold it.
        bounds: the smallest and the largest that it can be.
    """

    what: str
    bits: int
    bounds: Interval

    @property
    def missing_bits(self) -> int:
        """How many bits the integer lacks."""
        return SumBounds((self.bounds[0],), (self.bounds[1],)).bits - self.bits


def widths_of(target: Target, node: Node) -> Widths:
    """The integers in which a target keeps the sums of a contraction; none is wider than the result's storage."""
    limits, storage = target.descriptor.limits.accumulator, node.result.type.storage
    home = min(SCALARS[limits.home].bits, storage.bits) if limits.home else None
    return Widths(min(limits.bits, storage.bits), home, limits.overflow)


def find_lack(widths: Widths, sums: ContractionSums, parts: tuple[int, ...] = ()) -> Lack | None:
    """The first sum that does not surely fit; None where every input is safe.

    An accumulator that saturates, or must not overflow, has to hold every partial sum in any order. One that wraps has
    to hold the whole sum alone, since what wraps on the way wraps back.

    Args:
        widths: the integers in which sums are kept.
        sums: bounds of the contraction's sums.
        parts: lengths of the parts of the reduction; empty where it is summed in one go, bias included.
    """
    if not parts:
        return _lack("the accumulator", widths.accumulator, sums.whole if widths.overflow == "wrap" else sums.all)
    ends = [0, *accumulate(parts)]
    for index, (start, stop) in enumerate(pairwise(ends)):
        lack = _lack(f"part {index + 1} of {len(parts)}", widths.accumulator, sums.part(start, stop))
        if lack:
            return lack
    return _lack("the home of partial sums", widths.home or widths.accumulator, sums.all)


def _lack(what: str, bits: int, bounds: SumBounds) -> Lack | None:
    return None if bounds.within(bits) else Lack(what, bits, bounds.interval)


def find_node_lack(
    target: Target, node: Node, outer: Mapping[Value, Value] = NOTHING, ranges: Mapping[Value, Interval] = NOTHING
) -> Lack | None:
    """:func:`find_lack` of a node: a quantized contraction; None for other nodes."""
    op = node.op
    if not isinstance(op, Contraction) or not is_quantized([v.type for v in node.operands]):
        return None
    return find_lack(widths_of(target, node), contraction_sums(node, outer, ranges), op.parts)
