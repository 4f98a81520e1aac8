"""The pass ``fold-constants``."""

from __future__ import annotations

import math
from dataclasses import dataclass

from qcompiler.errors import QCompilerError
from qcompiler.ir import Graph, Op, OpTypeError, Value
from qcompiler.ir.dimension import static_shape
from qcompiler.ops.constant import Constant, constant_tensor
from qcompiler.pipeline import Context, Pass, PassResult, compiler_pass, option
from qcompiler.rewrite import (
    Match,
    Operand,
    OpPattern,
    Outcome,
    Pattern,
    RewriteBuilder,
    Rule,
    apply,
    is_constant,
    rule,
    rules_into,
)


@compiler_pass("fold-constants")
class FoldConstants(Pass):
    """Compute at compile time what depends on constants alone."""

    takes_rules = True

    max_bytes: int = option(1 << 28, "leave results larger than this many bytes to run time", minimum=0)

    def run(self, graph: Graph, context: Context) -> PassResult:
        return apply(graph, rules_into(self.name, FoldConstantOperands(self.max_bytes)))


@rule("fold-constant-operands", into="fold-constants")
@dataclass(frozen=True)
class FoldConstantOperands(Rule):
    """An op of constants is a constant."""

    max_bytes: int = 1 << 28

    def pattern(self, p: Pattern, *operands: Operand) -> OpPattern:
        return p.op(Op, *(operand.where(is_constant) for operand in operands))

    def rewrite(self, b: RewriteBuilder, m: Match, *operands: Value) -> Outcome:
        node = m.root
        if not node.op.foldable:
            return m.fail("the op stays")
        if any(value.type.carries_batch for value in node.results):
            return m.fail("the result has a free dimension")
        if sum(_bytes(value) for value in node.results) > self.max_bytes:
            return m.fail(f"the result has more than {self.max_bytes} bytes")
        tensors = [tensor for v in operands if (tensor := constant_tensor(v)) is not None]
        try:
            computed = node.op.compute(tensors, [v.type for v in node.results])
        except OpTypeError as error:
            raise QCompilerError(f"{node.op.name}: {error}", layer=node.layer) from error
        return [
            b(Constant.of(stored), elem=value.type.elem, loc=node.loc)
            for value, stored in zip(node.results, computed, strict=True)
        ]


def _bytes(value: Value) -> int:
    return math.prod(static_shape(value.type.shape)) * value.type.storage.dtype.itemsize
