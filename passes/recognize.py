"""The pass ``recognize``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qcompiler.ir import Graph, Node, Value
from qcompiler.ir.node import in_order
from qcompiler.ops.activation import Gelu, HardSigmoid, HardSwish, Mish, Silu, Softplus, UnaryFunction
from qcompiler.ops.binary import BinaryArithmeticOp, FloatBinaryOp, Prelu
from qcompiler.ops.constant import scalar_value
from qcompiler.passes import recognize_layer_norm  # noqa: F401 - registers its rule
from qcompiler.pipeline import Context, Pass, PassResult, Stage, compiler_pass, option
from qcompiler.rewrite import (
    Match,
    Operand,
    OpPattern,
    Outcome,
    Pattern,
    RewriteBuilder,
    Rule,
    is_float,
    rule,
    rules_into,
    sweep,
)

Real = NDArray[np.float64]

KNOWN: tuple[UnaryFunction, ...] = (
    Silu(), HardSwish(), Gelu("none"), Gelu("tanh"), HardSigmoid(1 / 6, 0.5), HardSigmoid(0.2, 0.5), Softplus(),
    Mish(),
)
"""The functions that models spell out in elementary ops."""

_INNER_PROBES: Real = np.linspace(-9, 9, 145)
# Far out, too: a clamp at 65504 behind an activation is part of the function.
_PROBES: Real = np.concatenate(
    [_INNER_PROBES, [1e-3, -1e-3, 40.0, -40.0], [s * 10.0**k for k in range(2, 39) for s in (-1, 1)]]
)


@compiler_pass("recognize")
class Recognize(Pass):
    """Name activation functions and layer normalizations that a model spells out in elementary ops.

    Nodes that together compute a function of one tensor, everything else being constant numbers, are evaluated on
    probe points. Where the values agree with silu, hard swish, gelu (erf or tanh form), hard sigmoid, softplus or
    mish to 1e-6, one node of that op replaces them: however the model ordered its multiplications. Layer
    normalizations are found in the same way, by what they compute of random numbers.
    """

    needs = Stage.FLOAT
    takes_rules = True

    max_nodes: int = option(12, "largest number of nodes that one function may consist of", minimum=1)

    def run(self, graph: Graph, context: Context) -> PassResult:
        # Backwards, so that the longest spelling of a function is seen before its parts.
        return sweep(graph, rules_into(self.name, NameFunction(self.max_nodes)), reverse=True)


@rule("name-function", into="recognize")
@dataclass(frozen=True)
class NameFunction(Rule):
    """Elementary ops that together compute a known function become that function."""

    max_nodes: int = 12

    def pattern(self, p: Pattern, *operands: Operand) -> OpPattern:
        # Integers are rounded at each step, so the whole is another function.
        return p.op((UnaryFunction, BinaryArithmeticOp, FloatBinaryOp), *(o.where(is_float) for o in operands))

    def rewrite(self, b: RewriteBuilder, m: Match, *operands: Value) -> Outcome:
        for nodes, source in _functions_of_one_value(m.root, self.max_nodes):
            values = _evaluate(nodes, source, _PROBES)
            for function in KNOWN:
                with np.errstate(all="ignore"):
                    expected = function.real(_PROBES)
                if source.type == m.root.result.type and _agree(values, expected):
                    return b(function, source, loc=tuple(dict.fromkeys(name for n in nodes for name in n.loc)))
        return m.fail("with what comes before, it computes no function that has a name")


def _functions_of_one_value(root: Node, limit: int) -> Iterator[tuple[list[Node], Value]]:
    """Growing sets of nodes that end in ``root`` and depend on a single value, each in order, with that value.

    Inner results have no users outside the set. The set grows by the latest producer that it still depends on, so
    that it never passes a value from which everything else in it is computed.
    """
    if not _is_elementary(root):
        return
    inside = {root}
    while len(inside) <= limit:
        sources = list(
            dict.fromkeys(
                v for n in inside for v in n.operands if scalar_value(v) is None and v.producer not in inside
            )
        )
        if len(sources) == 1 and len(inside) > 1:
            yield in_order(inside), sources[0]
        computed = {v.producer: v for v in sources if v.producer is not None}
        if not computed:
            return
        producer = in_order(computed)[-1]
        latest = computed[producer]
        if not _is_elementary(producer):
            return
        # Counted first: a value with very many users would make this search quadratic.
        if len(latest.uses) > 2 * limit or any(user not in inside for user in latest.users):
            return
        inside.add(producer)


def _agree(values: Real, expected: Real) -> bool:
    """Whether two functions have the same values; where float64 overflows far out, they need not."""
    finite = np.isfinite(values)
    inner = len(_INNER_PROBES)
    return bool(finite[:inner].all()) and np.allclose(values[finite], expected[finite], rtol=1e-6, atol=1e-6)


def _is_elementary(node: Node) -> bool:
    return isinstance(node.op, UnaryFunction | BinaryArithmeticOp | FloatBinaryOp) and not isinstance(node.op, Prelu)


def _evaluate(nodes: list[Node], source: Value, points: Real) -> Real:
    """The function's values in float64."""
    values: dict[Value, Real] = {source: points}
    with np.errstate(all="ignore"):
        for node in nodes:
            operands = []
            for value in node.operands:
                scalar = scalar_value(value)
                operands.append(values[value] if scalar is None else np.float64(scalar))
            if isinstance(node.op, UnaryFunction):
                values[node.result] = node.op.real(np.asarray(operands[0]))
            else:
                assert isinstance(node.op, BinaryArithmeticOp | FloatBinaryOp)
                values[node.result] = node.op.ufunc(*operands)
    return values[nodes[-1].result]
