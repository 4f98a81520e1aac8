"""The pass ``fold-batch-norm``."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qcompiler.errors import QCompilerError
from qcompiler.ir import Graph, Node, Value
from qcompiler.ir.dimension import same_but_for_unit_axes
from qcompiler.ops.binary import Add, Mul
from qcompiler.ops.constant import constant_value
from qcompiler.ops.contraction import Contraction
from qcompiler.ops.normalization import BatchNorm
from qcompiler.pipeline import Context, Pass, PassResult, Stage, compiler_pass
from qcompiler.rewrite import (
    Match,
    Operand,
    OpPattern,
    Outcome,
    Pattern,
    RewriteBuilder,
    Rule,
    apply,
    is_constant,
    one_use,
    rule,
    rules_into,
)

Float64 = NDArray[np.float64]


@compiler_pass("fold-batch-norm")
class FoldBatchNorm(Pass):
    """Fold batch normalization into the contraction before it.

    With ``y = factor * x + offset`` the weights of each output channel are multiplied by its factor, and the bias
    becomes ``factor * bias + offset``, in float64. A normalization with no contraction to fold into becomes a
    multiplication and an addition.
    """

    needs = Stage.FLOAT
    takes_rules = True

    def run(self, graph: Graph, context: Context) -> PassResult:
        return apply(graph, rules_into(self.name))


@rule("normalize-before-reshape", into="fold-batch-norm")
class NormalizeBeforeReshape(Rule):
    """batch_norm(reshape(x)) is reshape(batch_norm(x)), where the reshape only adds or removes axes of size 1.

    One-dimensional convolutions are two-dimensional ones between such reshapes.
    """

    def pattern(self, p: Pattern, x: Operand, *parameters: Operand) -> OpPattern:
        return p.batch_norm(p.reshape(x, name="reshape").where(one_use), *parameters)

    def rewrite(self, b: RewriteBuilder, m: Match, x: Value, *parameters: Value) -> Outcome:
        reshape, shape = m.node("reshape"), m.root.result.type.shape
        if x.type.shape[:2] != shape[:2] or not same_but_for_unit_axes(x.type.shape, shape):
            return m.fail("the reshape does more than adding or removing axes of size 1")
        x.adopt_origin(reshape.result)
        normalized = b(m.root.op, x, *parameters, loc=m.root.loc, origin=m.root.result.origin)
        return b(reshape.op, normalized, loc=m.root.loc)


@rule("normalize-in-contraction", into="fold-batch-norm")
class NormalizeInContraction(Rule):
    """A normalization goes into the weights and the bias of the contraction that alone feeds it."""

    def pattern(
        self, p: Pattern, data: Operand, weights: Operand, bias: Operand | None = None, *parameters: Operand
    ) -> OpPattern:
        assert bias is not None
        contraction = p.op(
            Contraction, data, weights.where(is_constant), bias.where(is_constant), name="contraction"
        )
        return p.batch_norm(contraction.where(one_use), *parameters)

    def rewrite(
        self, b: RewriteBuilder, m: Match, data: Value, weights: Value, bias: Value | None = None, *parameters: Value
    ) -> Outcome:
        op = m.op("contraction", Contraction)
        if op.result_channel_axis(m.root.result.type.rank) != 1:
            return m.fail("the channels are not on axis 1")
        factor, offset = _factor_and_offset(m.root)
        array = m.array(weights)
        shape = [1] * array.ndim
        shape[op.weight_channel_axis(array.ndim)] = -1
        scaled = (array.astype(np.float64) * factor.reshape(shape)).astype(np.float32)
        if bias is not None:
            offset = m.array(bias).astype(np.float64) * factor + offset
        return b(op, data, b.constant(scaled), b.constant(offset.astype(np.float32)))


@rule("expand-normalization", into="fold-batch-norm")
class ExpandNormalization(Rule):
    """A normalization that no contraction takes in is a multiplication and an addition."""

    def pattern(self, p: Pattern, x: Operand, *parameters: Operand) -> OpPattern:
        return p.batch_norm(x, *parameters)

    def rewrite(self, b: RewriteBuilder, m: Match, x: Value, *parameters: Value) -> Outcome:
        factor, offset = _factor_and_offset(m.root)
        shape = (-1, *[1] * (x.type.rank - 2))
        scaled = b(Mul(), x, b.constant(factor.reshape(shape).astype(np.float32)))
        return b(Add(), scaled, b.constant(offset.reshape(shape).astype(np.float32)))


def _factor_and_offset(node: Node) -> tuple[Float64, Float64]:
    assert isinstance(node.op, BatchNorm)
    arrays = []
    for value in node.operands[1:]:
        array = constant_value(value)
        if array is None:
            raise QCompilerError("the parameters of a batch normalization must be constants", layer=node.layer)
        arrays.append(array)
    factor, offset = node.op.factor_and_offset(*arrays)
    if not (np.isfinite(factor).all() and np.isfinite(offset).all()):
        raise QCompilerError(
            "the batch normalization divides by zero", layer=node.layer,
            found="a variance + epsilon that is not positive",
        )
    return factor, offset
