"""Shifts by any number of places against unlimited integers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numerics.block_definition import power
from numerics.exact_arithmetic import ROUNDINGS
from qcompiler.numerics.block_shift import LIMIT, bit_length, move

ENDS = sorted({max(2**b + d, 0) for b in range(62) for d in (-1, 0, 1)} | {LIMIT - 1})


def test_bit_length_at_every_power_of_two() -> None:
    assert bit_length(np.array(ENDS)).tolist() == [v.bit_length() for v in ENDS]


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_move_at_every_power_of_two(rounding: str) -> None:
    """Every shift of -5 to 70 places: ties, numbers rounded to nothing, numbers beyond 62 bits."""
    x = np.array(ENDS + [-v for v in ENDS])
    places = np.arange(-5, 71)
    found = move(x[:, None], np.int64(0) * x[:, None], places[None], rounding)
    for i, v in enumerate(x.tolist()):
        expected = [ROUNDINGS[rounding](v * power(-p)) for p in places.tolist()]
        assert found[i].tolist() == [max(min(e, LIMIT), -LIMIT) for e in expected]


@given(
    st.integers(-LIMIT + 1, LIMIT - 1), st.integers(-1000, 1000), st.integers(-1000, 1000),
    st.sampled_from(sorted(ROUNDINGS)),
)
def test_move_anywhere(x: int, exponent: int, target: int, rounding: str) -> None:
    found = move(np.array([x]), np.array([exponent]), np.array([target]), rounding)
    exact = ROUNDINGS[rounding](x * power(exponent - target))
    assert found.tolist() == [max(min(exact, LIMIT), -LIMIT)]
