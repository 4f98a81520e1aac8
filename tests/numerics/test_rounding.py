"""Integer and real roundings, against fractions: every 8-bit number by every shift, and every tie."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numerics.exact_arithmetic import ROUNDINGS, half_away, half_even, half_up
from qcompiler.numerics.rounding import REAL_ROUNDINGS, SHIFT_ROUNDINGS, divide_half_away, round_half_away


@pytest.mark.parametrize("name", sorted(SHIFT_ROUNDINGS))
def test_shifts_of_all_small_integers(name: str) -> None:
    x = np.arange(-1024, 1025)
    for shift in range(11):
        expected = [ROUNDINGS[name](Fraction(int(v), 2**shift)) for v in x]
        assert SHIFT_ROUNDINGS[name](x, shift).tolist() == expected
        assert SHIFT_ROUNDINGS[name](x, np.full(x.shape, shift)).tolist() == expected


@pytest.mark.parametrize("name", sorted(SHIFT_ROUNDINGS))
@given(x=st.integers(-(2**60), 2**60), shift=st.integers(0, 60))
def test_shifts_of_large_integers(name: str, x: int, shift: int) -> None:
    assert int(SHIFT_ROUNDINGS[name](np.asarray(x), shift)) == ROUNDINGS[name](Fraction(x, 2**shift))


def test_every_rounding_differs_from_every_other() -> None:
    x = np.arange(-64, 65)
    results = {tuple(rounding(x, 3).tolist()) for rounding in SHIFT_ROUNDINGS.values()}
    assert len(results) == len(SHIFT_ROUNDINGS)


@pytest.mark.parametrize("divisor", [1, 2, 3, 4, 5, 6, 7, 9, 12, 16, 49, 100])
def test_division_with_every_tie(divisor: int) -> None:
    x = np.arange(-12 * divisor, 12 * divisor + 1)
    assert divide_half_away(x, divisor).tolist() == [half_away(Fraction(int(v), divisor)) for v in x]


REALS = {"half-away": half_away, "half-even": half_even, "half-up": half_up}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", sorted(REAL_ROUNDINGS))
def test_reals_at_ties_and_beside_them(name: str, dtype: type[np.floating]) -> None:
    ties = np.arange(-400, 401).astype(dtype) / dtype(2)
    x = np.concatenate([ties, np.nextafter(ties, dtype(np.inf)), np.nextafter(ties, dtype(-np.inf))])
    largest_fractional = dtype(2) ** np.finfo(dtype).nmant - dtype(0.5)
    x = np.concatenate([x, np.asarray([largest_fractional, -largest_fractional, 2 * largest_fractional], dtype)])
    rounded = REAL_ROUNDINGS[name](x)
    assert rounded.dtype == dtype
    assert [int(v) for v in rounded] == [REALS[name](Fraction(float(v))) for v in x]


@given(st.floats(-1e15, 1e15))
def test_half_away_of_random_reals(x: float) -> None:
    assert int(round_half_away(np.asarray(x))) == half_away(Fraction(x))
