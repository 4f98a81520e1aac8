"""Arithmetic of power-of-two scales, against its definition in fractions: exact, and rounded once."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numerics.exact_arithmetic import ROUNDINGS, clamp
from qcompiler.errors import QCompilerError
from qcompiler.numerics import Quantization, next_power_of_two, resolve
from qcompiler.numerics.rounding import DIVISION_ROUNDINGS, SHIFT_ROUNDINGS, round_half_up

INT8 = np.arange(-128, 128)
EXPONENTS = st.integers(-12, 4)
ZERO_POINTS = st.integers(-128, 127)


def quantization(exponent: int, zero_point: int = 0, low: int = -128, high: int = 127) -> Quantization:
    return Quantization(np.asarray(2.0**exponent, np.float32), np.asarray(zero_point), low, high)


@pytest.mark.parametrize("rounding", SHIFT_ROUNDINGS)
@pytest.mark.parametrize("op", ["add", "sub", "mul"])
@given(exponents=st.tuples(EXPONENTS, EXPONENTS, EXPONENTS), zero_points=st.tuples(*[ZERO_POINTS] * 3))
def test_pairs_of_int8(
    op: str, rounding: str, exponents: tuple[int, int, int], zero_points: tuple[int, int, int]
) -> None:
    first, second, output = (quantization(e, z) for e, z in zip(exponents, zero_points, strict=True))
    rule = resolve(op, "shift-mul" if op == "mul" else "shift-add", {"rounding": rounding})
    some = INT8[np.r_[0:2, 2:254:28, 254:256]]
    constants = rule.constants([first, second], output)
    found = rule.apply(some[:, None], some[None, :], [first, second], output, constants)
    a_scale, b_scale, y_scale = (Fraction(2) ** e for e in exponents)

    def exact(a: int, b: int) -> int:
        left, right = (a - zero_points[0]) * a_scale, (b - zero_points[1]) * b_scale
        real = {"add": left + right, "sub": left - right, "mul": left * right}[op]
        return clamp(ROUNDINGS[rounding](real / y_scale) + zero_points[2], -128, 127)

    assert found.tolist() == [[exact(a, b) for b in some.tolist()] for a in some.tolist()]


@given(
    gap=st.integers(1, 12), guard=st.integers(0, 12), pairs=st.lists(st.tuples(ZERO_POINTS, ZERO_POINTS), min_size=1),
    rounding=st.sampled_from(list(SHIFT_ROUNDINGS)), output=st.integers(-2, 14),
)
def test_a_sum_meets_at_most_guard_bits_below_the_coarser_scale(
    gap: int, guard: int, pairs: list[tuple[int, int]], rounding: str, output: int
) -> None:
    """Further apart, the finer operand is rounded first."""
    a, b = np.asarray(pairs).T
    inputs, result = [quantization(gap), quantization(0)], quantization(output)
    rule = resolve("add", "shift-add", {"guard": guard, "rounding": rounding})
    found = rule.apply(a, b, inputs, result, rule.constants(inputs, result))
    unit = Fraction(2) ** max(gap - guard, 0)

    def exact(coarse: int, fine: int) -> int:
        total = coarse * 2**gap + ROUNDINGS[rounding](fine / unit) * unit
        return clamp(ROUNDINGS[rounding](total / Fraction(2) ** output), -128, 127)

    assert found.tolist() == [exact(*pair) for pair in pairs]


@pytest.mark.parametrize("rounding", DIVISION_ROUNDINGS)
@pytest.mark.parametrize(("op", "name"), [("mean", "shift-mean"), ("reduce_sum", "shift-sum")])
@given(count=st.integers(1, 400), shift=st.integers(-9, 6), zero_points=st.tuples(ZERO_POINTS, ZERO_POINTS))
def test_reductions(op: str, name: str, rounding: str, count: int, shift: int, zero_points: tuple[int, int]) -> None:
    source, output = quantization(shift, zero_points[0]), quantization(0, zero_points[1])
    sums = np.unique(np.linspace(-128 * count, 127 * count, 301).astype(np.int64))
    rule = resolve(op, name, {"rounding": rounding})
    found = rule.apply(sums, count, source, output, rule.constants(count, source, output))

    def exact(total: int) -> int:
        real = (total - count * zero_points[0]) * Fraction(2) ** shift / (count if op == "mean" else 1)
        return clamp(ROUNDINGS[rounding](real) + zero_points[1], -128, 127)

    assert found.tolist() == [exact(total) for total in sums.tolist()]


@pytest.mark.parametrize("rounding", DIVISION_ROUNDINGS)
@pytest.mark.parametrize("count", [1, 2, 3, 4, 6, 9, 25, 64])
def test_average_of_every_sum(count: int, rounding: str) -> None:
    sums = np.arange(-128 * count, 127 * count + 1)
    rule = resolve("average_pool2d", "average", {"rounding": rounding})
    found = rule.apply(sums, np.full(sums.shape, count), quantization(0, 5, -100, 120))
    assert found.tolist() == [clamp(ROUNDINGS[rounding](Fraction(int(v), count)), -100, 120) for v in sums]


@given(st.lists(st.floats(-(2.0**22), 2.0**22, width=32), min_size=1), st.integers(-(2**21), 2**21))
def test_reals_round_half_up(numbers: list[float], tie: int) -> None:
    x = np.asarray([*numbers, tie + 0.5, np.nextafter(np.float32(0.5), 0), -0.5], np.float32)
    assert round_half_up(x).tolist() == [ROUNDINGS["half-up"](Fraction(float(v))) for v in x]


def test_scales_that_are_no_powers_of_two_are_refused() -> None:
    odd = Quantization(np.asarray(0.3, np.float32), np.asarray(0), -128, 127)
    for op, name in (("add", "shift-add"), ("sub", "shift-add"), ("mul", "shift-mul")):
        with pytest.raises(QCompilerError, match="power of two"):
            resolve(op, name).constants([odd, quantization(0)], quantization(0))
    for op, name in (("mean", "shift-mean"), ("reduce_sum", "shift-sum")):
        with pytest.raises(QCompilerError, match="power of two"):
            resolve(op, name).constants(4, odd, quantization(0))


@pytest.mark.parametrize(("guard", "fits"), [(16, True), (24, False)])
def test_an_operand_shifted_out_of_32_bits_is_told(guard: int, fits: bool) -> None:
    inputs, output = [quantization(4), quantization(-20)], quantization(4)
    rule = resolve("add", "shift-add", {"guard": guard})
    found = rule.intermediates(inputs, rule.constants(inputs, output))
    assert all(i.bound <= i.limit for i in found) == fits


def test_bounds_of_a_sum_are_reached() -> None:
    inputs, output = [quantization(3), quantization(0)], quantization(4)
    rule = resolve("add", "shift-add")
    constants = rule.constants(inputs, output)
    bounds = {i.what: i.bound for i in rule.intermediates(inputs, constants)}
    assert bounds["the sum"] == 128 * 8 + 128


@given(st.floats(2.0**-100, 2.0**100, width=32))
def test_next_power_of_two(scale: float) -> None:
    found = float(next_power_of_two(scale))
    assert found / 2 < scale <= found
    assert np.frexp(found)[0] == 0.5
