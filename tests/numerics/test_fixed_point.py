"""Multipliers and gemmlowp's fixed-point functions, against Python integers."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numerics.exact_arithmetic import high_product, multiplier_of
from numerics.exact_kernels import exact_exp, exact_reciprocal
from qcompiler.numerics.fixed_point import (
    exp_of_non_positive,
    leading_zeros32,
    quantize_multiplier,
    reciprocal_of_one_plus,
    rounding_doubling_high_multiply,
)

INT32 = st.integers(-(2**31), 2**31 - 1)

EDGES = {
    "zero": 0.0,
    "one": 1.0,
    "half": 0.5,
    "above one": 3.75,
    "large": 1e9,
    "largest mantissa that stays": 1 - 2.0**-31,
    "tie up to 2**31": 1 - 2.0**-32,
    "rounds up to 2**31": math.nextafter(1.0, 0.0),
    "rounds up to 2**31 above one": math.nextafter(8.0, 0.0),
    "tie of the last bit": 0.5 + 2.0**-32,
    "just below that tie": math.nextafter(0.5 + 2.0**-32, 0.0),
    "smallest kept": 2.0**-32,
    "just below, rounded up to the smallest kept": math.nextafter(2.0**-32, 0.0),
    "flushed": 2.0**-32 * (1 - 2.0**-31),
    "flushed power of two": 2.0**-33,
    "tiny": 1e-300,
    "denormal": 5e-324,
}


@pytest.mark.parametrize("real", EDGES.values(), ids=list(EDGES))
def test_multiplier_of_edge_cases(real: float) -> None:
    multiplier, shift = quantize_multiplier(real)
    assert (int(multiplier), int(shift)) == multiplier_of(Fraction(real))


def test_edge_cases_are_what_they_say() -> None:
    def result(name: str) -> tuple[int, int]:
        multiplier, shift = quantize_multiplier(EDGES[name])
        return int(multiplier), int(shift)

    assert result("one") == (2**30, 1)
    assert result("largest mantissa that stays") == (2**31 - 1, 0)
    assert result("tie up to 2**31") == (2**30, 1)
    assert result("tie of the last bit") == (2**30 + 1, 0)
    assert result("just below that tie") == (2**30, 0)
    assert result("smallest kept") == result("just below, rounded up to the smallest kept") == (2**30, -31)
    assert result("flushed") == result("tiny") == (0, 0)


@pytest.mark.parametrize("exponent", range(-40, 32))
def test_multiplier_of_powers_of_two(exponent: int) -> None:
    multiplier, shift = quantize_multiplier(2.0**exponent)
    assert (int(multiplier), int(shift)) == ((2**30, exponent + 1) if exponent >= -32 else (0, 0))


@given(st.floats(0, 1e12))
def test_multiplier_of_random_reals(real: float) -> None:
    multiplier, shift = quantize_multiplier(np.asarray([real]))
    assert (int(multiplier[0]), int(shift[0])) == multiplier_of(Fraction(real))


@given(INT32, INT32)
def test_high_product(a: int, b: int) -> None:
    assert int(rounding_doubling_high_multiply(a, b)) == high_product(a, b)


def test_high_product_at_ties_and_at_its_one_overflow() -> None:
    odd = np.arange(-4001, 4001, 2)
    # odd * 2**30 / 2**31 is a tie.
    assert rounding_doubling_high_multiply(odd, 2**30).tolist() == [(int(v) + 1) // 2 for v in odd]
    ends = np.array([-(2**31), -(2**31) + 1, 2**31 - 1])
    products = rounding_doubling_high_multiply(ends[:, None], ends[None, :])
    assert products.tolist() == [[high_product(int(a), int(b)) for b in ends] for a in ends]
    assert products[0, 0] == 2**31 - 1


def test_leading_zeros() -> None:
    x = np.array([v for k in range(32) for v in (2**k - 1, 2**k, 2**k + 1) if 0 < v < 2**32])
    assert leading_zeros32(x).tolist() == [32 - int(v).bit_length() for v in x]


@pytest.mark.parametrize("integer_bits", [0, 2, 5])
def test_exp(integer_bits: int) -> None:
    rng = np.random.default_rng(integer_bits)
    a = -np.concatenate([[0, 1, 2, 2**31 - 1, 2**31], 2 ** np.arange(31), rng.integers(0, 2**31, 500)])
    assert exp_of_non_positive(a, integer_bits).tolist() == [exact_exp(int(v), integer_bits) for v in a]
    real = np.exp(a / 2.0 ** (31 - integer_bits))
    # gemmlowp documents no bound; the polynomial's own error is below 2**-22 and dominates.
    assert np.abs(exp_of_non_positive(a, integer_bits) / 2.0**31 - real).max() < 2**-20


def test_reciprocal() -> None:
    rng = np.random.default_rng(3)
    a = np.concatenate([[0, 1, 2, 2**31 - 2, 2**31 - 1], rng.integers(0, 2**31, 500)])
    found = reciprocal_of_one_plus(a)
    assert found.tolist() == [exact_reciprocal(int(v)) for v in a]
    assert np.abs(found / 2.0**31 - 1 / (1 + a / 2.0**31)).max() < 2**-27
