"""The pass ``fold-pad``."""

from __future__ import annotations

import numpy as np

from qcompiler.analysis.rewriting import add_locations, only_user
from qcompiler.ir import Graph, Node
from qcompiler.ops.contraction import Conv2D
from qcompiler.ops.pooling import MaxPool2D
from qcompiler.ops.slicing import Pad
from qcompiler.pipeline import Context, Pass, PassResult, compiler_pass

_LOWEST = float(np.finfo(np.float32).min)


@compiler_pass("fold-pad")
class FoldPad(Pass):
    """Let a convolution do the zero padding before it, and a max pool the padding with the lowest number.

    Padding never counts in a max pool, so only what no element can be smaller than becomes padding of the pool.
    """

    def run(self, graph: Graph, context: Context) -> PassResult:
        changed = False
        for node in graph.nodes:
            pad = node.operands[0].producer if isinstance(node.op, Conv2D | MaxPool2D) else None
            if pad is not None and isinstance(pad.op, Pad) and _is_foldable(pad.op, node):
                _fold(graph, node, pad)
                changed = True
        return PassResult(graph, changed)


def _spatial_axes(op: Conv2D | MaxPool2D) -> tuple[int, int]:
    return (1, 2) if op.layout == "NHWC" else (2, 3)


def _is_foldable(pad: Pad, node: Node) -> bool:
    op = node.op
    assert isinstance(op, Conv2D | MaxPool2D)
    spatial = _spatial_axes(op)
    if pad.mode != "constant" or min(*pad.before, *pad.after) < 0:
        return False
    if any(pad.before[i] or pad.after[i] for i in range(4) if i not in spatial):
        return False
    if isinstance(op, Conv2D):
        return pad.value == 0.0
    # A window that saw nothing but padding would have the padding's value, which a pool does not know.
    spans = [(k - 1) * d + 1 for k, d in zip(op.kernel, op.dilations, strict=True)]
    return pad.value <= _LOWEST and all(p < spans[i % 2] for i, p in enumerate(_total_pads(op, pad)))


def _total_pads(op: Conv2D | MaxPool2D, pad: Pad) -> tuple[int, int, int, int]:
    height, width = _spatial_axes(op)
    top, left, bottom, right = op.pads
    return (
        top + pad.before[height], left + pad.before[width], bottom + pad.after[height], right + pad.after[width]
    )


def _fold(graph: Graph, node: Node, pad: Node) -> None:
    assert isinstance(node.op, Conv2D | MaxPool2D)
    assert isinstance(pad.op, Pad)
    node.set_op(node.op.replace(pads=_total_pads(node.op, pad.op)))
    single = only_user(pad.result) is node
    node.set_operand(0, pad.operands[0])
    if single:
        add_locations(node, pad)
        graph.erase(pad)
