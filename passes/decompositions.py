"""Rules that spell an op out in others; a descriptor lists those that ``legalize`` may use."""

from __future__ import annotations

import math

import numpy as np

from qcompiler.errors import QCompilerError
from qcompiler.ir import Value
from qcompiler.ops.activation import Clip, Reciprocal, Relu
from qcompiler.ops.binary import Add, Mul
from qcompiler.ops.constant import constant_value
from qcompiler.ops.normalization import Softmax
from qcompiler.ops.shape import Transpose
from qcompiler.rewrite import Match, Operand, OpPattern, Outcome, Pattern, RewriteBuilder, Rule, rule


@rule("prelu-to-relu", into="legalize")
class PreluToRelu(Rule):
    """prelu(x, slope) = relu(x) + slope * clip(x, -inf, 0)."""

    def pattern(self, p: Pattern, x: Operand, slope: Operand) -> OpPattern:
        return p.prelu(x, slope)

    def rewrite(self, b: RewriteBuilder, m: Match, x: Value, slope: Value) -> Outcome:
        negative = b(Clip(-math.inf, 0.0), x)
        return b(Add(), b(Relu(), x), b(Mul(), negative, slope))


@rule("divide-to-multiply", into="legalize")
class DivideToMultiply(Rule):
    """a / b = a * (1 / b)."""

    def pattern(self, p: Pattern, dividend: Operand, divisor: Operand) -> OpPattern:
        return p.div(dividend, divisor)

    def rewrite(self, b: RewriteBuilder, m: Match, dividend: Value, divisor: Value) -> Outcome:
        array = constant_value(divisor)
        if array is None:
            return b(Mul(), dividend, b(Reciprocal(), divisor))
        with np.errstate(all="ignore"):
            inverse = (1.0 / array.astype(np.float64)).astype(np.float32)
        if not np.isfinite(inverse).all():
            raise QCompilerError(
                "divides by a constant whose inverse float32 cannot hold", layer=m.root.layer,
                expected="divisors away from 0", found=f"a divisor of {float(array[~np.isfinite(inverse)][0])!r}",
            )
        return b(Mul(), dividend, b.constant(inverse))


@rule("softmax-last-axis", into="legalize")
class SoftmaxLastAxis(Rule):
    """softmax along another axis = transpose, softmax along the last axis, transpose."""

    def pattern(self, p: Pattern, x: Operand) -> OpPattern:
        return p.softmax(x, name="softmax")

    def rewrite(self, b: RewriteBuilder, m: Match, x: Value) -> Outcome:
        rank = x.type.rank
        axis = m.op("softmax", Softmax).axis % rank
        if axis == rank - 1:
            return m.fail("it works along the last axis already")
        swap = tuple({axis: rank - 1, rank - 1: axis}.get(i, i) for i in range(rank))
        return b(Transpose(swap), b(Softmax(-1), b(Transpose(swap), x)))
