"""The pass ``fold-batch-norm``."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qcompiler.analysis.rewriting import (
    add_locations,
    constant_value,
    float_constant,
    new_constant,
    only_user,
    replace_node,
    same_but_for_unit_axes,
)
from qcompiler.errors import QCompilerError
from qcompiler.ir import Builder, Graph, Node, Untraced, Value
from qcompiler.ops.binary import Add, Mul
from qcompiler.ops.contraction import Contraction
from qcompiler.ops.normalization import BatchNorm
from qcompiler.ops.shape import Reshape
from qcompiler.pipeline import Context, Pass, PassResult, compiler_pass

Float64 = NDArray[np.float64]


@compiler_pass("fold-batch-norm")
class FoldBatchNorm(Pass):
    """Fold batch normalization into the contraction before it.

    With ``y = factor * x + offset`` the weights of each output channel are multiplied by its factor, and the bias
    becomes ``factor * bias + offset``, in float64. A normalization with no contraction to fold into becomes a
    multiplication and an addition.
    """

    def run(self, graph: Graph, context: Context) -> PassResult:
        changed = False
        for node in graph.nodes:
            if isinstance(node.op, BatchNorm):
                node = _before_reshape(graph, node)
                factor, offset = _factor_and_offset(node)
                contraction = _foldable_contraction(node)
                if contraction is not None:
                    _fold(graph, node, contraction, factor, offset)
                else:
                    _expand(graph, node, factor, offset)
                changed = True
        return PassResult(graph, changed)


def _before_reshape(graph: Graph, node: Node) -> Node:
    """batch_norm(reshape(x)) as reshape(batch_norm(x)), where the reshape only adds or removes axes of size 1.

    One-dimensional convolutions are two-dimensional ones between such reshapes.
    """
    reshape = node.operands[0].producer
    if reshape is None or not isinstance(reshape.op, Reshape) or only_user(reshape.result) is not node:
        return node
    source, shape = reshape.operands[0], node.result.type.shape
    if source.type.shape[:2] != shape[:2] or not same_but_for_unit_axes(source.type.shape, shape):
        return node
    if isinstance(source.origin, Untraced):
        source.origin = reshape.result.origin
    builder = Builder(graph, node, node.loc)
    normalized = builder.create(node.op, [source, *node.operands[1:]], origin=node.result.origin)
    replace_node(graph, node, builder(reshape.op, normalized.result, origin=node.result.origin))
    graph.erase(reshape)
    return normalized


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


def _foldable_contraction(node: Node) -> Node | None:
    """The contraction that alone feeds ``node``, if its weights are constant and its channels are on axis 1."""
    value = node.operands[0]
    producer = value.producer
    if producer is None or not isinstance(producer.op, Contraction) or only_user(value) is not node:
        return None
    if producer.op.result_channel_axis(value.type.rank) != 1:
        return None
    if any(constant_value(operand) is None for operand in producer.operands[1:]):
        return None
    return producer


def _fold(graph: Graph, node: Node, contraction: Node, factor: Float64, offset: Float64) -> None:
    op = contraction.op
    assert isinstance(op, Contraction)
    weights = constant_value(contraction.operands[1])
    assert weights is not None
    shape = [1] * weights.ndim
    shape[op.weight_channel_axis(weights.ndim)] = -1
    bias = offset
    if len(contraction.operands) == 3:
        before = constant_value(contraction.operands[2])
        assert before is not None
        bias = before.astype(np.float64) * factor + offset
    builder = Builder(graph, node, contraction.loc)
    scaled = (weights.astype(np.float64) * factor.reshape(shape)).astype(np.float32)
    operands: tuple[Value, ...] = (
        contraction.operands[0], new_constant(builder, scaled), float_constant(builder, bias),
    )
    folded = builder(op, *operands, origin=node.result.origin)
    replace_node(graph, node, folded)
    assert folded.producer is not None
    add_locations(folded.producer, contraction)
    graph.erase(contraction)


def _expand(graph: Graph, node: Node, factor: Float64, offset: Float64) -> None:
    rank = node.result.type.rank
    shape = (-1, *[1] * (rank - 2))
    builder = Builder(graph, node, node.loc)
    scaled = builder(Mul(), node.operands[0], float_constant(builder, factor.reshape(shape)))
    shifted = builder(Add(), scaled, float_constant(builder, offset.reshape(shape)), origin=node.result.origin)
    replace_node(graph, node, shifted)
