"""Quantization of reals, dequantization and the choice of parameters, against fractions."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numerics.exact_arithmetic import clamp, float32, half_away, half_even
from qcompiler.errors import QCompilerError
from qcompiler.numerics import AffineQuantize, Quantization, dequantize, parameters_from_range, resolve

ROUNDINGS = {"half-away": half_away, "half-even": half_even}
# 0.8 and 0.3 make quotients that are ties in float32 and none in exact arithmetic.
SCALES = [0.5, 2.0**-9, 0.8, 0.3, 0.0123, 3e-6]


def quantization(scale: float, zero_point: int, low: int = -128, high: int = 127) -> Quantization:
    return Quantization(np.asarray(scale, np.float32), np.asarray(zero_point), low, high)


def rule(rounding: str) -> AffineQuantize:
    found = resolve("quantize", "affine", {"rounding": rounding})
    assert isinstance(found, AffineQuantize)
    return found


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("zero_point", [-128, -3, 0, 127])
@pytest.mark.parametrize("rounding", sorted(ROUNDINGS))
def test_quantize_at_ties_beside_ties_and_beyond_the_range(rounding: str, zero_point: int, scale: float) -> None:
    output = quantization(scale, zero_point)
    ties = np.arange(-600, 601).astype(np.float32) / np.float32(2) * output.scale
    x = np.concatenate([ties, np.nextafter(ties, np.float32(np.inf)), np.nextafter(ties, np.float32(-np.inf))])
    exact_scale = Fraction(float(output.scale))
    expected = [
        clamp(ROUNDINGS[rounding](float32(Fraction(float(v)) / exact_scale)) + zero_point, -128, 127) for v in x
    ]
    found = rule(rounding).apply(x, output)
    assert found.tolist() == expected
    assert (found.min(), found.max()) == (-128, 127)


@pytest.mark.parametrize("rounding", sorted(ROUNDINGS))
@given(x=st.floats(-1e6, 1e6, width=32), scale=st.floats(2.0**-10, 16, width=32))
def test_quantize_random_reals(rounding: str, x: float, scale: float) -> None:
    output = quantization(scale, 17, -32768, 32767)
    quotient = float32(Fraction(x) / Fraction(scale))
    found = rule(rounding).apply(np.asarray([x], np.float32), output)
    assert int(found[0]) == clamp(ROUNDINGS[rounding](quotient) + 17, -32768, 32767)


def test_huge_reals_saturate() -> None:
    x = np.array([np.inf, -np.inf, 3e38, -3e38], np.float32)
    assert rule("half-away").apply(x, quantization(1e-3, 9)).tolist() == [127, -128, 127, -128]


@given(
    q=st.integers(-(2**31), 2**31 - 1), scale=st.floats(2.0**-20, 8, width=32), zero_point=st.integers(-32768, 32767)
)
def test_dequantize_rounds_the_exact_product(q: int, scale: float, zero_point: int) -> None:
    found = dequantize(np.asarray(q), quantization(scale, zero_point))
    # Differences beyond 29 bits pass through float64 on their way to float32: at most 2**-29 units from one rounding.
    exact = Fraction(scale) * (q - zero_point)
    if abs(q - zero_point) < 2**29:
        assert Fraction(float(found)) == float32(exact)
    else:
        assert abs(Fraction(float(found)) - exact) <= abs(exact) * Fraction(1, 2**24) * Fraction(1001, 1000)


def test_dequantize_every_int8_with_every_zero_point() -> None:
    scale = Fraction(float(np.float32(0.0371)))
    q = np.arange(-128, 128)
    for zero_point in (-128, -1, 0, 64, 127):
        found = dequantize(q, quantization(0.0371, zero_point))
        assert [Fraction(float(v)) for v in found] == [float32(scale * (int(v) - zero_point)) for v in q]


@given(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4))
def test_free_parameters_hold_zero_and_the_range(first: float, second: float) -> None:
    low, high = sorted((first, second))
    scale, zero_point = parameters_from_range(low, high, -128, 127)
    assert scale.dtype == np.float32
    assert float(scale) > 0
    assert -128 <= int(zero_point) <= 127
    reach = [float(scale) * (q - int(zero_point)) for q in (-128, 127)]
    # The zero point is rounded, so each end may be missed by half a step.
    assert reach[0] <= min(low, 0) + 0.5001 * float(scale)
    assert reach[1] >= max(high, 0) - 0.5001 * float(scale)


@given(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4), st.sampled_from([-128, -100, 0, 127]))
def test_a_given_zero_point_gets_the_smallest_scale_that_holds_the_range(
    first: float, second: float, zero_point: int
) -> None:
    low, high = sorted((first, second))
    scale, found = parameters_from_range(low, high, -128, 127, zero_point)
    assert int(found) == zero_point
    steps = Fraction(float(scale))
    needed = [Fraction(max(high, 0.0)) / (127 - zero_point) if zero_point < 127 else Fraction(0)]
    needed.append(Fraction(min(low, 0.0)) / (-128 - zero_point) if zero_point > -128 else Fraction(0))
    if max(needed) > Fraction(2) ** -126:
        assert abs(steps - max(needed)) <= max(needed) * Fraction(1, 2**23)


def test_a_range_of_one_point_has_scale_one() -> None:
    scale, zero_point = parameters_from_range(np.zeros(2), np.array([0.0, 1.0]), -127, 127, 0)
    assert scale.tolist() == [1.0, float(np.float32(1 / 127))]
    assert zero_point.tolist() == [0, 0]


def test_unknown_rounding_is_refused() -> None:
    with pytest.raises(QCompilerError, match="unknown rounding 'half-odd'"):
        resolve("quantize", "affine", {"rounding": "half-odd"})
