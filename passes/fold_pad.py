"""The pass ``fold-pad``."""

from __future__ import annotations

import numpy as np

from qcompiler.ir import Graph, Value
from qcompiler.ops.contraction import Conv2D
from qcompiler.ops.pooling import MaxPool2D
from qcompiler.ops.slicing import Pad
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
    rule,
    rules_into,
    satisfies,
)

_LOWEST = float(np.finfo(np.float32).min)


@compiler_pass("fold-pad")
class FoldPad(Pass):
    """Let a convolution do the zero padding before it, and a max pool the padding with the lowest number.

    Padding never counts in a max pool, so only what no element can be smaller than becomes padding of the pool.
    """

    needs = Stage.FLOAT
    takes_rules = True

    def run(self, graph: Graph, context: Context) -> PassResult:
        return apply(graph, rules_into(self.name))


@rule("pad-into-convolution", into="fold-pad")
class PadIntoConvolution(Rule):
    """A convolution pads with zeros itself."""

    def pattern(self, p: Pattern, x: Operand, weights: Operand, *bias: Operand) -> OpPattern:
        return p.conv2d(p.pad(x, name="pad", mode="constant", value=0.0), weights, *bias, name="convolution")

    def rewrite(self, b: RewriteBuilder, m: Match, x: Value, weights: Value, *bias: Value) -> Outcome:
        op, pad = m.op("convolution", Conv2D), m.op("pad", Pad)
        if not _is_of_the_image(op, pad):
            return m.fail("the padding is not of height and width alone")
        return b(op.replace(pads=_total_pads(op, pad)), x, weights, *bias)


@rule("pad-into-max-pool", into="fold-pad")
class PadIntoMaxPool(Rule):
    """A max pool pads with the lowest number itself."""

    def pattern(self, p: Pattern, x: Operand) -> OpPattern:
        lowest = satisfies("the lowest number", lambda value: value <= _LOWEST)
        return p.max_pool2d(p.pad(x, name="pad", mode="constant", value=lowest), name="pool")

    def rewrite(self, b: RewriteBuilder, m: Match, x: Value) -> Outcome:
        op, pad = m.op("pool", MaxPool2D), m.op("pad", Pad)
        if not _is_of_the_image(op, pad):
            return m.fail("the padding is not of height and width alone")
        spans = [(k - 1) * d + 1 for k, d in zip(op.kernel, op.dilations, strict=True)]
        if any(p >= spans[i % 2] for i, p in enumerate(_total_pads(op, pad))):
            # Such a window would have the padding's value, which a pool does not know.
            return m.fail("a window would see nothing but padding")
        return b(op.replace(pads=_total_pads(op, pad)), x)


def _spatial_axes(op: Conv2D | MaxPool2D) -> tuple[int, int]:
    return (1, 2) if op.layout == "NHWC" else (2, 3)


def _is_of_the_image(op: Conv2D | MaxPool2D, pad: Pad) -> bool:
    """Whether nothing but height and width is padded."""
    return not any(pad.before[i] or pad.after[i] for i in range(4) if i not in _spatial_axes(op))


def _total_pads(op: Conv2D | MaxPool2D, pad: Pad) -> tuple[int, int, int, int]:
    height, width = _spatial_axes(op)
    top, left, bottom, right = op.pads
    return (
        top + pad.before[height], left + pad.before[width], bottom + pad.after[height], right + pad.after[width]
    )
