"""The pass ``canonicalize``."""

from __future__ import annotations

from qcompiler.ir import Graph

# These imports register the pass's rules.
from qcompiler.passes import canonicalize_arithmetic, canonicalize_clamp, canonicalize_movement  # noqa: F401
from qcompiler.pipeline import Context, Pass, PassResult, Stage, compiler_pass
from qcompiler.rewrite import apply, rules_into


@compiler_pass("canonicalize")
class Canonicalize(Pass):
    """Bring a program to one way of saying things.

    Removes ops that change nothing, merges neighbouring reshapes, transposes and clamps, turns transposes that only
    move dimensions of size 1 into reshapes, moves constant additions into the bias of the contraction before them,
    and writes an average pool over the whole image as a mean.
    """

    needs = Stage.FLOAT
    takes_rules = True

    def run(self, graph: Graph, context: Context) -> PassResult:
        return apply(graph, rules_into(self.name))
