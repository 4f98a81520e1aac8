"""What a program costs: nodes, multiplications, bytes of constants."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from qcompiler.ir import BlockFloat, ConstantArray, Graph, TensorType, walk
from qcompiler.numerics.block_format import BlockFormat
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
    """Bytes of all constants: weights, biases, tables, and the multipliers and shifts of arithmetic.

    Integers and floats take whole bytes each, and so do exponents of blocks. Mantissas and 4-bit integers lie packed.
    """
    total = 0
    for node in walk(graph):
        if isinstance(node.op, Constant):
            total += _stored_bytes(node.op, node.result.type)
            continue
        for value in node.op.attributes().values():
            arrays = value.values() if isinstance(value, Mapping) else [value]
            total += sum(a.array.nbytes for a in arrays if isinstance(a, ConstantArray))
    return total


def _stored_bytes(op: Constant, type: TensorType) -> int:
    size, elem = op.value.array.size, type.elem
    if not isinstance(elem, BlockFloat):
        return math.ceil(size / 2) if type.storage.bits == 4 else size * math.ceil(type.storage.bits / 8)
    exponents = op.exponents.array.size if op.exponents is not None else 0
    return math.ceil(size * mantissa_bits(elem.format) / 8) + exponents * math.ceil(elem.format.exponent / 8)


def mantissa_bits(block_format: BlockFormat) -> int:
    """Bits in which a mantissa is stored; those of the floating-point element of MX formats."""
    if block_format.element == "integer":
        return block_format.mantissa
    # OCP names elements by their exponent and mantissa bits, the sign aside: e4m3 has 8.
    exponent, mantissa = block_format.element[1:].split("m")
    return 1 + int(exponent) + int(mantissa)
