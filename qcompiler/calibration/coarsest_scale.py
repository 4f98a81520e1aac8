"""Result scales that would be finer than anything the operands can say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from qcompiler.ir import ConstantArray, Fact, Graph, Node, Value
from qcompiler.ops.binary import Add, Mul, Sub
from qcompiler.ops.contraction import Contraction
from qcompiler.ops.quantization import FakeQuant
from qcompiler.ops.reduction import SummingReduction

_FINEST = 2.0**-8
"""A result's scale is at least this part of the scale at which its operands combine."""


def raise_scales_that_are_too_fine(graph: Graph, groups: Mapping[int, Sequence[Node]]) -> list[Node]:
    """Raise the scale of groups whose values nearly cancel, so that their multipliers stay within hardware's range.

    A value that is near zero on all calibration data would get a scale far below the rounding error of what it is
    computed from; the multiplier up to such a scale shifts 32-bit numbers out of their format.

    Args:
        graph: a calibrated program.
        groups: its groups of fake_quant nodes, by number.

    Returns:
        The nodes whose result was coarsened.
    """
    coarsened = []
    for node in graph.nodes:
        combined = _combined_scale(node)
        mark = _held_as(node.results[0]) if combined is not None else None
        if combined is None or mark is None:
            continue
        op = mark.op
        assert isinstance(op, FakeQuant)
        if op.fixed_scale is not None or op.scale is None or float(op.scale.array.max()) >= combined * _FINEST:
            continue
        scale = ConstantArray(np.full(op.scale.shape, combined * _FINEST, np.float32))
        for member in groups[op.group]:
            assert isinstance(member.op, FakeQuant)
            member.set_op(member.op.replace(scale=scale))
        coarsened.append(node)
    return coarsened


def _combined_scale(node: Node) -> float | None:
    """The scale of the integers from which a node's result is requantized; None where nothing is requantized."""
    scales = [_scale(v) for v in node.operands[:2]]
    known = [s for s in scales if s is not None]
    if len(known) != len(scales) or not known:
        return None
    if isinstance(node.op, Contraction | Mul):
        return float(np.prod(known))
    requantizes = isinstance(node.op, Add | Sub | SummingReduction | FakeQuant) or Fact.CLAMP in node.op.facts
    return max(known) if requantizes else None


def _scale(value: Value) -> float | None:
    op = value.producer.op if value.producer else None
    return float(op.integer_scale.max()) if isinstance(op, FakeQuant) and op.scale is not None else None


def _held_as(value: Value) -> Node | None:
    """The fake_quant of a value, or of the activation behind it; a fake_quant's result is held by itself."""
    if value.producer is not None and isinstance(value.producer.op, FakeQuant):
        return value.producer
    users = value.users
    marks = [user for user in users if isinstance(user.op, FakeQuant)]
    if marks:
        return marks[0]
    if len(users) == 1 and Fact.CLAMP in users[0].op.facts:
        return _held_as(users[0].results[0])
    return None
