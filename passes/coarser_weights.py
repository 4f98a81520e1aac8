"""Larger weight scales, at which the sums of a contraction fit a narrow accumulator."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qcompiler.analysis.accumulators import ContractionSums, SumBounds, sums_of_weights
from qcompiler.ir import SCALARS, ConstantArray, Node, TensorType
from qcompiler.ops.constant import constant_value
from qcompiler.ops.contraction import Contraction
from qcompiler.ops.quantization import FakeQuant
from qcompiler.passes.stored_constants import stored_bias, stored_constant
from qcompiler.target import Target

_LEAST_STEP = 1 + 2.0**-8
"""Rounding keeps sums from shrinking exactly as scales grow; each attempt raises them by at least this."""


@dataclass(frozen=True)
class Loss:
    """What narrower sums cost a layer.

    Attributes:
        layer: the layer.
        bits: how many bits the weights lose in the channel that loses most.
        channels: scales raised.
        all_channels: scales in all.
    """

    layer: str
    bits: float
    channels: int
    all_channels: int

    def __str__(self) -> str:
        return f"{self.layer!r} {self.bits:.1f} bits in {self.channels} of {self.all_channels} scales"


def raise_scales(target: Target, node: Node) -> Loss | None:
    """Raise the weight scales of a calibrated contraction until the target's accumulator holds its sums.

    Weights and bias become smaller integers as their scale grows. A scale among powers of two is doubled.

    Args:
        target: a target without a home for partial sums.
        node: a contraction of an annotated, calibrated program. Its weights' ``fake_quant`` is changed.

    Returns:
        What it costs; None where nothing had to be changed, or the weights are computed, in groups, or not quantized.
    """
    row = target.row_for(node.op)
    x, w = (v.producer for v in node.operands[:2])
    if row is None or x is None or w is None or not (isinstance(x.op, FakeQuant) and isinstance(w.op, FakeQuant)):
        return None
    weights, mark = constant_value(w.operands[0]), w.op
    if weights is None or not (x.op.is_calibrated and mark.is_calibrated) or mark.multipliers is not None:
        return None
    storage = SCALARS[row.out.choices[0].storages[0]]
    bits = min(target.descriptor.limits.accumulator.bits, storage.bits)
    assert mark.scale is not None
    first = scale = mark.scale.array.astype(np.float64)
    while True:
        sums = _sums(node, x.op, mark.replace(scale=ConstantArray(scale.astype(np.float32))), weights)
        excess = _excess(sums, bits).reshape(scale.shape) if scale.shape else _excess(sums, bits).max()
        if not (excess > 1).any():
            break
        factor = np.where(excess > 1, 2.0 if mark.power_of_two else np.maximum(excess, _LEAST_STEP), 1.0)
        scale = scale * factor
    if scale is first:
        return None
    w.set_op(mark.replace(scale=ConstantArray(scale.astype(np.float32))))
    raised = scale > first
    return Loss(node.layer, float(np.log2((scale / first).max())), int(raised.sum()), scale.size)


def _sums(node: Node, x: FakeQuant, w: FakeQuant, weights: NDArray[np.float32]) -> ContractionSums:
    """Bounds of the sums with the integers that ``realize`` will make of weights and bias."""
    op = node.op
    assert isinstance(op, Contraction)
    types = [TensorType(v.type.shape, mark.elem) for v, mark in zip(node.operands, (x, w), strict=False)]
    stored = stored_constant(weights, w.elem)
    bias = SumBounds((0,), (0,))
    real = constant_value(node.operands[2]) if len(node.operands) == 3 else None
    if real is not None:
        product = op.accumulator(types, node.result.type.shape, SCALARS["i64"], of_bias=True)
        whole = tuple(int(number) for number in stored_bias(real, product))
        bias = SumBounds(whole, whole)
    zero = int(types[0].elem.zero_point.array)  # type: ignore[union-attr]
    return sums_of_weights(
        op, types[0], types[1], op.integer_weights(types[1], stored), (x.qmin - zero, x.qmax - zero), bias
    )


def _excess(sums: ContractionSums, bits: int) -> NDArray[np.float64]:
    """How many times too large the sums of each channel are."""
    lowest, highest = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    bounds = sums.all
    return np.array([max(low / lowest, high / highest) for low, high in zip(bounds.low, bounds.high, strict=True)])
