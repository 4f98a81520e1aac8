"""The pass ``layout``."""

from __future__ import annotations

from typing import Any

from qcompiler.analysis.rewriting import constant_value, replace_node, transposed_origin
from qcompiler.ir import Builder, Fact, Graph, Node, Op, Value
from qcompiler.ops.contraction import Conv2DBase
from qcompiler.ops.normalization import Softmax
from qcompiler.ops.pooling import Pool2D
from qcompiler.ops.reduction import ArgMax, Reduction
from qcompiler.ops.resize import Resize
from qcompiler.ops.shape import Concat, Expand, Reshape, Transpose
from qcompiler.ops.slicing import Pad, Slice, Split
from qcompiler.pipeline import Context, Pass, PassResult, compiler_pass

Permutation = tuple[int, ...]

TO_CHANNELS_LAST: Permutation = (0, 2, 3, 1)
TO_CHANNELS_FIRST: Permutation = (0, 3, 1, 2)


@compiler_pass("layout")
class Layout(Pass):
    """Bring images to channels-last where the target asks for it.

    Convolutions and pools are rewritten between two transposes; the transposes then move down through ops that do
    not care about the order of axes, until they meet their inverse. The program's inputs and outputs keep their
    layout.
    """

    def run(self, graph: Graph, context: Context) -> PassResult:
        if context.require_target(self.name).descriptor.layout != "NHWC":
            return PassResult(graph, False)
        changed = False
        for node in graph.nodes:
            if isinstance(node.op, Conv2DBase | Pool2D) and node.op.layout == "NCHW":
                _to_channels_last(graph, node)
                changed = True
            elif isinstance(node.op, Transpose):
                changed |= _merge(graph, node)
            else:
                changed |= _sink(graph, node)
        return PassResult(graph, changed)


def inverse(permutation: Permutation) -> Permutation:
    """The permutation that undoes ``permutation``."""
    return tuple(sorted(range(len(permutation)), key=permutation.__getitem__))


def _transposed(builder: Builder, value: Value, permutation: Permutation) -> Value:
    """``transpose(value, permutation)``, taken apart where ``value`` is a transpose already."""
    producer = value.producer
    if producer is not None and isinstance(producer.op, Transpose):
        value = producer.operands[0]
        permutation = tuple(producer.op.permutation[p] for p in permutation)
    if permutation == tuple(range(len(permutation))):
        return value
    return builder(Transpose(permutation), value, origin=transposed_origin(value.origin, permutation))


def _to_channels_last(graph: Graph, node: Node) -> None:
    builder = Builder(graph, node, node.loc)
    operands = [_transposed(builder, node.operands[0], TO_CHANNELS_LAST), *node.operands[1:]]
    if isinstance(node.op, Conv2DBase):
        operands[1] = _transposed(builder, node.operands[1], TO_CHANNELS_LAST)
    result = builder(
        node.op.replace(layout="NHWC"), *operands, origin=transposed_origin(node.result.origin, TO_CHANNELS_LAST)
    )
    replace_node(graph, node, builder(Transpose(TO_CHANNELS_FIRST), result, origin=node.result.origin))


def _merge(graph: Graph, node: Node) -> bool:
    """transpose(transpose(x))."""
    producer = node.operands[0].producer
    if producer is None or not isinstance(producer.op, Transpose):
        return False
    assert isinstance(node.op, Transpose)
    replace_node(graph, node, _transposed(Builder(graph, node, node.loc), node.operands[0], node.op.permutation))
    return True


def _sink(graph: Graph, node: Node) -> bool:
    """op(transpose(x), ...) becomes transpose(op'(x, ...)) where at least half of the operands are transposed."""
    permutation = _common_permutation(node)
    if permutation is None:
        return False
    op = _permuted_op(node.op, permutation)
    if op is None:
        return False
    rank = len(permutation)
    back = inverse(permutation)
    builder = Builder(graph, node, node.loc)
    operands = []
    for value in node.operands:
        if value.type.rank == 0:
            operands.append(value)
            continue
        if value.type.rank < rank:
            # No axis of the original stands behind the new ones, so the result has no origin of its own.
            value = builder(Reshape((1,) * (rank - value.type.rank) + value.type.shape), value)
        operands.append(_transposed(builder, value, back))
    moved = builder.create(op, operands)
    after = _result_permutation(node.op, permutation)
    for old, new in zip(node.results, moved.results, strict=True):
        new.origin = transposed_origin(old.origin, inverse(after))
        if after == tuple(range(len(after))):
            old.replace_uses(new)
        else:
            old.replace_uses(builder(Transpose(after), new, origin=old.origin))
    graph.erase(node)
    return True


def _common_permutation(node: Node) -> Permutation | None:
    """The permutation by which most computed operands were transposed; None where most were not."""
    counts: dict[Permutation | None, int] = {}
    for value in node.operands:
        if constant_value(value) is None:
            producer = value.producer
            is_transpose = producer is not None and isinstance(producer.op, Transpose)
            found = producer.op.permutation if is_transpose else None  # type: ignore[union-attr]
            counts[found] = counts.get(found, 0) + 1
    transposes = {p: n for p, n in counts.items() if p is not None}
    if not transposes:
        return None
    best = max(transposes, key=transposes.__getitem__)
    if 2 * transposes[best] < sum(counts.values()) or any(v.type.rank > len(best) for v in node.operands):
        return None
    return best


def _permuted_op(op: Op, permutation: Permutation) -> Op | None:
    """``op`` with its axes renamed, so that it applies before the transpose; None where it cannot."""
    changes: dict[str, Any]
    back = inverse(permutation)
    if isinstance(op, Pad):
        changes = {"before": tuple(op.before[b] for b in back), "after": tuple(op.after[b] for b in back)}
    elif isinstance(op, Slice):
        order = sorted(range(len(op.axes)), key=lambda i: permutation[op.axes[i]])
        changes = {"axes": tuple(permutation[op.axes[i]] for i in order)}
        changes.update({k: tuple(getattr(op, k)[i] for i in order) for k in ("starts", "ends", "steps")})
    elif isinstance(op, Concat | Split | Softmax | ArgMax):
        if isinstance(op, ArgMax) and not op.keepdims:
            return None
        changes = {"axis": permutation[op.axis % len(permutation)]}
    elif isinstance(op, Reduction):
        changes = {"axes": tuple(sorted(permutation[a] for a in op.axes))}
    elif isinstance(op, Resize):
        axes = tuple(permutation[a] for a in op.axes)
        if axes[1] != axes[0] + 1:
            return None
        changes = {"axes": axes}
    elif isinstance(op, Expand):
        if len(op.shape) != len(permutation):
            return None
        changes = {"shape": tuple(op.shape[b] for b in back)}
    elif Fact.ELEMENTWISE in op.facts:
        return op
    else:
        return None
    return op.replace(**changes)  # type: ignore[no-any-return]


def _result_permutation(op: Op, permutation: Permutation) -> Permutation:
    """The permutation that remains behind the op: that of the axes which its result still has."""
    if not isinstance(op, Reduction) or op.keepdims:
        return permutation
    gone = {permutation[a] for a in op.axes}
    kept = [p for i, p in enumerate(permutation) if i not in op.axes]
    rank_after = {axis: index for index, axis in enumerate(a for a in range(len(permutation)) if a not in gone)}
    return tuple(rank_after[p] for p in kept)
