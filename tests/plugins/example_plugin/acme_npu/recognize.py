"""The pass acme-recognize, and its rule."""

from qcompiler.ir import Graph, Value
from qcompiler.pipeline import Context, Pass, PassResult, Stage, compiler_pass
from qcompiler.rewrite import Match, Operand, OpPattern, Outcome, Pattern, RewriteBuilder, Rule, apply, rule, rules_into

from .hypot import Hypot


@rule("acme-hypot-of-squares", into="acme-recognize")
class HypotOfSquares(Rule):
    """sqrt(x*x + y*y) = hypot(x, y)."""

    def pattern(self, p: Pattern, x: Operand, y: Operand) -> OpPattern:
        return p.sqrt(p.add(p.mul(x, x), p.mul(y, y)))

    def rewrite(self, b: RewriteBuilder, m: Match, x: Value, y: Value) -> Outcome:
        return b(Hypot(), x, y)


@compiler_pass("acme-recognize")
class AcmeRecognize(Pass):
    """Name what the Acme NPU has an op for and models spell out in several."""

    needs = Stage.FLOAT

    def run(self, graph: Graph, context: Context) -> PassResult:
        return apply(graph, rules_into(self.name))
