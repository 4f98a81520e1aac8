"""Passes that spoil programs of block floating point, one layer each."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcompiler.ir import BlockFloat, Builder, ConstantArray, Fact, Graph, Node, Original, Value, walk
from qcompiler.ir.types import TensorType
from qcompiler.numerics.block_format import BlockFormat
from qcompiler.ops.block_conversion import FakeBlock, Normalize, ToBlock
from qcompiler.ops.constant import Constant
from qcompiler.ops.contraction import Contraction

Array = NDArray[Any]
Rng = np.random.Generator


@dataclass(frozen=True)
class Spoiled:
    """What a sabotage did: the layers of the node that it spoiled, and the first original value behind it."""

    layers: tuple[str, ...]
    value: str


Spoil = Callable[[Graph, Rng], Spoiled]


def spoiled_at(node: Node) -> Spoiled:
    value = node.result
    while not isinstance(value.origin, Original):
        (user,) = value.users
        value = user.result
    return Spoiled(node.loc, value.origin.name)


def pick(nodes: list[Node], rng: Rng) -> Node:
    assert nodes
    return nodes[rng.integers(len(nodes))]


def inner_nodes(node: Node) -> list[Node]:
    """The nodes of a kernel; of other nodes the node itself."""
    body = getattr(node.op, "body", None)
    return list(body.nodes) if isinstance(body, Graph) else [node]


def weights_of(graph: Graph, rng: Rng) -> tuple[Node, Node]:
    """A random contraction and the constant that holds its weights."""
    found = []
    for outer in graph.nodes:
        body = getattr(outer.op, "body", None)
        for node in inner_nodes(outer):
            if isinstance(node.op, Contraction):
                weights = node.operands[1]
                if isinstance(body, Graph):
                    weights = outer.operands[body.inputs.index(weights)]
                if weights.producer is not None and isinstance(weights.producer.op, FakeBlock):
                    weights = weights.producer.operands[0]
                if weights.producer is not None and isinstance(weights.producer.op, Constant):
                    found.append((node, weights.producer))
    assert found
    return found[rng.integers(len(found))]


def swap_channels(graph: Graph, rng: Rng) -> Spoiled:
    node, constant = weights_of(graph, rng)
    assert isinstance(node.op, Contraction)
    assert isinstance(constant.op, Constant)
    weights = constant.op.value.array.copy()
    channels = np.moveaxis(weights, node.op.weight_channel_axis(weights.ndim), 0)
    first, second = rng.choice(len(channels), 2, replace=False)
    channels[[first, second]] = channels[[second, first]]
    constant.set_op(constant.op.replace(value=ConstantArray(weights)))
    return spoiled_at(node)


def shift_weights(graph: Graph, rng: Rng) -> Spoiled:
    """Weights at exponents that are one too large."""
    node, constant = weights_of(graph, rng)
    assert isinstance(constant.op, Constant)
    assert constant.op.exponents is not None
    constant.set_op(constant.op.replace(exponents=ConstantArray(constant.op.exponents.array + np.int32(1))))
    return spoiled_at(node)


def coarse_normalize(graph: Graph, rng: Rng) -> Spoiled:
    """A normalize that rounds to two bits less, whose result is read as if nothing had happened."""
    return change_format(graph, rng, lambda f: dataclasses.replace(f, mantissa=f.mantissa - 2))


def other_rounding(graph: Graph, rng: Rng) -> Spoiled:
    """Every mantissa rounded down."""
    return change_format(graph, rng, lambda f: dataclasses.replace(f, rounding="floor"))


def change_format(graph: Graph, rng: Rng, change: Callable[[BlockFormat], BlockFormat]) -> Spoiled:
    """Convert to another format at one place, and back from it exactly."""
    node = pick(conversions(graph), rng)
    elem = node.result.type.elem
    assert isinstance(elem, BlockFloat)
    assert node.graph is not None
    result = node.result
    spoiled = spoiled_at(node)
    behind = Builder(node.graph, node.next or node.graph.terminator, node.loc)
    again = behind(Normalize(), result, elem=elem, origin=result.origin)
    for user, index in list(result.uses):
        if user is not again.producer:
            user.set_operand(index, again)
    result.type = TensorType(result.type.shape, dataclasses.replace(elem, format=change(elem.format)))
    return spoiled


def conversions(graph: Graph) -> list[Node]:
    """Nodes that round what a contraction gives to the format in which values are held."""
    return [n for n in walk(graph) if isinstance(n.op, Normalize | ToBlock) and is_product(n.operands[0])]


def is_product(value: Value) -> bool:
    """Whether a contraction gives the value, or what an activation limits to it."""
    node = value.producer
    if node is None or isinstance(node.op, Contraction):
        return node is not None
    return Fact.CLAMP in node.op.facts and is_product(node.operands[0])


def coarse_mark(graph: Graph, rng: Rng) -> Spoiled:
    marks = [
        n for n in graph.nodes if isinstance(n.op, FakeBlock) and n.loc and n.operands[0].producer is not None
        and not isinstance(n.operands[0].producer.op, Constant)
    ]
    node = pick(marks, rng)
    assert isinstance(node.op, FakeBlock)
    elem = node.op.held.elem
    assert isinstance(elem, BlockFloat)
    narrow = dataclasses.replace(elem, format=dataclasses.replace(elem.format, mantissa=elem.format.mantissa - 3))
    node.set_op(dataclasses.replace(node.op, held=TensorType(node.op.held.shape, narrow)))
    return spoiled_at(node)
