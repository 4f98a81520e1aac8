"""Weights as digits: they stand for the same numbers, and sums of products stay within int32."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from qcompiler.backends.tvm.kernels.weight_digits import split_into_digits
from qcompiler.errors import QCompilerError

LOWEST, HIGHEST = -(1 << 15), (1 << 15) - 1


def checked_split(weights: NDArray[np.int16]) -> tuple[int, NDArray[Any]]:
    """The digits, once it is certain that no activations take a sum of products with them out of int32."""
    base_bits, digits = split_into_digits(weights)
    assert digits.dtype == np.int16
    assert digits.shape[1:] == weights.shape
    wide = digits.astype(np.int64)
    np.testing.assert_array_equal(
        sum(digit << (base_bits * place) for place, digit in enumerate(wide)), weights.astype(np.int64)
    )
    # The worst activations for each sum, and for its negative: they take every partial sum farther than any others.
    for digit in wide.reshape(len(wide), len(weights), -1):
        farthest = np.where(digit > 0, LOWEST, HIGHEST) * digit
        assert farthest.sum(axis=1).min(initial=0) >= -(1 << 31)
        assert (np.where(digit > 0, HIGHEST, LOWEST) * digit).sum(axis=1).max(initial=0) <= (1 << 31) - 1
    assert base_bits * (len(digits) - 1) <= 16, "beyond what CombineDigits promises"
    return base_bits, digits


@pytest.mark.parametrize("fill", [LOWEST, HIGHEST, 127, 128, -128, -129, 0, 1, -1])
@pytest.mark.parametrize("terms", [1, 2, 9, 511, 4608, 20_000])
def test_equal_weights(fill: int, terms: int) -> None:
    checked_split(np.full((3, terms), fill, np.int16))


@pytest.mark.parametrize(
    ("weights", "count"),
    [
        (np.zeros((4, 0)), 1),
        (np.zeros((4, 20_000)), 1),
        (np.full((4, 9), 7281), 1),
        (np.full((4, 9), 7282), 2),
        (np.array([[HIGHEST, LOWEST]]), 1),
        (np.array([[HIGHEST, LOWEST, 1]]), 2),
        (np.full((1, 511), LOWEST), 2),
        (np.full((1, 3), LOWEST), 2),
        (np.repeat([[LOWEST, -128]], 511, axis=1), 2),
        (np.repeat([[LOWEST, -128]], 513, axis=1), 3),
    ],
    ids=str,
)
def test_as_few_digits_as_possible(weights: NDArray[Any], count: int) -> None:
    assert len(checked_split(weights.astype(np.int16))[1]) == count


def test_one_large_channel_decides_for_all() -> None:
    rng = np.random.default_rng(1)
    weights = rng.integers(-3, 4, (64, 3, 3, 64)).astype(np.int16)
    assert len(checked_split(weights)[1]) == 1
    weights[17] = rng.choice([LOWEST, HIGHEST], weights[17].shape)
    assert len(checked_split(weights)[1]) == 2


def test_weights_of_trained_layers_have_two_digits_of_eight_bits() -> None:
    rng = np.random.default_rng(2)
    for shape in ((16, 3, 3, 16), (64, 3, 3, 64), (96, 3, 3, 1)):
        weights = np.clip(rng.normal(0, 9000, shape), LOWEST, HIGHEST).astype(np.int16)
        base_bits, digits = checked_split(weights)
        assert (base_bits, len(digits)) == (8, 2)


@given(
    st.integers(1, 5), st.integers(1, 3000), st.sampled_from([1, 40, 128, 3000, 1 << 15]), st.integers(0, 1 << 32)
)
def test_any_weights(outputs: int, terms: int, size: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    weights = rng.integers(-size, size, (outputs, terms))
    weights[rng.random(weights.shape) < rng.choice([0, 0.5])] = rng.choice([-size, size - 1, 0])
    checked_split(weights.astype(np.int16))


def test_too_many_terms_are_refused() -> None:
    assert len(checked_split(np.ones((2, 65_535), np.int16))[1]) == 1
    weights = np.ones((2, 65_536), np.int16)
    weights[1] = HIGHEST
    with pytest.raises(QCompilerError, match="up to 65536"):
        split_into_digits(weights)
