"""Programs of one op of ``cpu-int8``, with its rounding, and random parameters for them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcompiler import numerics, plugins
from qcompiler.backends import reference
from qcompiler.ir import Affine, Builder, ConstantArray, Constants, Graph, TensorType, Value, verify
from qcompiler.ir.builder import infer_types
from qcompiler.ir.scalar import I8, I32, U8
from qcompiler.ir.types import channel_blocks
from qcompiler.ops.constant import Constant
from qcompiler.ops.contraction import Contraction
from qcompiler.ops.quantization import Requantize
from qcompiler.ops.quantized import ArithmeticOp
from qcompiler.target import load_target

Array = NDArray[Any]
Rng = np.random.Generator

plugins.load()
ROWS = load_target("cpu-int8").rows
"""What the descriptor says of each op: the tests take the arithmetic from here."""


def seeds(count: int) -> Iterator[Rng]:
    """Independent generators for ``count`` cases of a test."""
    for seed in range(count):
        yield np.random.default_rng([2025, seed])


def draw_scale(rng: Rng, ties: bool, size: int | None = None, low: float = 0.004, high: float = 0.1) -> Array:
    """float32 scales: powers of two, where roundings meet ties, or anything."""
    exponent = rng.uniform(np.log2(low), np.log2(high), size)
    return np.asarray(np.exp2(np.rint(exponent) if ties else exponent), np.float32)


def uint8(rng: Rng, scale: Any) -> Affine:
    """A per-tensor uint8 type; every zero point is drawn, the ends of the range often."""
    zero_point = int(rng.choice([0, 255, int(rng.integers(0, 256)), int(rng.integers(0, 256))]))
    return Affine.per_tensor(U8, float(scale), zero_point)


def integers(rng: Rng, shape: tuple[int, ...], low: int = 0, high: int = 255, dtype: Any = np.uint8) -> Array:
    """Integers over a whole range, its ends included where there is room."""
    drawn = rng.integers(low, high + 1, shape)
    if drawn.size > 1:
        drawn.reshape(-1)[:2] = low, high
    return drawn.astype(dtype)


def scale_of(type: TensorType | Affine) -> np.float32:
    elem = type.elem if isinstance(type, TensorType) else type
    assert isinstance(elem, Affine)
    return np.float32(elem.scale.array)


def zero_point_of(type: TensorType | Affine) -> np.uint8:
    elem = type.elem if isinstance(type, TensorType) else type
    assert isinstance(elem, Affine)
    return np.uint8(elem.zero_point.array)


class Program:
    """A program under construction."""

    def __init__(self) -> None:
        self.graph = Graph("oracle")
        self.build = Builder(self.graph)

    def run(self, result: Value, **feeds: Array) -> Array:
        """The value of ``result`` by the reference interpreter."""
        self.graph.set_outputs([("y", result)])
        verify(self.graph)
        return reference.run(self.graph, feeds)["y"]


def run_elementwise(op: ArithmeticOp, a: Array, b: Array, elems: tuple[Affine, Affine], result: Affine) -> Array:
    """An element-wise op of two operands as the target rounds it."""
    program = Program()
    types = [TensorType(x.shape, elem) for x, elem in zip((a, b), elems, strict=True)]
    operands = [program.graph.add_input(name, type) for name, type in zip("ab", types, strict=True)]
    arithmetic = ROWS[op.name].arithmetic
    assert arithmetic is not None
    citing = op.citing(arithmetic, types, infer_types(op, types, result))
    return program.run(program.build(citing, *operands, elem=result), a=a, b=b)


@dataclass(frozen=True)
class Weights:
    """int8 weights with a scale for each output channel, and a bias or none."""

    array: Array
    scales: Array
    bias: Array | None = None


def run_contraction(op: Contraction, x: Array, elem: Affine, weights: Weights, result: Affine) -> tuple[Array, Array]:
    """A contraction as the target rounds it: the result, and the accumulators scaled but not rounded, in float32."""
    program = Program()
    source = program.graph.add_input("x", TensorType(x.shape, elem))
    shape = weights.array.shape
    axis = op.weight_channel_axis(len(shape))
    grid = tuple(-1 if i == axis else 1 for i in range(len(shape)))
    held = Affine.blocked(I8, weights.scales.reshape(grid), 0, channel_blocks(shape, axis), -127, 127)
    w = program.build(Constant(ConstantArray(weights.array)), elem=held)
    operands, types = [source, w], [source.type, w.type]
    (sums_shape,) = op.infer_shapes(types)
    if weights.bias is not None:
        of_bias = op.accumulator(types, sums_shape, I32, of_bias=True)
        operands.append(program.build(Constant(ConstantArray(weights.bias)), elem=of_bias))
    sums_elem = op.accumulator(types, sums_shape, I32)
    sums = program.build(op, *operands, elem=sums_elem)
    return _requantized(program, sums, [elem.scale.array, held.scale.array.reshape(sums_elem.scale.shape)], result, x=x)


def run_product(op: Contraction, x: Array, y: Array, elems: tuple[Affine, Affine], result: Affine) -> Array:
    """A contraction of two computed operands as the target rounds it."""
    program = Program()
    types = [TensorType(v.shape, elem) for v, elem in zip((x, y), elems, strict=True)]
    operands = [program.graph.add_input(name, type) for name, type in zip("xy", types, strict=True)]
    (shape,) = op.infer_shapes(types)
    sums = program.build(op, *operands, elem=op.accumulator(types, shape, I32))
    return _requantized(program, sums, [e.scale.array for e in elems], result, x=x, y=y)[0]


def _requantized(
    program: Program, sums: Value, scales: list[Array], result: Affine, **feeds: Array
) -> tuple[Array, Array]:
    arithmetic = ROWS["requantize"].arithmetic
    assert arithmetic is not None
    form = numerics.requantize_form(arithmetic.name)
    constants = form.constants(scales, result.scale.array)
    value = program.build(Requantize(arithmetic, Constants(constants)), sums, elem=result)
    scaled = program.run(sums, **feeds).astype(np.float32) * constants["ratio"]
    return program.run(value, **feeds), scaled


def count_ties(scaled: Array) -> int:
    """Numbers halfway between two integers."""
    return int((np.abs(scaled - np.trunc(scaled)) == 0.5).sum())
