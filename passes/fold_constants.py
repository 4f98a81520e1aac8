"""The pass ``fold-constants``."""

from __future__ import annotations

import math

from qcompiler.errors import QCompilerError
from qcompiler.ir import Builder, ConstantArray, Graph, Node, OpTypeError, Tensor
from qcompiler.ir.dimension import static_shape
from qcompiler.ops.constant import Constant
from qcompiler.pipeline import Context, Pass, PassResult, compiler_pass, option


@compiler_pass("fold-constants")
class FoldConstants(Pass):
    """Compute at compile time what depends on constants alone."""

    max_bytes: int = option(1 << 28, "leave results larger than this many bytes to run time")

    def run(self, graph: Graph, context: Context) -> PassResult:
        changed = False
        for node in graph.nodes:
            if self.is_foldable(node):
                _fold(graph, node)
                changed = True
        return PassResult(graph, changed)

    def is_foldable(self, node: Node) -> bool:
        """Whether all operands are constants and the result is of acceptable size."""
        if not node.op.foldable or not node.operands:
            return False
        if not all(v.producer is not None and isinstance(v.producer.op, Constant) for v in node.operands):
            return False
        size = 0
        for value in node.results:
            if value.type.carries_batch:
                return False
            size += math.prod(static_shape(value.type.shape)) * value.type.storage.dtype.itemsize
        return size <= self.max_bytes


def _fold(graph: Graph, node: Node) -> None:
    operands = []
    for value in node.operands:
        assert value.producer is not None
        assert isinstance(value.producer.op, Constant)
        operands.append(Tensor(value.type, value.producer.op.value.array))
    try:
        arrays = node.op.evaluate(operands, [v.type for v in node.results])
    except OpTypeError as error:
        raise QCompilerError(f"{node.op.name}: {error}", layer=node.layer) from error
    builder = Builder(graph, node, node.loc)
    producers = [v.producer for v in node.operands]
    for value, array in zip(node.results, arrays, strict=True):
        constant = builder(Constant(ConstantArray.adopt(array)), elem=value.type.elem, origin=value.origin)
        value.replace_uses(constant)
    graph.erase(node)
    for producer in dict.fromkeys(producers):
        if producer is not None and not producer.result.uses:
            graph.erase(producer)
