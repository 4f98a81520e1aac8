"""How large the numbers get that ops on block floating point compute: bounds over all operands."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from qcompiler.ir import BlockFloat, Node, TensorType, Value
from qcompiler.numerics.block_accumulator import bits_for
from qcompiler.numerics.block_arithmetic import FixedPointSum, ReciprocalMean
from qcompiler.numerics.block_contraction import BlockOperand
from qcompiler.numerics.block_growth import growth_bounds
from qcompiler.numerics.block_table import EXPONENTIAL_PLACES
from qcompiler.ops.block_forms.contraction import reduction_blocks, weight_columns
from qcompiler.ops.block_values import block_float
from qcompiler.ops.constant import constant_tensor
from qcompiler.ops.contraction import Contraction, Conv2DBase
from qcompiler.ops.pooling import AveragePool2D
from qcompiler.ops.quantized import resolve
from qcompiler.ops.reduction import Reduction

Bounds = tuple[int, int]


def result_bounds(node: Node, outer: Mapping[Value, Value]) -> Bounds | None:
    """The smallest and largest mantissa that a node can compute; None where nothing grows.

    Sums of products are bounded by the actual weights, and some input reaches the bound: see
    :func:`qcompiler.numerics.block_growth.growth_bounds`. (Not so where one exponent a sample meets weights of several,
    and padding hides some of them: there the bound holds, but may not be reached.) Other ops are bounded by their
    operands' formats.

    Args:
        node: a node with operands of block floating point, of p' or of a fused body.
        outer: for a node of a fused body, the operand behind each input of the body.
    """
    op = node.op
    formats = [v.type.elem.format for v in node.operands if isinstance(v.type.elem, BlockFloat)]
    lows, highs = [f.smallest for f in formats], [f.largest for f in formats]
    if isinstance(op, Contraction):
        return _sum_bounds(node, outer) if isinstance(resolve(op, op.arithmetic), FixedPointSum) else None
    if op.name == "add":
        return sum(lows), sum(highs)
    if op.name == "sub":
        return lows[0] - highs[1], highs[0] - lows[1]
    if op.name == "mul":
        corners = [a * b for a in (lows[0], highs[0]) for b in (lows[1], highs[1])]
        return min(corners), max(corners)
    if op.name == "softmax":
        return 0, 1 << EXPONENTIAL_PLACES
    if isinstance(op, Reduction | AveragePool2D) and op.name in ("reduce_sum", "mean", "average_pool2d"):
        return _reduction_bounds(op, node.operands[0].type, lows[0], highs[0])
    return None


def missing_bits(bounds: Bounds, result: TensorType) -> int:
    """How many bits a result's mantissa lacks to hold these numbers; 0 or less where it holds them."""
    return bits_for(*bounds) - block_float(result).format.mantissa


def _reduction_bounds(op: Reduction | AveragePool2D, operand: TensorType, low: int, high: int) -> Bounds:
    count = op.count(operand.shape) if isinstance(op, Reduction) else op.kernel[0] * op.kernel[1]
    if op.name == "reduce_sum":
        return low * count, high * count
    rule: ReciprocalMean = resolve(op, getattr(op, "arithmetic", None))
    # Windows at the border have fewer values, and those with the fewest decide the places of all reciprocals.
    counts = np.array([count] if isinstance(op, Reduction) else range(1, count + 1), np.int64)
    largest = max(int((rule.reciprocals(counts[i:]) * counts[i:]).max()) for i in range(len(counts)))
    return low * largest, high * largest


def _sum_bounds(node: Node, outer: Mapping[Value, Value]) -> Bounds:
    op, (x, w) = node.op, node.operands[:2]
    assert isinstance(op, Contraction)
    x_elem, types = block_float(x.type), [x.type, w.type]
    result = block_float(node.result.type).format
    rule: FixedPointSum = resolve(op, op.arithmetic)
    accumulator = rule.accumulator(result.mantissa, result.rounding)
    weights = constant_tensor(outer.get(w, w))
    if weights is None:
        # Both operands are computed: every product can be as large as the formats allow.
        formats = x_elem.format, block_float(w.type).format
        largest = max(a * b for a in (formats[0].smallest, formats[0].largest)
                      for b in (formats[1].smallest, formats[1].largest))
        low = min(formats[0].smallest * formats[1].largest, formats[0].largest * formats[1].smallest)
        terms = op.reduction_length(types) << accumulator.fraction
        lows, highs = [low * terms], [largest * terms]
    else:
        length = reduction_blocks(op, types)
        columns = (a.reshape(-1, *a.shape[-2:]) for a in weight_columns(op, weights, length))
        lows, highs = [], []
        shared = _sees_all_weights(op) and all(
            _covers(d, b) for d, b in zip(x.type.shape[1:], x_elem.blocks[1:], strict=True)
        )
        for mantissas, exponents in zip(*columns, strict=True):
            group = BlockOperand(mantissas, exponents)
            least, most = growth_bounds(group, length, x_elem.format, accumulator, shared)
            lows += least
            highs += most
    if len(node.operands) == 3:
        bias = outer.get(node.operands[2], node.operands[2])
        tensor = constant_tensor(bias)
        if tensor is None:
            # A computed bias can have either end of its format in any channel.
            ends = block_float(bias.type).format
            biases, lows, highs = [ends.smallest, ends.largest], [min(lows)], [max(highs)]
        else:
            biases = [int(mantissa) for mantissa in tensor.data]
        # A channel's sum meets its own bias; where one bound holds for all channels, it meets each.
        channels = max(len(lows), len(biases))
        lows = [lows[i % len(lows)] + min(biases[i % len(biases)], 0) for i in range(channels)]
        highs = [highs[i % len(highs)] + max(biases[i % len(biases)], 0) for i in range(channels)]
    return min(lows, default=0), max(highs, default=0)


def _sees_all_weights(op: Contraction) -> bool:
    """Whether every result is a sum over all weights of its channel.

    Where the weights with the largest exponent can be missing, at a border, the others are not shifted right.
    """
    return not isinstance(op, Conv2DBase) or (op.name == "conv2d" and not any(op.pads))


def _covers(dim: object, block: object) -> bool:
    """Whether one block spans an axis."""
    return isinstance(dim, int) and isinstance(block, int) and block >= dim
