"""ADD, SUB and MUL against LiteRT's reference kernels, every pair of int8 operands in each case."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ai_edge_litert.schema_py_generated import ActivationFunctionType
from numpy.typing import NDArray

from litert.tflite_model import Operator
from litert.witness import SCALES, Program, Rng, Scales, assert_equals_litert, int8, integers, seeds
from qcompiler.ir import Affine, TensorType
from qcompiler.ir.scalar import I16
from qcompiler.ops.binary import Add, Mul, Sub
from qcompiler.ops.quantization import Clamp

Array = NDArray[Any]

OPERATORS = {
    "add": (Add(), "litert-add{shift=20}", Operator("ADD", 2, "Add")),
    "sub": (Sub(), "litert-add{shift=20}", Operator("SUB", 2, "Sub")),
    "mul": (Mul(), "litert-mul", Operator("MUL", 2, "Mul")),
}


def all_pairs() -> tuple[Array, Array]:
    a, b = np.meshgrid(np.arange(-128, 128), np.arange(-128, 128), indexing="ij")
    return a.astype(np.int8), b.astype(np.int8)


def draw_types(rng: Rng, scales: Scales, name: str, shape: tuple[int, ...]) -> tuple[list[TensorType], Affine]:
    elems = [int8(rng, scales.draw(rng)) for _ in range(2)]
    first, second = (float(e.scale.array) for e in elems)
    # The result of all pairs reaches past both ends of int8.
    typical = first * second * 32 if name == "mul" else max(first, second) / 2
    result = typical * (1.0 if scales.name == "ties" else rng.uniform(0.3, 1.0))
    return [TensorType(shape, e) for e in elems], int8(rng, result)


@pytest.mark.parametrize("scales", SCALES, ids=str)
@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_all_pairs(name: str, scales: Scales) -> None:
    op, arithmetic, operator = OPERATORS[name]
    a, b = all_pairs()
    for rng in seeds(16):
        types, result = draw_types(rng, scales, name, (256, 256))
        program = Program()
        operands = [program.input(t, x) for t, x in zip(types, (a, b), strict=True)]
        y = assert_equals_litert(program, program.cited(op, arithmetic, *operands, elem=result), operator)
        assert (y.min(), y.max()) == (-128, 127)


@pytest.mark.parametrize("name", sorted(OPERATORS))
@pytest.mark.parametrize("shapes", [((2, 5, 4, 8), (1, 1, 1, 8)), ((2, 5, 4, 8), (1, 5, 4, 1)), ((6, 8), (1, 1))])
def test_broadcast(name: str, shapes: Any) -> None:
    op, arithmetic, operator = OPERATORS[name]
    for rng in seeds(4):
        types, result = draw_types(rng, SCALES[1], name, ())
        program = Program()
        shaped = [t.with_shape(s) for t, s in zip(types, shapes, strict=True)]
        operands = [program.input(t, integers(rng, t)) for t in shaped]
        assert_equals_litert(program, program.cited(op, arithmetic, *operands, elem=result), operator)


@pytest.mark.parametrize("scales", SCALES, ids=str)
def test_add_int16_shifts_by_15(scales: Scales) -> None:
    for rng in seeds(6):
        program = Program()
        types = [
            TensorType((4000,), Affine.per_tensor(I16, float(scales.draw(rng, factor=1 / 256)))) for _ in range(2)
        ]
        operands = [program.input(t, integers(rng, t)) for t in types]
        result = Affine.per_tensor(I16, float(scales.draw(rng, factor=1 / 256)))
        y = program.cited(Add(), "litert-add{shift=15}", *operands, elem=result)
        # Without ``potScaleInt16`` the kernel uses general scales.
        assert_equals_litert(program, y, Operator("ADD", 2, "Add", {"potScaleInt16": False}))


@pytest.mark.parametrize("scales", SCALES, ids=str)
def test_add_with_fused_relu_clamps_at_the_zero_point(scales: Scales) -> None:
    a, b = all_pairs()
    for rng in seeds(6):
        types, result = draw_types(rng, scales, "add", (256, 256))
        program = Program()
        operands = [program.input(t, x) for t, x in zip(types, (a, b), strict=True)]
        total = program.cited(Add(), "litert-add{shift=20}", *operands, elem=result)
        zero = int(result.zero_point.array)
        y = program.build(Clamp(zero, 127), total)
        operator = Operator("ADD", 2, "Add", {"fusedActivationFunction": ActivationFunctionType.RELU})
        assert assert_equals_litert(program, y, operator).min() == zero
