"""The pass ``fuse-requantize``."""

from __future__ import annotations

from qcompiler.analysis.requantization import requantize_constants
from qcompiler.analysis.rewriting import add_locations, only_user
from qcompiler.ir import Affine, Builder, Constants, Graph, Node, Value
from qcompiler.ops.constant import Constant
from qcompiler.ops.contraction import Contraction
from qcompiler.ops.fused import Fused
from qcompiler.ops.quantization import Quantize, Requantize
from qcompiler.pipeline import Context, Pass, PassResult, compiler_pass
from qcompiler.target import Target


@compiler_pass("fuse-requantize")
class FuseRequantize(Pass):
    """Form the kernels that hardware runs in one go.

    Two requantizes in a row become one, straight from the accumulator; ``quantize(dequantize(x))`` to the same type
    vanishes; a contraction or another computing op takes in the requantize and clamp behind it as one ``fused`` node,
    where the descriptor marks them with ``fuse``. Inner nodes keep their layers and origins.
    """

    def run(self, graph: Graph, context: Context) -> PassResult:
        target = context.require_target(self.name)
        changed = False
        for node in graph.nodes:
            if isinstance(node.op, Requantize):
                changed |= _merge_requantizes(graph, node)
            elif isinstance(node.op, Quantize):
                changed |= _drop_round_trip(graph, node)
        for node in graph.nodes:
            chain = _kernel(node, target)
            if len(chain) > 1:
                _fuse(graph, chain)
                changed = True
        return PassResult(graph, changed)


def _merge_requantizes(graph: Graph, node: Node) -> bool:
    """requantize(requantize(x)) where nobody else sees the value between.

    The limits of the value between no longer apply, nor does its rounding.
    """
    inner = node.operands[0].producer
    if inner is None or not isinstance(inner.op, Requantize) or only_user(inner.result) is not node:
        return False
    assert isinstance(node.op, Requantize)
    source = inner.operands[0]
    elem = node.result.type.elem
    form = node.op.form()
    assert isinstance(elem, Affine)
    add_locations(node, inner)
    node.set_operand(0, source)
    node.set_op(node.op.replace(constants=Constants(requantize_constants(form, source, elem))))
    graph.erase(inner)
    return True


def _drop_round_trip(graph: Graph, node: Node) -> bool:
    """quantize(dequantize(x)) back to the type of x."""
    inner = node.operands[0].producer
    if inner is None or inner.op.name != "dequantize" or inner.operands[0].type != node.result.type:
        return False
    node.result.replace_uses(inner.operands[0])
    graph.erase(node)
    return True


def _kernel(node: Node, target: Target) -> list[Node]:
    """The node with the ops behind it that may run in the same kernel."""
    if not _computes(node, target):
        return []
    chain = [node]
    while True:
        user = only_user(chain[-1].result)
        row = target.rows.get(user.op.name) if user else None
        if user is None or row is None or not row.spec.fuse or len(user.operands) != 1:
            return chain
        chain.append(user)


def _computes(node: Node, target: Target) -> bool:
    """Whether a kernel may start here: an op with integers in and out that is not itself an ending."""
    row = target.rows.get(node.op.name)
    if row is None or isinstance(node.op, Constant | Quantize | Fused) or len(node.results) != 1:
        return False
    return isinstance(node.op, Contraction) or not row.spec.fuse


def _fuse(graph: Graph, chain: list[Node]) -> None:
    """One fused node instead of ``chain``, in place of its last node."""
    last = chain[-1]
    operands: list[Value] = list(dict.fromkeys(v for n in chain[:1] for v in n.operands))
    body = Graph("body")
    inside = {v: body.add_input(str(i), v.type) for i, v in enumerate(operands)}
    for node in chain:
        copy = Node(node.op, [inside[v] for v in node.operands], node.loc)
        copy.results = tuple(Value(v.type, v.origin, copy) for v in node.results)
        body.append(copy)
        inside.update(zip(node.results, copy.results, strict=True))
    body.set_outputs([("0", inside[last.result])])
    loc = tuple(dict.fromkeys(name for n in chain for name in n.loc))
    kernel = Builder(graph, last, loc)(Fused(body), *operands, origin=last.result.origin)
    last.result.replace_uses(kernel)
    for node in reversed(chain):
        graph.erase(node)
