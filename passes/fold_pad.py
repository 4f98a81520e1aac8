"""The pass ``fold-pad``."""

from __future__ import annotations

from qcompiler.analysis.rewriting import add_locations, only_user
from qcompiler.ir import Graph, Node
from qcompiler.ops.contraction import Conv2D
from qcompiler.ops.slicing import Pad
from qcompiler.pipeline import Context, Pass, PassResult, compiler_pass


@compiler_pass("fold-pad")
class FoldPad(Pass):
    """Let a convolution do the zero padding before it.

    Pools are left alone: padding never counts in them, whereas a padded zero does.
    """

    def run(self, graph: Graph, context: Context) -> PassResult:
        changed = False
        for node in graph.nodes:
            pad = node.operands[0].producer if isinstance(node.op, Conv2D) else None
            if pad is not None and isinstance(pad.op, Pad) and _is_spatial_zero_pad(pad.op, node):
                _fold(graph, node, pad)
                changed = True
        return PassResult(graph, changed)


def _spatial_axes(conv: Conv2D) -> tuple[int, int]:
    return (1, 2) if conv.layout == "NHWC" else (2, 3)


def _is_spatial_zero_pad(pad: Pad, node: Node) -> bool:
    conv = node.op
    assert isinstance(conv, Conv2D)
    spatial = _spatial_axes(conv)
    others = [i for i in range(4) if i not in spatial]
    return (
        pad.mode == "constant"
        and pad.value == 0.0
        and min(*pad.before, *pad.after) >= 0
        and all(pad.before[i] == pad.after[i] == 0 for i in others)
    )


def _fold(graph: Graph, node: Node, pad: Node) -> None:
    conv, padding = node.op, pad.op
    assert isinstance(conv, Conv2D)
    assert isinstance(padding, Pad)
    height, width = _spatial_axes(conv)
    top, left, bottom, right = conv.pads
    node.set_op(
        conv.replace(
            pads=(
                top + padding.before[height], left + padding.before[width],
                bottom + padding.after[height], right + padding.after[width],
            )
        )
    )
    single = only_user(pad.result) is node
    node.set_operand(0, pad.operands[0])
    if single:
        add_locations(node, pad)
        graph.erase(pad)
