"""Which nodes the host runs: what a target with ``fallback = "host"`` lacks stays an op on plain numbers.

Nothing marks such a node. In a float program it is one that the target cannot run; in p' it is one that has no
quantized value, and that the target could not have run on quantized values.
"""

from __future__ import annotations

from qcompiler.ir import Affine, BlockFloat, Fact, Graph, Node
from qcompiler.ops.block_conversion import FakeBlock
from qcompiler.ops.constant import Constant
from qcompiler.ops.fused import Fused
from qcompiler.ops.quantization import FakeQuant
from qcompiler.target.legality import Violation, check_float_node
from qcompiler.target.target import Target


def host_reason(target: Target, node: Node) -> Violation | None:
    """Why the host runs a node of a float program; None where the target runs it, or refuses what it lacks."""
    if target.descriptor.fallback != "host" or isinstance(node.op, Constant | FakeBlock | FakeQuant | Fused):
        return None
    return check_float_node(target, node)


def is_host_node(node: Node) -> bool:
    """Whether a node computes on plain numbers: in p', whether the host runs it.

    Moving plain integers about, as indices are, is left to the target.
    """
    values = (*node.operands, *node.results)
    if isinstance(node.op, Constant | Fused) or any(isinstance(v.type.elem, Affine | BlockFloat) for v in values):
        return False
    return Fact.VALUE_PRESERVING not in node.op.facts or any(v.type.storage.is_float for v in values)


def host_nodes(target: Target, graph: Graph) -> list[tuple[Node, Violation]]:
    """The nodes of p' that the host runs, each with the reason, in order."""
    reasons = ((node, host_reason(target, node)) for node in graph.nodes if is_host_node(node))
    return [(node, reason) for node, reason in reasons if reason is not None]
