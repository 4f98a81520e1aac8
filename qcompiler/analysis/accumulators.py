"""How large a sum of products can become."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from qcompiler.ir import Node, TensorType, Value
from qcompiler.ops.constant import constant_value
from qcompiler.ops.contraction import Contraction
from qcompiler.ops.quantized import affine


def accumulator_bounds(node: Node, outer: Mapping[Value, Value] = MappingProxyType({})) -> NDArray[np.int64]:
    """The largest magnitude that any partial sum of a quantized contraction can reach, for any input.

    With constant weights it is sum(abs(w)) * max(abs(x - zero_point)) + abs(bias), one number for each output
    channel; with two computed operands, the reduction length times the largest product, one number.

    Args:
        node: a node of the program or of a fused body.
        outer: for a node of a fused body, the operand behind each input of the body.
    """
    op = node.op
    assert isinstance(op, Contraction)
    types = [v.type for v in node.operands]
    x = _largest_difference(types[0])
    weights, *biases = (constant_value(outer.get(v, v)) for v in node.operands[1:])
    bias = np.abs(biases[0].astype(np.int64)) if biases and biases[0] is not None else np.int64(0)
    if weights is None:
        return np.asarray(x * _largest_difference(types[1]) * op.reduction_length(types) + bias, np.int64)
    centered = weights.astype(np.int64) - affine(types[1]).zero_point_for(weights.shape)
    axis = op.weight_channel_axis(weights.ndim)
    others = tuple(i for i in range(weights.ndim) if i != axis)
    return np.asarray(np.abs(centered).sum(others) * x + bias, np.int64)


def _largest_difference(type: TensorType) -> int:
    elem = affine(type)
    zero_points = elem.zero_point.array
    return int(max((elem.qmax - zero_points).max(), (zero_points - elem.qmin).max()))
