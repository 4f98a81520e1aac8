"""Small edits that passes share; each keeps def-use links and origins true."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcompiler.ir import Builder, ConstantArray, Graph, Node, Origin, Original, Shape, Untraced, Value, scalar_of
from qcompiler.ops.constant import Constant


def replace_node(graph: Graph, node: Node, replacement: Value) -> None:
    """Let the users of ``node``'s result use an equal value instead, and erase ``node``."""
    if isinstance(replacement.origin, Untraced):
        replacement.origin = node.result.origin
    if replacement.producer is not None:
        add_locations(replacement.producer, node)
    node.result.replace_uses(replacement)
    graph.erase(node)


def add_locations(node: Node, absorbed: Node) -> None:
    """Record that ``node`` now also does the work of ``absorbed``'s layers."""
    node.loc = (*node.loc, *(name for name in absorbed.loc if name not in node.loc))


def constant_value(value: Value) -> NDArray[Any] | None:
    """The array that a value is at compile time; None for computed values."""
    producer = value.producer
    if producer is not None and isinstance(producer.op, Constant):
        return producer.op.value.array
    return None


def scalar_value(value: Value) -> float | None:
    """The only number in a constant of one element; None otherwise."""
    array = constant_value(value)
    return float(array.reshape(-1)[0]) if array is not None and array.size == 1 else None


def new_constant(builder: Builder, array: NDArray[Any], origin: Origin | None = None) -> Value:
    """A constant of plain numbers."""
    return builder(Constant(ConstantArray(array)), elem=scalar_of(array.dtype), origin=origin)


def float_constant(builder: Builder, array: NDArray[Any] | float) -> Value:
    """A float32 constant."""
    return new_constant(builder, np.asarray(array, np.float32))


def only_user(value: Value) -> Node | None:
    """The node that uses ``value`` if exactly one operand of one node does, and it is no graph output."""
    if len(value.uses) != 1:
        return None
    ((node, _),) = value.uses
    return None if node.op.name == "return" else node


def same_but_for_unit_axes(first: Shape, second: Shape) -> bool:
    """Whether two shapes differ only in axes of size 1, so that an origin holds for both."""
    return [d for d in first if d != 1] == [d for d in second if d != 1]


def adopt_origin(value: Value, reshaped: Value) -> None:
    """Let a value that stands for none of the model's stand for the one that a reshape of it stands for.

    Only where the shapes differ in axes of size 1 alone.
    """
    if (
        isinstance(value.origin, Untraced) and isinstance(reshaped.origin, Original)
        and same_but_for_unit_axes(value.type.shape, reshaped.type.shape)
    ):
        value.origin = reshaped.origin


def transposed_origin(origin: Origin, permutation: tuple[int, ...]) -> Origin:
    """The origin of ``transpose(value, permutation)``."""
    return origin.transposed(permutation) if isinstance(origin, Original) else origin
