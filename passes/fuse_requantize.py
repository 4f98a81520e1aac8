"""The pass ``fuse-requantize``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qcompiler.analysis.requantization import requantize_constants
from qcompiler.ir import Affine, BlockFloat, Constants, Graph, Node, Op, Value, clone
from qcompiler.ops.block_conversion import Normalize, ToBlock
from qcompiler.ops.constant import Constant
from qcompiler.ops.contraction import Contraction
from qcompiler.ops.fused import Fused
from qcompiler.ops.quantization import Quantize, Requantize
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
    one_use,
    rule,
    rules_into,
)
from qcompiler.target import Target


@compiler_pass("fuse-requantize")
class FuseRequantize(Pass):
    """Form the kernels that hardware runs in one go.

    Two requantizes in a row become one, straight from the accumulator; ``quantize(dequantize(x))`` to the same type
    vanishes. So it is with ``normalize``, ``to_block`` and ``from_block`` of block floating point. A contraction or
    another computing op takes in what stands behind it, such as clamp and requantize, as one ``fused`` node, where
    the descriptor marks that with ``fuse``. Inner nodes keep their layers and origins.
    """

    needs = Stage.INTEGER
    takes_rules = True
    needs_target = True

    def run(self, graph: Graph, context: Context) -> PassResult:
        target = context.require_target(self.name)
        ending = FuseEnding(target)
        # First everything that changes what is fused; a kernel hides what is inside of it.
        merged = apply(graph, [rule for rule in rules_into(self.name, ending) if rule is not ending])
        fused = apply(graph, [ending])
        return PassResult(graph, merged.changed or fused.changed)


@rule("merge-requantizes", into="fuse-requantize")
class MergeRequantizes(Rule):
    """A requantize of a requantize is one, where nobody else sees the value between.

    The limits of the value between no longer apply, nor does its rounding.
    """

    def pattern(self, p: Pattern, x: Operand) -> OpPattern:
        return p.requantize(p.requantize(x).where(one_use), name="outer")

    def rewrite(self, b: RewriteBuilder, m: Match, x: Value) -> Outcome:
        op, elem = m.op("outer", Requantize), m.root.result.type.elem
        assert isinstance(elem, Affine)
        return b(op.replace(constants=Constants(requantize_constants(op.form(), x, elem))), x, elem=elem)


@rule("merge-normalizes", into="fuse-requantize")
class MergeNormalizes(Rule):
    """A normalize of a normalize is one, where nobody else sees the value between, whose rounding is saved."""

    def pattern(self, p: Pattern, x: Operand) -> OpPattern:
        return p.normalize(p.normalize(x, name="inner").where(one_use))

    def rewrite(self, b: RewriteBuilder, m: Match, x: Value) -> Outcome:
        between = m.node("inner").result.type.elem
        if not isinstance(between, BlockFloat) or between.exponents is not None:
            return m.fail("the value between is limited by its fixed exponent")
        return b(Normalize(), x, elem=m.root.result.type.elem)


@rule("merge-conversions", into="fuse-requantize")
class MergeConversions(Rule):
    """Real numbers written in one block format and then in another are written once, if nobody else sees the first."""

    def pattern(self, p: Pattern, x: Operand) -> OpPattern:
        return p.normalize(p.to_block(x, name="inner").where(one_use))

    def rewrite(self, b: RewriteBuilder, m: Match, x: Value) -> Outcome:
        between = m.node("inner").result.type.elem
        if not isinstance(between, BlockFloat) or between.exponents is not None:
            return m.fail("the value between is limited by its fixed exponent")
        return b(ToBlock(), x, elem=m.root.result.type.elem)


@rule("drop-block-round-trip", into="fuse-requantize")
class DropBlockRoundTrip(Rule):
    """Writing what was read from block floating point in the type that it had gives that value."""

    def pattern(self, p: Pattern, x: Operand) -> OpPattern:
        return p.to_block(p.from_block(x))

    def rewrite(self, b: RewriteBuilder, m: Match, x: Value) -> Outcome:
        return x if x.type == m.root.result.type else m.fail(f"the type was another: {x.type}")


@rule("drop-round-trip", into="fuse-requantize")
class DropRoundTrip(Rule):
    """Quantizing a dequantized value to the type that it had gives that value."""

    def pattern(self, p: Pattern, x: Operand) -> OpPattern:
        return p.quantize(p.dequantize(x))

    def rewrite(self, b: RewriteBuilder, m: Match, x: Value) -> Outcome:
        return x if x.type == m.root.result.type else m.fail(f"the type was another: {x.type}")


@rule("fuse-ending", into="fuse-requantize")
@dataclass(frozen=True)
class FuseEnding(Rule):
    """An op that the target runs at the end of a kernel joins the kernel of what it alone is computed from."""

    target: Target

    def pattern(self, p: Pattern, *operands: Operand) -> OpPattern:
        return p.op(Op, p.op(Op, *operands, name="kernel").where(one_use), name="ending")

    def rewrite(self, b: RewriteBuilder, m: Match, *operands: Value) -> Outcome:
        kernel, ending = m.node("kernel"), m.node("ending")
        if kernel.on_host or ending.on_host:
            return m.fail("the host runs it")
        row = self.target.row_of(ending)
        if row is None or not row.may_end(first_op(kernel)):
            return m.fail("the target runs it as a kernel of its own")
        if not _computes(kernel, self.target):
            return m.fail(f"no kernel starts with {kernel.op.name}")
        if isinstance(kernel.op, Fused):
            body, inputs = clone(kernel.op.body), operands
        else:
            body, inputs = _body_of(kernel)
        (output,) = body.outputs
        body.set_outputs([(output.name, _append(body, ending, [output.value]))])
        return b(Fused(body), *inputs)


def first_op(kernel: Node) -> str:
    """The op that a kernel begins with."""
    return next(kernel.op.body.nodes).op.name if isinstance(kernel.op, Fused) else kernel.op.name


def _computes(node: Node, target: Target) -> bool:
    """Whether a kernel may start here: an op with integers in and out that is not itself an ending."""
    if isinstance(node.op, Fused):
        return True
    row = target.row_of(node)
    if row is None or isinstance(node.op, Constant | Quantize | ToBlock) or len(node.results) != 1:
        return False
    return isinstance(node.op, Contraction) or not row.spec.fuse


def _body_of(node: Node) -> tuple[Graph, tuple[Value, ...]]:
    """A body that does what ``node`` does, and the values to call it with."""
    operands = tuple(dict.fromkeys(node.operands))
    body = Graph("body")
    inside = {v: body.add_input(str(i), v.type) for i, v in enumerate(operands)}
    body.set_outputs([("0", _append(body, node, [inside[v] for v in node.operands]))])
    return body, operands


def _append(body: Graph, node: Node, operands: Sequence[Value]) -> Value:
    """A copy of ``node`` at the end of ``body``; its result keeps type and origin."""
    copy = Node(node.op, operands, node.loc)
    copy.results = (Value(node.result.type, node.result.origin, copy),)
    return body.append(copy).result
