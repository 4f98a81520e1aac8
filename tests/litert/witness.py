"""One op of ours against one operator of LiteRT: programs, tie-rich parameters, exact comparison."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import OpResolverType
from numpy.typing import NDArray

from litert.tflite_model import Operator, Tensor, run_model, variable, write_model
from qcompiler import numerics, ops
from qcompiler.backends import reference
from qcompiler.ir import Affine, Arithmetic, Builder, Constants, Graph, Op, TensorType, Value, verify
from qcompiler.ir.builder import infer_types
from qcompiler.ir.scalar import I8
from qcompiler.ir.types import Elem
from qcompiler.ops.quantization import Requantize
from qcompiler.ops.quantized import ArithmeticOp

Array = NDArray[Any]
Rng = np.random.Generator

assert ops.__all__, "importing qcompiler.ops registers the ops"


@dataclass(frozen=True)
class Scales:
    """How a case draws its scales.

    ``ties``: powers of two, where every rounding meets ties. ``random``: anything.
    """

    name: str
    lowest: float = 0.004
    highest: float = 0.1

    def draw(self, rng: Rng, size: int | None = None, factor: float = 1.0) -> Any:
        """float32 scales around ``factor`` times the range of this kind."""
        low, high = np.log2(self.lowest * factor), np.log2(self.highest * factor)
        exponent = rng.uniform(low, high, size)
        drawn = np.exp2(np.rint(exponent) if self.name == "ties" else exponent)
        return np.asarray(drawn, np.float32)

    def __str__(self) -> str:
        return self.name


SCALES = (Scales("ties"), Scales("random"))


def int8(rng: Rng, scale: Any, spread: int = 40) -> Affine:
    """A per-tensor int8 type with a random zero point within ``spread`` of 0."""
    return Affine.per_tensor(I8, float(scale), int(rng.integers(-spread, spread + 1)))


def integers(rng: Rng, type: TensorType) -> Array:
    """Stored integers over the whole range of a quantized type, its ends included."""
    assert isinstance(type.elem, Affine)
    shape = tuple(d for d in type.shape if isinstance(d, int))
    drawn = rng.integers(type.elem.qmin, type.elem.qmax + 1, shape)
    if drawn.size > 1:
        drawn.reshape(-1)[:2] = (type.elem.qmin, type.elem.qmax)
    return drawn.astype(type.storage.dtype)


class Program:
    """A program under construction whose inputs are drawn at random."""

    def __init__(self) -> None:
        self.graph = Graph("witness")
        self.build = Builder(self.graph)
        self.feeds: list[Array] = []

    def input(self, type: TensorType, data: Array) -> Value:
        """A new input that will be fed ``data``."""
        self.feeds.append(data)
        return self.graph.add_input(f"x{len(self.feeds) - 1}", type)

    def cited(self, op: ArithmeticOp, arithmetic: str, *operands: Value, elem: Elem | None = None) -> Value:
        """A node that cites ``arithmetic``, with the constants that follow from its types."""
        types = [v.type for v in operands]
        citing = op.citing(Arithmetic.parse(arithmetic), types, infer_types(op, types, elem))
        return self.build(citing, *operands, elem=elem)

    def requantize(self, x: Value, form: str, inputs: Sequence[Array], result: Affine) -> Value:
        """A requantize node whose ratio is product(inputs) / scale(result)."""
        rounding = numerics.requantize_form(form)
        constants = Constants(rounding.constants(inputs, result.scale.array))
        return self.build(Requantize(Arithmetic(form), constants), x, elem=result)

    def run(self, result: Value) -> Array:
        """The value of ``result`` by the reference interpreter."""
        self.graph.set_outputs([("y", result)])
        verify(self.graph)
        feeds = {value.name: data for value, data in zip(self.graph.inputs, self.feeds, strict=True)}
        return reference.run(self.graph, feeds)["y"]


def assert_equals_litert(
    program: Program,
    result: Value,
    operator: Operator,
    constants: Sequence[Tensor | None] = (),
    resolver: OpResolverType = OpResolverType.BUILTIN_REF,
) -> Array:
    """Require that LiteRT computes the same stored numbers, and return them.

    Args:
        program: ours.
        result: the value to compare.
        operator: LiteRT's.
        constants: the operator's inputs after the program's inputs.
        resolver: which of LiteRT's kernels.
    """
    ours = program.run(result)
    variables = [variable(v.type) for v in program.graph.inputs]
    model = write_model(operator, [*variables, *constants], variable(result.type))
    theirs = run_model(model, program.feeds, resolver)
    assert theirs.dtype == ours.dtype
    np.testing.assert_array_equal(ours, theirs)
    return ours


def unary_program(op: Op, type: TensorType, data: Array) -> tuple[Program, Value]:
    """A program of one op on one input."""
    program = Program()
    return program, program.build(op, program.input(type, data))


def seeds(count: int) -> Iterator[Rng]:
    """Independent generators for ``count`` cases of a test."""
    for seed in range(count):
        yield np.random.default_rng([2024, seed])
