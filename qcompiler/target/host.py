"""Which nodes the host runs: ops on plain numbers, beside a target with ``fallback = "host"``.

The host must run what the target lacks. It may run what the target has, where that saves crossings between the two;
such a node carries the mark ``on_host``, which a program that anything else falls back in cannot have.
"""

from __future__ import annotations

from qcompiler.ir import Affine, BlockFloat, Fact, Graph, Node
from qcompiler.ops.block_conversion import FakeBlock
from qcompiler.ops.constant import Constant
from qcompiler.ops.contraction import Contraction
from qcompiler.ops.fused import Fused
from qcompiler.ops.quantization import FakeQuant
from qcompiler.target.legality import Violation, check_float_node
from qcompiler.target.target import Target

MOVED = Violation("it saves crossings", "an op that the target has")
"""Why the host runs a node that the target could run."""


def host_reason(target: Target, node: Node) -> Violation | None:
    """Why the host must run a node of a float program; None where the target can, or refuses what it lacks."""
    if target.descriptor.fallback != "host" or isinstance(node.op, Constant | FakeBlock | FakeQuant | Fused):
        return None
    return check_float_node(target, node)


def may_move_to_host(target: Target, node: Node) -> bool:
    """Whether the host may run a node that the target can run: anything but contractions, which stay on the target."""
    return target.descriptor.fallback == "host" and not isinstance(
        node.op, Constant | FakeBlock | FakeQuant | Fused | Contraction
    )


def runs_on_host(target: Target, node: Node) -> bool:
    """Whether the host runs a node of an annotated program: it must, or it was placed there."""
    return (node.on_host and may_move_to_host(target, node)) or host_reason(target, node) is not None


def is_host_node(node: Node) -> bool:
    """Whether a node computes on plain numbers: in p', whether the host runs it.

    Moving plain integers about, as indices are, is left to the target unless the node is marked.
    """
    values = (*node.operands, *node.results)
    if isinstance(node.op, Constant | Fused) or any(isinstance(v.type.elem, Affine | BlockFloat) for v in values):
        return False
    if node.on_host:
        return True
    return Fact.VALUE_PRESERVING not in node.op.facts or any(v.type.storage.is_float for v in values)


def host_nodes(target: Target, graph: Graph) -> list[tuple[Node, Violation]]:
    """The nodes of p' that the host may run and does, each with the reason, in order.

    A marked node that the target could run is among them, with the reason :data:`MOVED`, only if plain numbers link it
    to a node that the target lacks, directly or by way of other such nodes: no other move saves a crossing.
    """
    reasons: dict[Node, Violation] = {}
    for node in graph.nodes:
        reason = host_reason(target, node) if is_host_node(node) else None
        if reason is not None:
            reasons[node] = reason
    waiting = list(reasons)
    while waiting:
        node = waiting.pop()
        for other in (*(v.producer for v in node.operands), *(u for v in node.results for u in v.users)):
            if other is None or other in reasons or other is graph.terminator:
                continue
            if other.on_host and is_host_node(other) and may_move_to_host(target, other):
                reasons[other] = MOVED
                waiting.append(other)
    return [(node, reasons[node]) for node in graph.nodes if node in reasons]
