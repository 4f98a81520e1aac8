"""A decomposition that a descriptor may list: layer normalization in ops that most targets have."""

from __future__ import annotations

import numpy as np

from qcompiler.ir import Value
from qcompiler.ops.activation import Reciprocal, Sqrt
from qcompiler.ops.binary import Add, Mul, Sub
from qcompiler.ops.layer_norm import LayerNorm
from qcompiler.ops.reduction import Mean
from qcompiler.rewrite import Match, Operand, OpPattern, Outcome, Pattern, RewriteBuilder, Rule, rule


@rule("layer-norm-to-mean", into="legalize")
class LayerNormToMean(Rule):
    """layer_norm(x) = c / sqrt(mean(c * c) + epsilon) * scale + shift, with c = x - mean(x).

    The variance is that of centered values: as E[x^2] - E[x]^2, two large numbers of few bits would cancel.
    """

    def pattern(self, p: Pattern, x: Operand, scale: Operand, shift: Operand) -> OpPattern:
        return p.layer_norm(x, scale, shift, name="norm")

    def rewrite(self, b: RewriteBuilder, m: Match, x: Value, scale: Value, shift: Value) -> Outcome:
        op = m.op("norm", LayerNorm)
        centered = b(Sub(), x, b(Mean(op.axes), x))
        variance = b(Mean(op.axes), b(Mul(), centered, centered))
        deviation = b(Sqrt(), b(Add(), variance, b.constant(np.float32(op.epsilon))))
        return b(Add(), b(Mul(), b(Mul(), centered, b(Reciprocal(), deviation)), scale), shift)
