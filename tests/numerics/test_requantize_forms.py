"""The requantization forms, against fractions: all small accumulators with their ties, then random ones."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numerics.exact_arithmetic import FORMS, ROUNDINGS, ratio_of
from qcompiler.errors import QCompilerError
from qcompiler.numerics import ARITHMETIC, Quantization, requantize, requantize_form
from qcompiler.numerics.requantize_forms import PowerOfTwo
from qcompiler.numerics.rounding import SHIFT_ROUNDINGS

NAMES = sorted(name for op, name in ARITHMETIC if op == "requantize")
POWERS_OF_TWO = [2.0**e for e in (-14, -5, -3, -2, -1, 0, 1, 4)]
# Ties that no power of two has: 3 * x / 8. The others are beside ties, above 1, and close to 1 from below.
OTHERS = [0.375, 0.3, 1 / 3, 0.0078125 * 1.0000001, 5.75, 1 - 2.0**-26, 1e-4]


def fraction(x: object) -> Fraction:
    return Fraction(float(np.asarray(x)))


def scale_all(name: str, x: np.ndarray, ratio: float) -> list[int]:
    form = requantize_form(name)
    return [int(v) for v in form.scale(x, form.from_ratio(np.asarray(ratio)))]


def test_every_form_has_an_exact_definition_here() -> None:
    assert set(FORMS) == set(NAMES)


@pytest.mark.parametrize("ratio", POWERS_OF_TWO + OTHERS)
@pytest.mark.parametrize("name", NAMES)
def test_all_small_accumulators(name: str, ratio: float) -> None:
    if name == "shift" and ratio in OTHERS:
        with pytest.raises(QCompilerError, match="power of two"):
            requantize_form(name).from_ratio(np.asarray(ratio))
        return
    x = np.arange(-600, 601)
    assert scale_all(name, x, ratio) == [FORMS[name](int(v), Fraction(ratio)) for v in x]


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"shift"}))
@given(data=st.data())
def test_random_accumulators(name: str, data: st.DataObject) -> None:
    ratio = data.draw(st.floats(2.0**-33, 60))
    # Shifted by a ratio above 1, the accumulator must stay within 32 bits.
    limit = int((2**31 - 1) / max(2 ** np.ceil(np.log2(ratio) + 1), 1))
    x = data.draw(st.lists(st.integers(-limit, limit), min_size=1, max_size=20))
    assert scale_all(name, np.asarray(x), ratio) == [FORMS[name](v, Fraction(ratio)) for v in x]


@pytest.mark.parametrize("rounding", sorted(SHIFT_ROUNDINGS))
@given(x=st.integers(-(2**31), 2**31 - 1), exponent=st.integers(-31, 8))
def test_shift_with_every_rounding(rounding: str, x: int, exponent: int) -> None:
    form = PowerOfTwo(rounding)
    found = form.scale(np.asarray(x), form.from_ratio(np.asarray(2.0**exponent)))
    assert int(found) == ROUNDINGS[rounding](x * Fraction(2) ** exponent)


@pytest.mark.parametrize("rounding", sorted(SHIFT_ROUNDINGS))
@given(x=st.integers(-(2**61 - 1), 2**61 - 1), exponent=st.integers(-280, -40))
def test_shifts_that_leave_nothing(rounding: str, x: int, exponent: int) -> None:
    """Channels of tiny weights are shifted far: beyond what 64 bits, and the 8 bits of a shift, can say."""
    form = PowerOfTwo(rounding)
    found = form.scale(np.asarray(x), form.from_ratio(np.asarray(2.0**exponent)))
    assert int(found) == ROUNDINGS[rounding](x * Fraction(2) ** exponent)


@pytest.mark.parametrize("name", NAMES)
@given(exponent=st.integers(-20, 100), fraction=st.floats(1, 1.99), share=st.floats(-1, 1))
def test_the_largest_operand_is_scaled_exactly(name: str, exponent: int, fraction: float, share: float) -> None:
    """No form takes an operand whose product or shift leaves the 64 bits in which it is computed."""
    form = requantize_form(name)
    ratio = 2.0**exponent * (1.0 if name == "shift" else fraction)
    constants = form.from_ratio(np.asarray(ratio))
    largest = form.largest_operand(constants)
    if largest is None:  # floats
        assert name in ("float-rne", "float64-away")
        return
    for x in {int(largest), -int(largest), int(share * int(largest))}:
        assert int(form.scale(np.asarray(x), constants)) == FORMS[name](x, Fraction(ratio))


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"shift"}))
@given(scales=st.tuples(*[st.floats(2.0**-12, 4, width=32)] * 3))
def test_order_and_width_of_scale_products(name: str, scales: tuple[float, float, float]) -> None:
    first, second, output = (np.float32(s) for s in scales)
    found = requantize_form(name).ratio([np.asarray(first), np.asarray(second)], np.asarray(output))
    assert fraction(found) == ratio_of(name, [fraction(first), fraction(second)], fraction(output))


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"shift"}))
def test_constants_stand_for_their_ratio(name: str) -> None:
    form = requantize_form(name)
    ratio = np.array([2.0**-20, 0.3, 1.0, 7.5])
    np.testing.assert_allclose(form.to_ratio(form.from_ratio(ratio)), ratio, rtol=2.0**-24)


@pytest.mark.parametrize("name", NAMES)
def test_zero_points_and_saturation(name: str) -> None:
    form = requantize_form(name)
    source = Quantization(np.asarray(1, np.float32), np.asarray(5), -(2**31), 2**31 - 1)
    output = Quantization(np.asarray(4, np.float32), np.asarray(-9), -128, 127)
    x = np.arange(-700, 700)
    found = requantize(form, x, form.constants([source.scale], output.scale), source, output)
    expected = [max(-128, min(127, FORMS[name](int(v) - 5, Fraction(1, 4)) - 9)) for v in x]
    assert found.tolist() == expected
    assert (found.min(), found.max()) == (-128, 127)


def test_one_multiplier_for_each_channel() -> None:
    form = requantize_form("double")
    ratios = np.array([0.5, 0.3, 2.0**-7, 1.5])
    x = np.arange(-600, 600).reshape(-1, 4)
    found = form.scale(x, form.from_ratio(ratios))
    for channel, ratio in enumerate(ratios):
        assert found[:, channel].tolist() == [FORMS["double"](int(v), Fraction(ratio)) for v in x[:, channel]]
