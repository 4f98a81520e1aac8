"""What a program costs: nodes, multiplications, bytes of constants."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from qcompiler.ir import Graph, walk
from qcompiler.ops.constant import Constant
from qcompiler.ops.fused import Fused
from qcompiler.target import is_host_node


@dataclass(frozen=True)
class Coverage:
    """How much of a program the target runs, and how much the host.

    Attributes:
        nodes: nodes without constants.
        host_nodes: those that compute on plain numbers; conversions to and from them are not counted.
        macs: multiplications of one sample.
        host_macs: those in host nodes.
    """

    nodes: int
    host_nodes: int
    macs: int
    host_macs: int


def measure_coverage(graph: Graph) -> Coverage:
    """Count nodes and multiplications, and those that run on plain numbers."""
    nodes = host = macs = host_macs = 0
    for node in graph.nodes:
        if isinstance(node.op, Constant):
            continue
        cost = node.op.multiply_accumulates([v.type for v in node.operands], [v.type for v in node.results])
        on_host = is_host_node(node)
        nodes, macs = nodes + 1, macs + cost
        host, host_macs = host + on_host, host_macs + cost * on_host
    return Coverage(nodes, host, macs, host_macs)


def count_ops(graph: Graph) -> dict[str, int]:
    """How often each op occurs, those inside fused kernels included, most frequent first.

    Constants and kernels are not ops.
    """
    counts: dict[str, int] = {}
    for node in walk(graph):
        if not isinstance(node.op, Constant | Fused):
            counts[node.op.name] = counts.get(node.op.name, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def constant_bytes(graph: Graph) -> int:
    """Bytes of all constants: weights, biases, tables, and the multipliers and shifts of arithmetic."""
    total = 0
    for node in walk(graph):
        if isinstance(node.op, Constant):
            total += node.op.value.array.size * math.ceil(node.result.type.storage.bits / 8)
            continue
        for value in node.op.attributes().values():
            arrays = value.values() if isinstance(value, Mapping) else [value]
            total += sum(getattr(getattr(a, "array", None), "nbytes", 0) for a in arrays)
    return total
