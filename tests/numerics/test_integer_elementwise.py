"""Integer add, sub and mul, against Python integers: all 65,536 pairs of int8 operands."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numerics.exact_kernels import ExactFloatProduct, ExactFloatSum, ExactProduct, ExactSum, Scaled
from qcompiler.numerics import Quantization, resolve

INT8 = np.arange(-128, 128)
INT16 = st.integers(-32768, 32767)

# (scale, zero point) of both operands and the result. The first is full of ties; in the second the result saturates
# at both ends; the third lies beside ties; the fourth has operands of very different scales.
TRIPLES = [
    ((0.125, 3), (0.25, -7), (1.0, 5)),
    ((0.05, -128), (0.031, 127), (0.02, -3)),
    ((1 - 2.0**-24, 0), (1 - 2.0**-24, 0), (2.0, 0)),
    ((0.9, 11), (0.0007, -40), (0.41, 0)),
]


def exact(parameters: tuple[float, int], low: int = -128, high: int = 127) -> Scaled:
    return Scaled(Fraction(float(np.float32(parameters[0]))), parameters[1], low, high)


def ours(parameters: tuple[float, int], low: int = -128, high: int = 127) -> Quantization:
    return Quantization(np.asarray(parameters[0], np.float32), np.asarray(parameters[1]), low, high)


Definition = Callable[[Scaled, Scaled, Scaled], Callable[[int, int], int]]
RULES: dict[tuple[str, str], Definition] = {
    ("add", "litert-add"): lambda a, b, y: ExactSum(a, b, y, 20, 1),
    ("sub", "litert-add"): lambda a, b, y: ExactSum(a, b, y, 20, -1),
    ("mul", "litert-mul"): ExactProduct,
    ("add", "onnxruntime-add"): lambda a, b, y: ExactFloatSum(a, b, y, 1),
    ("sub", "onnxruntime-add"): lambda a, b, y: ExactFloatSum(a, b, y, -1),
    ("mul", "onnxruntime-mul"): ExactFloatProduct,
}


@pytest.mark.parametrize("triple", TRIPLES, ids=str)
@pytest.mark.parametrize(("op", "name"), sorted(RULES))
def test_all_pairs_of_int8(op: str, name: str, triple: tuple[tuple[float, int], ...]) -> None:
    definition = RULES[op, name]
    rule = resolve(op, name)
    first, second, output = (ours(p) for p in triple)
    constants = rule.constants([first, second], output)
    found = rule.apply(INT8[:, None], INT8[None, :], [first, second], output, constants)
    function = definition(exact(triple[0]), exact(triple[1]), exact(triple[2]))
    assert found.tolist() == [[function(a, b) for b in INT8.tolist()] for a in INT8.tolist()]


@pytest.mark.parametrize("op", ["add", "sub"])
@given(
    scales=st.tuples(*[st.floats(2.0**-20, 2.0**-8, width=32)] * 3),
    pairs=st.lists(st.tuples(INT16, INT16), min_size=1, max_size=20),
)
def test_int16_shifts_by_15(op: str, scales: tuple[float, ...], pairs: list[tuple[int, int]]) -> None:
    # A result scale far below the operands' would overflow 32 bits.
    triple = ((scales[0], 0), (scales[1], 0), (max(scales[2], max(scales[:2]) / 64), 0))
    first, second, output = (ours(p, -32768, 32767) for p in triple)
    rule = resolve(op, "litert-add", {"shift": 15})
    a, b = np.asarray(pairs).T
    found = rule.apply(a, b, [first, second], output, rule.constants([first, second], output))
    operands = [exact(p, -32768, 32767) for p in triple]
    function = ExactSum(operands[0], operands[1], operands[2], 15, 1 if op == "add" else -1)
    assert found.tolist() == [function(*pair) for pair in pairs]


@given(
    op=st.sampled_from(["add", "sub", "mul"]),
    scales=st.tuples(*[st.floats(2.0**-20, 2.0**-8, width=32)] * 3),
    zero_points=st.tuples(*[INT16] * 3),
    pairs=st.lists(st.tuples(INT16, INT16), min_size=1, max_size=20),
)
def test_int16_in_float32(
    op: str, scales: tuple[float, ...], zero_points: tuple[int, ...], pairs: list[tuple[int, int]]
) -> None:
    """Wide operands, whose products and sums float32 must round."""
    triple = list(zip(scales, zero_points, strict=True))
    first, second, output = (ours(p, -32768, 32767) for p in triple)
    name = "onnxruntime-mul" if op == "mul" else "onnxruntime-add"
    rule = resolve(op, name)
    a, b = np.asarray(pairs).T
    found = rule.apply(a, b, [first, second], output, rule.constants([first, second], output))
    operands = [exact(p, -32768, 32767) for p in triple]
    function = RULES[op, name](operands[0], operands[1], operands[2])
    assert found.tolist() == [function(*pair) for pair in pairs]


@pytest.mark.parametrize("name", ["onnxruntime-add", "onnxruntime-mul"])
def test_sums_that_32_bits_cannot_hold_are_told(name: str) -> None:
    """Saturation happens behind a conversion to 32 bits: a result scale far too small is an overflow."""
    rule = resolve("mul" if name.endswith("mul") else "add", name)
    operand = ours((1.0, 3))
    for scale, fits in ((2.0**-12, True), (2.0**-31, False)):
        output = ours((scale, 0))
        constants = rule.constants([operand, operand], output)
        found = rule.intermediates([operand, operand], constants)
        assert all(i.bound <= i.limit for i in found) == fits
        values = rule.apply(INT8[:, None], INT8[None, :], [operand, operand], output, constants)
        assert (values.min(), values.max()) == (-128, 127)


@pytest.mark.parametrize("name", ["litert-add", "onnxruntime-add"])
def test_bounds_of_the_output_type_clamp(name: str) -> None:
    quantization = ours((1.0, 0), -4, 6)
    rule = resolve("add", name)
    constants = rule.constants([quantization, quantization], quantization)
    found = rule.apply(INT8, INT8, [quantization, quantization], quantization, constants)
    assert (found.min(), found.max()) == (-4, 6)
