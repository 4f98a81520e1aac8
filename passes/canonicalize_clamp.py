"""Rules of ``canonicalize`` for functions that limit values."""

from __future__ import annotations

import math

from qcompiler.ir import Value
from qcompiler.ops.activation import ClampFunction, Clip, Relu
from qcompiler.ops.binary import Maximum, Minimum
from qcompiler.rewrite import (
    Match,
    Operand,
    OpPattern,
    Outcome,
    Pattern,
    RewriteBuilder,
    Rule,
    is_float,
    is_number,
    one_use,
    rule,
)


@rule("merge-clamps", into="canonicalize")
class MergeClamps(Rule):
    """A relu or clip of a relu or clip is one."""

    def pattern(self, p: Pattern, x: Operand) -> OpPattern:
        return p.op(ClampFunction, p.op(ClampFunction, x, name="inner").where(one_use), name="outer")

    def rewrite(self, b: RewriteBuilder, m: Match, x: Value) -> Outcome:
        (low, high), (inner_low, inner_high) = (m.op(name, ClampFunction).limits for name in ("outer", "inner"))
        # clip(clip(x, a, b), c, d) with the inner limits moved into the outer interval.
        return b(_clamp(min(max(inner_low, low), high), min(max(inner_high, low), high)), x)


@rule("clip-to-relu", into="canonicalize")
class ClipToRelu(Rule):
    """A clip to [0, inf) is a relu."""

    def pattern(self, p: Pattern, x: Operand) -> OpPattern:
        return p.clip(x, minimum=0.0, maximum=math.inf)

    def rewrite(self, b: RewriteBuilder, m: Match, x: Value) -> Outcome:
        return b(Relu(), x)


@rule("selection-to-clamp", into="canonicalize")
class SelectionToClamp(Rule):
    """The maximum or minimum with a constant number is a relu or clip."""

    def pattern(self, p: Pattern, x: Operand, bound: Operand) -> OpPattern:
        # Integers stay: relu and clip compute in floating point, which does not hold all of them.
        return p.op((Maximum, Minimum), x.where(is_float), bound.where(is_number))

    def rewrite(self, b: RewriteBuilder, m: Match, x: Value, bound: Value) -> Outcome:
        if x.type != m.root.result.type:
            return m.fail("the number widens the result")
        limit = m.number(bound)
        return b(_clamp(limit, math.inf) if isinstance(m.root.op, Maximum) else _clamp(-math.inf, limit), x)


def _clamp(minimum: float, maximum: float) -> ClampFunction:
    return Relu() if (minimum, maximum) == (0.0, math.inf) else Clip(minimum, maximum)
