"""Whether the samples of a free batch stay in order, so that a batch of n is n runs one after the other."""

from __future__ import annotations

from math import prod

from qcompiler.ir import Graph, SymbolicDim, Value
from qcompiler.ir.dimension import Shape, static_shape
from qcompiler.ops.shape import Reshape


def samples_in_order(graph: Graph) -> bool:
    """Whether every output holds all of its first sample, then all of its second one, and so on.

    An axis ``c*N`` may hold rows of one sample side by side, or alternate between samples: [5,N,4] as [5*N,4] does.
    Ops treat each index of that axis by itself, so this matters only where two such values meet, and at outputs. A
    value with two free axes, [N,N] of a product of all samples with all, belongs to no sample.

    Args:
        graph: every output has its free dimension first.
    """
    before: dict[Value, int | None] = {value: 1 for value in graph.inputs if value.type.carries_batch}
    _follow(graph, before)
    return all(before.get(o.value, 1) == 1 for o in graph.outputs)


def _follow(graph: Graph, before: dict[Value, int | None]) -> None:
    """Find how often each value with a free axis goes through all samples: 1 where the rows of a sample lie side by
    side, 5 for [5*N] that was [5,N], None where samples mix along other axes."""
    for node in graph.nodes:
        body = getattr(node.op, "body", None)
        if isinstance(body, Graph):
            inside = {v: before[o] for v, o in zip(body.inputs, node.operands, strict=True) if o in before}
            _follow(body, inside)
            found = [inside.get(o.value, 1) for o in body.outputs]
        else:
            orders = {before[v] for v in node.operands if v in before}
            order = orders.pop() if len(orders) == 1 else 1 if not orders else None
            if isinstance(node.op, Reshape) and order is not None:
                order = _reshaped(order, node.operands[0].type.shape, node.result.type.shape)
            found = [order if _free_axes(v.type.shape) <= 1 else None for v in node.results]
        before.update((v, order) for v, order in zip(node.results, found, strict=True) if v.type.carries_batch)


def _reshaped(order: int, source: Shape, target: Shape) -> int | None:
    """Numbers stay where they are, so as many of them as before stand in front of a sample's first ones."""
    blocks = prod(static_shape(source[: _free_axis(source)])) * order
    axis = _free_axis(target)
    leading, free = prod(static_shape(target[:axis])), target[axis]
    assert isinstance(free, SymbolicDim)
    if not leading or not free.coefficient or blocks % leading:
        return None
    found = blocks // leading
    return found if free.coefficient % found == 0 else None


def _free_axes(shape: Shape) -> int:
    return sum(isinstance(dim, SymbolicDim) for dim in shape)


def _free_axis(shape: Shape) -> int:
    return next(i for i, dim in enumerate(shape) if isinstance(dim, SymbolicDim))
