"""A rule of ``recognize``: layer normalization spelled out in reductions and elementary ops."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from qcompiler.ir import ConstantArray, Node, Tensor, TensorType, Value, scalar_of
from qcompiler.ir.dimension import SymbolicDim, static_shape
from qcompiler.ir.node import in_order
from qcompiler.ops.activation import UnaryFunction
from qcompiler.ops.binary import BinaryArithmeticOp, FloatBinaryOp
from qcompiler.ops.constant import constant_value
from qcompiler.ops.fused import evaluate_node
from qcompiler.ops.layer_norm import LayerNorm
from qcompiler.ops.reduction import Mean, ReduceSum
from qcompiler.ops.shape import Reshape
from qcompiler.rewrite import Match, Operand, OpPattern, Outcome, Pattern, RewriteBuilder, Rule, is_float, rule

Array = NDArray[np.float32]

_LARGEST = 1 << 20
"""Elements of a sample beyond which a value is not tried: each candidate is evaluated a few times."""
_LARGEST_EPSILON = 1e-2
_TOLERANCE = 1e-3
"""Spellings such as E[x^2] - E[x]^2 lose digits of float32; another function is off by far more."""


@rule("name-layer-norm", into="recognize")
@dataclass(frozen=True)
class NameLayerNorm(Rule):
    """Ops that together compute (x - mean) / sqrt(variance + epsilon) * scale + shift become layer_norm."""

    max_nodes: int = 24

    def pattern(self, p: Pattern, first: Operand, second: Operand) -> OpPattern:
        return p.op(BinaryArithmeticOp, first.where(is_float), second.where(is_float))

    def rewrite(self, b: RewriteBuilder, m: Match, first: Value, second: Value) -> Outcome:
        for nodes, source in _functions_of_one_value(m.root, self.max_nodes):
            reductions = [n for n in nodes if isinstance(n.op, Mean | ReduceSum)]
            if len(reductions) < 2 or source.type != m.root.result.type or not _is_small(source.type):
                continue
            found = _parameters(nodes, source, reductions)
            if found is not None:
                op, scale, shift = found
                layers = tuple(dict.fromkeys(name for n in nodes for name in n.loc))
                return b(op, source, b.constant(scale), b.constant(shift), loc=layers)
        return m.fail("with what comes before, it computes no layer normalization")


def _functions_of_one_value(root: Node, limit: int) -> Iterator[tuple[list[Node], Value]]:
    """Growing sets of nodes that end in ``root`` and depend on a single value, each in order, with that value.

    Inner results have no users outside the set. The set grows by the latest producer that it still depends on.
    """
    inside = {root}
    while len(inside) <= limit:
        sources = list(
            dict.fromkeys(
                v for n in inside for v in n.operands if v.producer not in inside and constant_value(v) is None
            )
        )
        if len(sources) == 1 and len(inside) > 1:
            yield in_order(inside), sources[0]
        computed = {v.producer: v for v in sources if v.producer is not None}
        if not computed:
            return
        producer = in_order(computed)[-1]
        latest = computed[producer]
        if not isinstance(producer.op, UnaryFunction | BinaryArithmeticOp | FloatBinaryOp | Mean | ReduceSum | Reshape):
            return
        # Counted first: a value with very many users would make this search quadratic.
        if len(latest.uses) > limit or any(user not in inside for user in latest.users):
            return
        inside.add(producer)


def _is_small(type: TensorType) -> bool:
    return prod(d.coefficient if isinstance(d, SymbolicDim) else d for d in type.shape) <= _LARGEST


def _parameters(
    nodes: Sequence[Node], source: Value, reductions: Sequence[Node]
) -> tuple[LayerNorm, Array, Array] | None:
    """The layer normalization that the nodes compute of ``source``, with its scale and shift; None for others."""
    over = {n.op.axes for n in reductions if isinstance(n.op, Mean | ReduceSum)}
    if len(over) != 1:
        return None
    arrays = [a for n in nodes for v in n.operands if (a := constant_value(v)) is not None and a.dtype.kind == "f"]
    epsilons = {float(a.reshape(-1)[0]) for a in arrays if a.size == 1}
    symbols = {d.symbol: 2 for d in source.type.shape if isinstance(d, SymbolicDim)}
    bound = source.type.bind(symbols)
    rng = np.random.default_rng(0)
    probes = [rng.normal(0.3, 2, static_shape(bound.shape)).astype(np.float32) for _ in range(4)]
    # Small numbers show the epsilon.
    probes.append(probes[0] * np.float32(1e-3))
    with np.errstate(all="ignore"):
        found = [_evaluate(nodes, source, bound, probe, symbols) for probe in probes]
    for epsilon in sorted(e for e in epsilons if 0 < e <= _LARGEST_EPSILON):
        op = LayerNorm(min(over), epsilon)
        normal = [op.normalized(probe) for probe in probes]
        scale = _among(arrays, _slope(normal[:4], found[:4]), 1.0)
        if scale is None:
            continue
        shift = _among(arrays, np.mean([f - n * scale for n, f in zip(normal[:4], found[:4], strict=True)], 0), 0.0)
        if shift is not None and all(
            np.allclose(f, n * scale + shift, rtol=_TOLERANCE, atol=_TOLERANCE)
            for n, f in zip(normal, found, strict=True)
        ):
            return op, scale, shift
    return None


def _slope(normal: Sequence[NDArray[np.float64]], found: Sequence[Array]) -> NDArray[np.float64]:
    """The factor, element by element, of the straight line through the probes that errs least."""
    x, y = np.asarray(normal), np.asarray(found, np.float64)
    centered = x - x.mean(0)
    return np.asarray((centered * y).sum(0) / np.square(centered).sum(0))


def _among(arrays: Sequence[Array], wanted: NDArray[np.float64], default: float) -> Array | None:
    """The constant of the model that these estimates stand for, or ``default``; None where neither fits."""
    for array in (*arrays, np.asarray(default, np.float32)):
        try:
            spread = np.broadcast_to(array, wanted.shape)
        except ValueError:
            continue
        if np.allclose(spread, wanted, rtol=_TOLERANCE, atol=_TOLERANCE):
            return np.asarray(array)
    return None


def _evaluate(
    nodes: Sequence[Node], source: Value, bound: TensorType, probe: Array, symbols: dict[str, int]
) -> Array:
    values = {source: Tensor(bound, probe)}
    for node in nodes:
        for value in node.operands:
            array = constant_value(value)
            if array is not None:
                values[value] = Tensor(TensorType(array.shape, scalar_of(array.dtype)), ConstantArray(array).array)
        evaluate_node(node, values, symbols)
    return np.asarray(values[nodes[-1].result].data)
