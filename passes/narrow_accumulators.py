"""The pass ``narrow-accumulators``."""

from __future__ import annotations

from collections.abc import Mapping

from qcompiler.analysis.accumulator_proof import find_lack, widths_of
from qcompiler.analysis.accumulators import Interval, contraction_sums
from qcompiler.analysis.reduction_parts import split_reduction
from qcompiler.analysis.stored_ranges import body_ranges, stored_ranges
from qcompiler.ir import Affine, Graph, Node, Value
from qcompiler.ops.contraction import Contraction
from qcompiler.ops.fused import Fused
from qcompiler.passes.coarser_weights import Loss, raise_scales
from qcompiler.pipeline import Context, Pass, PassResult, Stage, compiler_pass
from qcompiler.target import Target


@compiler_pass("narrow-accumulators")
class NarrowAccumulators(Pass):
    """Make sums of products fit accumulators that are narrower than the worst case.

    On an integer program, behind ``realize``, for a target with a home for partial sums
    (``limits.accumulator.home``): a contraction whose sums can leave the accumulator gets ``parts``, the lengths of the
    fewest consecutive parts of its reduction of which each surely fits. The numbers that it computes stay the same.

    On a calibrated program, between ``calibrate`` and ``realize``, for a target without a home: the weight scales of
    output channels whose sums can leave the accumulator are raised until they fit. This costs accuracy, and a warning
    names the layers and the bits lost.

    ``verify-legal`` proves what either leaves. In the other place, and where everything fits, the pass changes nothing.
    """

    needs = Stage.CALIBRATED | Stage.INTEGER
    needs_target = True

    def run(self, graph: Graph, context: Context) -> PassResult:
        target = context.require_target(self.name)
        if target.has_blocks:
            return PassResult(graph, False)
        if target.descriptor.limits.accumulator.home is not None:
            return PassResult(graph, _split(target, graph, stored_ranges(graph), {}))
        losses = _coarsen(target, graph)
        if losses:
            context.warn(
                f"weights of {len(losses)} layers became coarser so that no input overflows an accumulator of "
                f"{target.descriptor.limits.accumulator.bits} bits: " + ", ".join(map(str, losses))
            )
        return PassResult(graph, bool(losses))


def _split(target: Target, graph: Graph, ranges: Mapping[Value, Interval], outer: Mapping[Value, Value]) -> bool:
    """Give parts to every contraction that needs them, those of fused bodies included."""
    changed = False
    for node in graph.nodes:
        if isinstance(node.op, Fused):
            inside = dict(zip(node.op.body.inputs, node.operands, strict=True))
            changed |= _split(target, node.op.body, body_ranges(node, ranges), inside)
        elif isinstance(node.op, Contraction) and isinstance(node.result.type.elem, Affine) and not node.op.parts:
            widths, sums = widths_of(target, node), contraction_sums(node, outer, ranges)
            parts = split_reduction(sums, widths.accumulator) if find_lack(widths, sums) else None
            if parts:
                node.set_op(node.op.replace(parts=parts))
                changed = True
    return changed


def _coarsen(target: Target, graph: Graph) -> list[Loss]:
    """Raise scales until every contraction fits: weights that several share may be raised for each of them."""
    contractions: list[Node] = [n for n in graph.nodes if isinstance(n.op, Contraction)]
    losses: list[Loss] = []
    found: list[Loss] | None = None
    while found is None or found:
        found = [loss for loss in (raise_scales(target, node) for node in contractions) if loss]
        losses += found
    return losses
