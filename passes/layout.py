"""The pass ``layout``."""

from __future__ import annotations

from typing import Any

from qcompiler.ir import Builder, Fact, Graph, Node, Op, Value
from qcompiler.ops.constant import constant_value
from qcompiler.ops.contraction import Conv2DBase
from qcompiler.ops.normalization import Softmax
from qcompiler.ops.pooling import Pool2D
from qcompiler.ops.reduction import ArgMax, Reduction
from qcompiler.ops.resize import Resize
from qcompiler.ops.shape import Concat, Expand, Reshape, Transpose
from qcompiler.ops.slicing import Pad, Slice, Split
from qcompiler.passes import canonicalize_movement  # noqa: F401 - registers merge-transposes before the rules here
from qcompiler.pipeline import Context, Pass, PassResult, Stage, compiler_pass
from qcompiler.rewrite import Match, Operand, OpPattern, Outcome, Pattern, RewriteBuilder, Rule, rule, rules_into, sweep

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

    needs = Stage.FLOAT
    takes_rules = True
    needs_target = True

    def run(self, graph: Graph, context: Context) -> PassResult:
        if context.require_target(self.name).descriptor.layout != "NHWC":
            return PassResult(graph, False)
        # One sweep: where half of the operands are transposed, sinking would go back and forth for ever.
        return sweep(graph, rules_into(self.name))


@rule("to-channels-last", into="layout")
class ToChannelsLast(Rule):
    """A channels-first convolution or pool is a channels-last one between two transposes."""

    def pattern(self, p: Pattern, image: Operand, *others: Operand) -> OpPattern:
        return p.op((Conv2DBase, Pool2D), image, *others, layout="NCHW")

    def rewrite(self, b: RewriteBuilder, m: Match, image: Value, *others: Value) -> Outcome:
        op, origin = m.root.op, m.root.result.origin
        operands = [_transposed(b, image, TO_CHANNELS_LAST), *others]
        if isinstance(op, Conv2DBase):
            operands[1] = _transposed(b, operands[1], TO_CHANNELS_LAST)
        result = b(op.replace(layout="NHWC"), *operands, origin=origin.transposed(TO_CHANNELS_LAST))
        return b(Transpose(TO_CHANNELS_FIRST), result)


@rule("sink-transpose", into="layout")
class SinkTranspose(Rule):
    """op(transpose(x), ...) is transpose(op'(x, ...)): where at least half of the computed operands are transposed."""

    def pattern(self, p: Pattern, *operands: Operand) -> OpPattern:
        return p.op(Op, *operands)

    def rewrite(self, b: RewriteBuilder, m: Match, *operands: Value) -> Outcome:
        node = m.root
        permutation = _common_permutation(node)
        if permutation is None:
            return m.fail("fewer than half of the operands are transposed alike")
        op = _permuted_op(node.op, permutation)
        if op is None:
            return m.fail("the op does not apply in another order of axes")
        moved = b.create(op, [_before_transpose(b, value, permutation) for value in operands])
        after = _result_permutation(node.op, permutation)
        results = []
        for old, new in zip(node.results, moved.results, strict=True):
            new.origin = old.origin.transposed(inverse(after))
            unmoved = after == tuple(range(len(after)))
            results.append(new if unmoved else b(Transpose(after), new, origin=old.origin))
        return results


def _before_transpose(builder: Builder, value: Value, permutation: Permutation) -> Value:
    """``value`` with the axes that it has before ``permutation`` is applied."""
    rank = len(permutation)
    if value.type.rank == 0:
        return value
    if value.type.rank < rank:
        # No axis of the original stands behind the new ones, so the result has no origin of its own.
        value = builder(Reshape((1,) * (rank - value.type.rank) + value.type.shape), value)
    return _transposed(builder, value, inverse(permutation))


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
    return builder(Transpose(permutation), value, origin=value.origin.transposed(permutation))


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
