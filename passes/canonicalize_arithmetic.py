"""Rules of ``canonicalize`` for arithmetic."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qcompiler.ir import SymbolicDim, Value
from qcompiler.ops.binary import Add, Div, Mul, Sub
from qcompiler.ops.contraction import Contraction
from qcompiler.ops.pooling import AveragePool2D
from qcompiler.ops.reduction import Mean
from qcompiler.ops.resize import Resize
from qcompiler.rewrite import (
    Match,
    Operand,
    OpPattern,
    Outcome,
    Pattern,
    RewriteBuilder,
    Rule,
    is_constant,
    one_use,
    rule,
    satisfies,
)
from qcompiler.rewrite.pattern import Alternatives

Float32 = NDArray[np.float32]


@rule("drop-neutral-operand", into="canonicalize")
class DropNeutralOperand(Rule):
    """x * 1, x / 1, x + 0 and x - 0 are x."""

    def pattern(self, p: Pattern, x: Operand, neutral: Operand) -> Alternatives:
        neutral = neutral.where(is_constant)
        return p.any_of(p.op((Add, Mul), x, neutral), p.op((Sub, Div), x, neutral))

    def rewrite(self, b: RewriteBuilder, m: Match, x: Value, neutral: Value) -> Outcome:
        expected = 1.0 if isinstance(m.root.op, Mul | Div) else 0.0
        if not (m.array(neutral) == expected).all():
            return m.fail(f"the constant is not {expected:.0f} everywhere")
        if x.type != m.root.result.type:
            return m.fail("the constant widens the result")
        return x


@rule("add-to-bias", into="canonicalize")
class AddToBias(Rule):
    """A constant added to a contraction, one number for each output channel, goes into the bias.

    Not where the weights are computed: without weights whose scale could give way, a large constant (a mask, say)
    would not fit an integer bias.
    """

    def pattern(
        self, p: Pattern, data: Operand, weights: Operand, addend: Operand, bias: Operand | None = None
    ) -> OpPattern:
        assert bias is not None
        contraction = p.op(
            Contraction, data, weights.where(is_constant), bias.where(is_constant), name="contraction"
        )
        return p.add(contraction.where(one_use), addend.where(is_constant))

    def rewrite(
        self, b: RewriteBuilder, m: Match, data: Value, weights: Value, addend: Value, bias: Value | None = None
    ) -> Outcome:
        total = m["contraction"]
        if total.type != m.root.result.type:
            return m.fail("the constant widens the result")
        op = m.op("contraction", Contraction)
        axis = op.result_channel_axis(total.type.rank)
        added = _by_channel(m.array(addend), total, axis)
        if added is None:
            return m.fail("the constant varies along other axes than the output channels")
        if bias is not None:
            added = (m.array(bias).astype(np.float64) + added).astype(np.float32)
        return b(op, data, weights, b.constant(added))


def _by_channel(array: Float32, total: Value, axis: int) -> Float32 | None:
    """``array``, broadcast against ``total``, as one number for each output channel; None where it varies else."""
    rank, channels = total.type.rank, total.type.shape[axis]
    shape = (1,) * (rank - array.ndim) + array.shape
    if len(shape) != rank or isinstance(channels, SymbolicDim) or any(d != 1 for i, d in enumerate(shape) if i != axis):
        return None
    return np.broadcast_to(array.reshape(-1), (channels,)).astype(np.float32)


@rule("whole-average-to-mean", into="canonicalize")
class WholeAverageToMean(Rule):
    """An average pool whose only window is the whole image is a mean."""

    def pattern(self, p: Pattern, x: Operand) -> OpPattern:
        return p.average_pool2d(x, name="pool", pads=(0, 0, 0, 0))

    def rewrite(self, b: RewriteBuilder, m: Match, x: Value) -> Outcome:
        op = m.op("pool", AveragePool2D)
        axes = (1, 2) if op.layout == "NHWC" else (2, 3)
        if tuple(x.type.shape[a] for a in axes) != op.kernel:
            return m.fail("the window is not the whole image")
        return b(Mean(axes, True), x)


@rule("plain-coordinates", into="canonicalize")
class PlainCoordinates(Rule):
    """Coordinates "pytorch_half_pixel" are "half_pixel", unless the result has a single row or column."""

    def pattern(self, p: Pattern, x: Operand) -> OpPattern:
        sizes = satisfies("free of 1", lambda sizes: 1 not in sizes)
        return p.resize(x, name="resize", coordinates="pytorch_half_pixel", sizes=sizes)

    def rewrite(self, b: RewriteBuilder, m: Match, x: Value) -> Outcome:
        return b(m.op("resize", Resize).replace(coordinates="half_pixel"), x)
