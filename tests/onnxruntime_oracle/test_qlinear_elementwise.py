"""add, sub and mul of ``cpu-int8`` against QLinearAdd and QLinearMul, every pair of uint8 operands in each case."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from onnxruntime_oracle.qlinear_case import (
    Rng,
    draw_scale,
    integers,
    run_elementwise,
    scale_of,
    seeds,
    uint8,
    zero_point_of,
)
from onnxruntime_oracle.qlinear_model import run_operator, runs_x86_kernels
from qcompiler.ir import Affine
from qcompiler.ir.scalar import U8
from qcompiler.ops.binary import Add, Mul, Sub
from qcompiler.ops.quantized import ArithmeticOp

Array = NDArray[Any]

pytestmark = pytest.mark.skipif(
    not runs_x86_kernels(), reason="the target states the rounding of ONNX Runtime's kernels for x86"
)

# Our op, ONNX Runtime's operator, and the sign of the second operand's scale: there is no QLinearSub, but QLinearAdd
# takes a negative scale.
OPERATORS: dict[str, tuple[ArithmeticOp, str, int]] = {
    "add": (Add(), "QLinearAdd", 1), "sub": (Sub(), "QLinearAdd", -1), "mul": (Mul(), "QLinearMul", 1),
}
A, B = (v.astype(np.uint8) for v in np.meshgrid(np.arange(256), np.arange(256), indexing="ij"))


def draw_types(rng: Rng, name: str, ties: bool) -> tuple[tuple[Affine, Affine], Affine]:
    """Parameters with which the result of all pairs reaches past both ends of uint8, for most seeds.

    Ties come from operand scales that are the result's times small fractions. The result's scale is no power of two,
    so that some ratios are rounded to float32 and some sums lie beside a tie.
    """
    if name == "mul":
        first, second = (np.float32(draw_scale(rng, ties)) for _ in range(2))
        result = np.float32(first * second * np.float32(64 if ties else rng.uniform(30, 64)))
    elif ties:
        result = np.float32(rng.uniform(0.01, 0.1))
        fractions = np.exp2(-rng.integers(0, 7, 2)) * rng.integers(1, 8, 2)
        first, second = (np.float32(result * fraction) for fraction in fractions)
    else:
        first, second = (np.float32(draw_scale(rng, ties)) for _ in range(2))
        result = np.float32(max(first, second) / 2)
    return (uint8(rng, first), uint8(rng, second)), uint8(rng, result)


def theirs(name: str, a: Array, b: Array, elems: tuple[Affine, Affine], result: Affine) -> Array:
    _, operator, sign = OPERATORS[name]
    constants = {
        "sa": scale_of(elems[0]), "za": zero_point_of(elems[0]), "sb": np.float32(sign) * scale_of(elems[1]),
        "zb": zero_point_of(elems[1]), "sy": scale_of(result), "zy": zero_point_of(result),
    }
    return run_operator(
        operator, ["a", "sa", "za", "b", "sb", "zb", "sy", "zy"], {"a": a, "b": b}, constants, domain="com.microsoft"
    )


@pytest.mark.parametrize("ties", [True, False])
@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_all_pairs(name: str, ties: bool) -> None:
    ends = set()
    for rng in seeds(40):
        elems, result = draw_types(rng, name, ties)
        ours = run_elementwise(OPERATORS[name][0], A, B, elems, result)
        np.testing.assert_array_equal(ours, theirs(name, A, B, elems, result))
        ends.add((int(ours.min()), int(ours.max())))
    assert (0, 255) in ends


@pytest.mark.parametrize("name", ["add", "mul"])
@pytest.mark.parametrize("length", [1, 2, 3, 7, 15, 16, 17, 31, 32, 33, 63, 100])
def test_tails(name: str, length: int) -> None:
    """What is left behind the last whole vector rounds as the rest does."""
    for rng in seeds(40):
        elems, result = draw_types(rng, name, ties=True)
        a, b = integers(rng, (length,)), integers(rng, (length,))
        ours = run_elementwise(OPERATORS[name][0], a, b, elems, result)
        np.testing.assert_array_equal(ours, theirs(name, a, b, elems, result))


@pytest.mark.parametrize("name", sorted(OPERATORS))
@pytest.mark.parametrize(
    "shapes",
    [((2, 5, 4, 8), (1, 1, 1, 8)), ((2, 5, 4, 8), (1, 5, 4, 1)), ((6, 40), (1, 1)), ((1, 1, 40), (3, 6, 40))], ids=str,
)
def test_broadcast(name: str, shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    for rng in seeds(20):
        elems, result = draw_types(rng, name, ties=True)
        a, b = (integers(rng, shape) for shape in shapes)
        ours = run_elementwise(OPERATORS[name][0], a, b, elems, result)
        np.testing.assert_array_equal(ours, theirs(name, a, b, elems, result))


# Result scale, fractions of it that are the operands' scales, and zero points for which the offset changes the results
# of thousands of pairs when another of its products is fused with the addition, or none is.
OFFSETS = [
    (0.17, (7 / 8, 1 / 8), (145, 187, 129)), (0.18, (7 / 16, 1 / 4), (133, 248, 174)),
    (0.11, (3 / 8, 1 / 8), (136, 201, 27)), (0.11, (3 / 4, 1.0), (157, 69, 143)),
]


@pytest.mark.parametrize(("scale", "fractions", "zero_points"), OFFSETS)
def test_offset_of_the_zero_points(
    scale: float, fractions: tuple[float, float], zero_points: tuple[int, int, int]
) -> None:
    scales = [np.float32(scale) * np.float32(fraction) for fraction in (*fractions, 1.0)]
    first, second, result = (Affine.per_tensor(U8, s, z) for s, z in zip(scales, zero_points, strict=True))
    ours = run_elementwise(Add(), A, B, (first, second), result)
    np.testing.assert_array_equal(ours, theirs("add", A, B, (first, second), result))


def test_a_number_first_is_added_in_another_order() -> None:
    """The one case that differs: a number as the first operand, which ONNX Runtime adds before the tensor."""
    differing = 0
    for rng in seeds(300):
        elems, result = draw_types(rng, "add", ties=True)
        a, b = integers(rng, (1,)), np.arange(256, dtype=np.uint8)
        ours = run_elementwise(Add(), a, b, elems, result).astype(int)
        difference = np.abs(ours - theirs("add", a, b, elems, result))
        assert difference.max() <= 1
        differing += int(difference.sum())
    assert 0 < differing < 300 * 256 // 100
