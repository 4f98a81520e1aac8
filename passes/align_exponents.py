"""The pass ``align-exponents``."""

from __future__ import annotations

from qcompiler.analysis.exponent_groups import exponent_groups
from qcompiler.ir import Graph
from qcompiler.ops.block_conversion import FakeBlock
from qcompiler.pipeline import Context, Pass, PassResult, Stage, compiler_pass


@compiler_pass("align-exponents")
class AlignExponents(Pass):
    """Give values of block floating point that meet one exponent, so that no shift is left for run time.

    Of the exponents that calibration fixed, those of values that meet in an op with ``ties = "all"`` become the
    largest among them. Exponents that are found at run time stay as they are: ops align what meets.
    """

    needs = Stage.CALIBRATED
    needs_target = True

    def run(self, graph: Graph, context: Context) -> PassResult:
        changed = False
        for members in exponent_groups(graph, context.require_target(self.name)):
            marks = [node.op for node in members if isinstance(node.op, FakeBlock)]
            largest = max(mark.exponent for mark in marks if mark.exponent is not None)
            for node, mark in zip(members, marks, strict=True):
                if mark.exponent != largest:
                    node.set_op(mark.fixed_at(largest))
                    changed = True
        return PassResult(graph, changed)
