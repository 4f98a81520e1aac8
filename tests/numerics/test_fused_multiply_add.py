"""The fused multiply-add against exact fractions, where float64 alone would round twice too."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from numerics.exact_arithmetic import float32
from qcompiler.numerics.fused_multiply_add import fused_multiply_add

FLOAT32 = st.one_of(
    st.integers(-(2**24), 2**24).map(float),
    st.floats(-(2.0**40), 2.0**40, width=32, allow_subnormal=False).filter(lambda v: v == 0 or abs(v) > 2.0**-40),
)


# 2**24 + 1 lies between two float32 numbers; what is added is too small for float64, yet decides.
@given(x=FLOAT32, y=FLOAT32, z=FLOAT32)
@example(x=2.0**24 + 2, y=2.0**30 + 2.0**7, z=2.0**-30)
@example(x=4097.0, y=4097.0, z=2.0**-40)
@example(x=4097.0, y=4097.0, z=-(2.0**-40))
@example(x=2.0**12 + 1, y=-(2.0**12 + 1), z=2.0**-39)
def test_rounds_the_exact_result_once(x: float, y: float, z: float) -> None:
    exact = Fraction(float(np.float32(x))) * Fraction(float(np.float32(y))) + Fraction(float(np.float32(z)))
    assert Fraction(float(fused_multiply_add(np.float32(x), np.float32(y), np.float32(z)))) == float32(exact)


def test_float64_alone_rounds_twice() -> None:
    """The examples above are such that a plain float64 sum fails."""
    x, tiny = np.float64(4097), np.float64(2.0**-40)
    naive = np.float32(x * x + tiny), np.float32(x * x - tiny)
    right = fused_multiply_add(x, x, np.array([tiny, -tiny]))
    assert right[0] > right[1]
    assert naive[0] == naive[1]


def test_arrays_broadcast() -> None:
    found = fused_multiply_add(np.arange(3)[:, None], np.float32(0.5), np.arange(2)[None, :])
    assert found.tolist() == [[0.0, 1.0], [0.5, 1.5], [1.0, 2.0]]
    assert found.dtype == np.float32
