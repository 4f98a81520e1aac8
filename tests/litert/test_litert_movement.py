"""Resizing and the ops that only move values, against LiteRT's reference kernels."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from litert.tflite_model import Operator, constant
from litert.witness import Program, assert_equals_litert, int8, integers, seeds, unary_program
from qcompiler.ir import Affine, Op, TensorType
from qcompiler.ir.scalar import I8
from qcompiler.ops.resize import Resize
from qcompiler.ops.shape import Concat, Transpose
from qcompiler.ops.slicing import Pad, Slice

Array = NDArray[Any]

SIZES = [
    # input size, output size
    ((5, 7), (11, 13)), ((5, 7), (10, 14)), ((8, 8), (4, 4)), ((9, 10), (4, 3)), ((3, 3), (1, 1)), ((1, 1), (4, 5)),
    ((2, 2), (4, 4)), ((7, 4), (7, 4)), ((1, 6), (3, 11)), ((10, 10), (3, 27)),
]

COORDINATES = {
    "half_pixel": {"halfPixelCenters": True},
    "align_corners": {"alignCorners": True},
    "asymmetric": {},
}


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("coordinates", sorted(COORDINATES))
def test_resize_bilinear(coordinates: str, sizes: Any) -> None:
    before, after = sizes
    for rng in seeds(4):
        type = TensorType((2, *before, 6), int8(rng, 0.1))
        program = Program()
        op = Resize((1, 2), after, "linear", coordinates)
        y = program.cited(op, "litert-resize-bilinear", program.input(type, integers(rng, type)))
        operator = Operator("RESIZE_BILINEAR", 3, "ResizeBilinear", COORDINATES[coordinates])
        assert_equals_litert(program, y, operator, [constant(np.asarray(after, np.int32))])


# LiteRT rounds positions down, or, with align_corners, to the nearest with ties up; half-pixel positions are
# (i + 0.5) * ratio, rounded down, which is ONNX's (i + 0.5) * ratio - 0.5 rounded to nearest with ties up.
NEAREST = {"half_pixel": "round_prefer_ceil", "align_corners": "round_prefer_ceil", "asymmetric": "floor"}


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("coordinates", sorted(NEAREST))
def test_resize_nearest_neighbor(coordinates: str, sizes: Any) -> None:
    before, after = sizes
    rng = next(seeds(1))
    type = TensorType((2, *before, 3), int8(rng, 0.1))
    op = Resize((1, 2), after, "nearest", coordinates, NEAREST[coordinates])
    program, y = unary_program(op, type, integers(rng, type))
    operator = Operator("RESIZE_NEAREST_NEIGHBOR", 3, "ResizeNearestNeighbor", COORDINATES[coordinates])
    assert_equals_litert(program, y, operator, [constant(np.asarray(after, np.int32))])


def int32(*values: Any) -> Any:
    return constant(np.asarray(values, np.int32))


MOVES: list[tuple[Op, Operator, list[Any]]] = [
    (Pad((0, 1, 2, 0), (0, 3, 0, 1)), Operator("PAD", 2, "Pad"), [int32([0, 0], [1, 3], [2, 0], [0, 1])]),
    (
        Slice((0, 1, 2, 3), (0, 1, 2, 0), (2, 4, 6, 3), (1, 1, 1, 1)), Operator("SLICE", 2, "Slice"),
        [int32(0, 1, 2, 0), int32(2, 3, 4, 3)],
    ),
    (
        Slice((0, 1, 2, 3), (1, 0, 5, 4), (-1, 5, -1, 0), (-1, 2, -2, -1)),
        Operator("STRIDED_SLICE", 2, "StridedSlice", {"endMask": 0b0101}),
        [int32(1, 0, 5, 4), int32(0, 5, 0, 0), int32(-1, 2, -2, -1)],
    ),
    (Transpose((0, 3, 1, 2)), Operator("TRANSPOSE", 2, "Transpose"), [int32(0, 3, 1, 2)]),
    (Transpose((3, 1, 0, 2)), Operator("TRANSPOSE", 2, "Transpose"), [int32(3, 1, 0, 2)]),
]


@pytest.mark.parametrize(("op", "operator", "constants"), MOVES, ids=[f"{m[1].code}-{i}" for i, m in enumerate(MOVES)])
def test_moves(op: Op, operator: Operator, constants: list[Any]) -> None:
    for rng in seeds(3):
        type = TensorType((2, 5, 6, 5), int8(rng, 0.1))
        program, y = unary_program(op, type, integers(rng, type))
        assert_equals_litert(program, y, operator, constants)


@pytest.mark.parametrize("value", [0.0, 1.5, -0.3, 1e6, -1e6])
def test_pad_with_a_real_value_is_padv2_with_its_quantization(value: float) -> None:
    for rng in seeds(4):
        elem = int8(rng, 0.25)
        type = TensorType((2, 3, 4), elem)
        program, y = unary_program(Pad((0, 1, 0), (0, 0, 2), value=value), type, integers(rng, type))
        # PADV2 takes the stored number; 1.5 / 0.25 and the saturated ends are exact, -0.3 / 0.25 rounds to -1.
        stored = np.clip(np.rint(value / 0.25) + int(elem.zero_point.array), -128, 127).astype(np.int8)
        filler = replace(constant(stored.reshape(1), elem.scale.array), zero_point=int(elem.zero_point.array))
        assert_equals_litert(program, y, Operator("PADV2", 2, "PadV2"), [int32([0, 0], [1, 0], [0, 2]), filler])


@pytest.mark.parametrize("axis", [1, 2])
def test_concatenation(axis: int) -> None:
    rng = next(seeds(1))
    elem = Affine.per_tensor(I8, 0.07, -11)
    program = Program()
    shapes = [tuple(3 + i if a == axis else 4 for a in range(3)) for i in range(3)]
    operands = [program.input(TensorType(s, elem), integers(rng, TensorType(s, elem))) for s in shapes]
    operator = Operator("CONCATENATION", 2, "Concatenation", {"axis": axis})
    assert_equals_litert(program, program.build(Concat(axis), *operands), operator)
