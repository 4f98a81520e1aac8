"""Rules of ``canonicalize`` for ops that move elements."""

from __future__ import annotations

import math

from qcompiler.ir import Fact, Value
from qcompiler.ir.dimension import same_but_for_unit_axes
from qcompiler.ops.activation import Clip
from qcompiler.ops.quantization import Cast
from qcompiler.ops.shape import Concat, Expand, Reshape, Transpose
from qcompiler.ops.slicing import Pad, Slice
from qcompiler.rewrite import Match, Operand, OpPattern, Outcome, Pattern, RewriteBuilder, Rule, one_use, rule


@rule("merge-reshapes", into="canonicalize")
class MergeReshapes(Rule):
    """A reshape of a reshape is one reshape."""

    def pattern(self, p: Pattern, x: Operand) -> OpPattern:
        return p.reshape(p.reshape(x, name="inner"), name="outer")

    def rewrite(self, b: RewriteBuilder, m: Match, x: Value) -> Outcome:
        x.adopt_origin(m["inner"])
        return b(m.op("outer", Reshape), x, loc=m.root.loc)


@rule("merge-transposes", into=("canonicalize", "layout"))
class MergeTransposes(Rule):
    """A transpose of a transpose is one transpose, or none."""

    def pattern(self, p: Pattern, x: Operand) -> OpPattern:
        return p.transpose(p.transpose(x, name="inner"), name="outer")

    def rewrite(self, b: RewriteBuilder, m: Match, x: Value) -> Outcome:
        inner = m.op("inner", Transpose).permutation
        permutation = tuple(inner[p] for p in m.op("outer", Transpose).permutation)
        if permutation == tuple(range(len(permutation))):
            return x
        return b(Transpose(permutation), x, loc=m.root.loc)


@rule("remove-identity", into="canonicalize")
class RemoveIdentity(Rule):
    """An op that gives back its operand vanishes: a reshape to the same shape, a clip without limits, and so on."""

    def pattern(self, p: Pattern, x: Operand) -> OpPattern:
        return p.op((Reshape, Expand, Slice, Pad, Cast, Concat, Transpose, Clip), x, ...)

    def rewrite(self, b: RewriteBuilder, m: Match, x: Value) -> Outcome:
        op = m.root.op
        if x.type != m.root.result.type:
            return m.fail("the result has another type than the operand")
        if isinstance(op, Concat) and len(m.root.operands) > 1:
            return m.fail("it joins several operands")
        if isinstance(op, Transpose) and op.permutation != tuple(range(x.type.rank)):
            return m.fail("it moves axes")
        if isinstance(op, Slice) and any(step != 1 for step in op.steps):
            return m.fail("it reverses an axis")
        if isinstance(op, Clip) and op.limits != (-math.inf, math.inf):
            return m.fail("it has limits")
        return x


@rule("transpose-to-reshape", into="canonicalize")
class TransposeToReshape(Rule):
    """A transpose that keeps the order of all dimensions but those of size 1 is a reshape."""

    def pattern(self, p: Pattern, x: Operand) -> OpPattern:
        return p.transpose(x, name="transpose")

    def rewrite(self, b: RewriteBuilder, m: Match, x: Value) -> Outcome:
        moved = [p for p in m.op("transpose", Transpose).permutation if x.type.shape[p] != 1]
        if moved != sorted(moved):
            return m.fail("it moves dimensions of other sizes than 1")
        return b(Reshape(m.root.result.type.shape), x)


@rule("sink-reshape", into="canonicalize")
class SinkReshape(Rule):
    """A function of a reshaped value is the reshaped function, so that the function stands next to what computes it."""

    def pattern(self, p: Pattern, x: Operand) -> OpPattern:
        return p.op(Fact.UNARY, p.reshape(x, name="reshape").where(one_use))

    def rewrite(self, b: RewriteBuilder, m: Match, x: Value) -> Outcome:
        reshape, origin = m.node("reshape"), m.root.result.origin
        same_axes = same_but_for_unit_axes(x.type.shape, reshape.result.type.shape)
        x.adopt_origin(reshape.result)
        applied = b(m.root.op, x, loc=m.root.loc, origin=origin if same_axes else None)
        return b(reshape.op, applied, loc=reshape.loc)
