"""Weight scales at which biases and scales of sums fit the accumulator."""

from __future__ import annotations

import numpy as np

from qcompiler.ir import ConstantArray, Node
from qcompiler.numerics import next_power_of_two
from qcompiler.ops.constant import constant_value
from qcompiler.ops.contraction import Contraction
from qcompiler.ops.quantization import FakeQuant
from qcompiler.passes.bias_limit import bias_limit
from qcompiler.passes.grouped_weights import is_grouped, raise_group_scales
from qcompiler.target import Target

_SMALLEST_PRODUCT = 2.0**-125
"""Scales of accumulators are normal float32 numbers."""


def fit_accumulator(node: Node, target: Target) -> int:
    """Raise the scale of weight channels whose bias, or scale, would leave the accumulator; returns how many."""
    activation, weights = (v.producer for v in node.operands[:2])
    if activation is None or weights is None:
        return 0
    x, w = activation.op, weights.op
    # What the host runs has weights as they are.
    if not (isinstance(x, FakeQuant) and isinstance(w, FakeQuant) and x.scale and w.scale and w.zero_point):
        return 0
    if constant_value(weights.operands[0]) is None or not isinstance(node.op, Contraction):
        return 0
    scale, x_scale = w.integer_scale, float(x.scale.array)
    least = np.full(scale.shape, _SMALLEST_PRODUCT / x_scale)
    channel = node.op.weight_channel_axis(len(weights.result.type.shape))
    bias = constant_value(node.operands[2]) if len(node.operands) == 3 else None
    if bias is not None:
        needed = np.abs(bias.astype(np.float64)) / (x_scale * bias_limit(target, node))
        grid = [-1 if i == channel else 1 for i in range(scale.ndim)]
        least = np.maximum(least, needed.reshape(grid) if scale.shape else needed.max())
    if w.power_of_two:
        least = next_power_of_two(np.maximum(least, _SMALLEST_PRODUCT))
    raised = len(np.unique(np.nonzero(least > scale)[channel])) if scale.shape else int(least > scale)
    if raised and is_grouped(weights):
        raise_group_scales(weights, least)
    elif raised:
        weights.set_op(w.replace(scale=ConstantArray(np.maximum(scale, least).astype(np.float32))))
    return raised
