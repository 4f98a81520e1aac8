"""Rules that spell an op out in others; a descriptor lists those that ``legalize`` may use."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from qcompiler.analysis.rewriting import constant_value, float_constant
from qcompiler.errors import QCompilerError
from qcompiler.ir import Builder, Node, Value
from qcompiler.ops.activation import Clip, Reciprocal, Relu
from qcompiler.ops.binary import Add, Mul
from qcompiler.ops.normalization import Softmax
from qcompiler.ops.shape import Transpose

Build = Callable[[Builder, Node], Value | None]


@dataclass(frozen=True)
class Decomposition:
    """A way to compute an op by others.

    Attributes:
        name: what a descriptor cites.
        op: the op that it replaces.
        build: creates the replacement; None where the rule does not apply to this node.
        doc: one sentence for the reference.
    """

    name: str
    op: str
    build: Build
    doc: str


DECOMPOSITIONS: dict[str, Decomposition] = {}


def decomposition(name: str, op: str) -> Callable[[Build], Build]:
    """Register a function as a decomposition; its docstring is the reference entry.

    Raises:
        ValueError: the name is taken.
    """

    def register(build: Build) -> Build:
        if name in DECOMPOSITIONS:
            raise ValueError(f"decomposition {name!r} is defined twice")
        DECOMPOSITIONS[name] = Decomposition(name, op, build, (build.__doc__ or "").strip())
        return build

    return register


@decomposition("prelu-to-relu", "prelu")
def _prelu(builder: Builder, node: Node) -> Value:
    """prelu(x, slope) = relu(x) + slope * clip(x, -inf, 0)."""
    x, slope = node.operands
    negative = builder(Clip(-math.inf, 0.0), x)
    return builder(Add(), builder(Relu(), x), builder(Mul(), negative, slope))


@decomposition("divide-to-multiply", "div")
def _divide(builder: Builder, node: Node) -> Value:
    """a / b = a * (1 / b)."""
    dividend, divisor = node.operands
    array = constant_value(divisor)
    if array is None:
        return builder(Mul(), dividend, builder(Reciprocal(), divisor))
    with np.errstate(all="ignore"):
        inverse = (1.0 / array.astype(np.float64)).astype(np.float32)
    if not np.isfinite(inverse).all():
        raise QCompilerError(
            "divides by a constant whose inverse float32 cannot hold", layer=node.layer,
            expected="divisors away from 0", found=f"a divisor of {float(array[~np.isfinite(inverse)][0])!r}",
        )
    return builder(Mul(), dividend, float_constant(builder, inverse))


@decomposition("softmax-last-axis", "softmax")
def _softmax(builder: Builder, node: Node) -> Value | None:
    """softmax along another axis = transpose, softmax along the last axis, transpose."""
    op, x = node.op, node.operands[0]
    assert isinstance(op, Softmax)
    rank = x.type.rank
    axis = op.axis % rank
    if axis == rank - 1:
        return None
    swap = tuple({axis: rank - 1, rank - 1: axis}.get(i, i) for i in range(rank))
    last = builder(Softmax(-1), builder(Transpose(swap), x))
    return builder(Transpose(swap), last)
