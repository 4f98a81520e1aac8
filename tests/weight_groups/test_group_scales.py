"""The search for scales and multipliers of weights in groups."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.calibration.group_scales import few_mantissa_bits, group_scales
from qcompiler.ir.types import spread_blocks

LIMITS = (-8, 7)


def rounded(weights: np.ndarray, scale: np.ndarray, blocks: tuple[int, ...]) -> np.ndarray:
    steps = spread_blocks(scale, weights.shape, blocks).astype(np.float64)
    return np.asarray(np.clip(np.rint(weights / steps), *LIMITS) * steps)


@given(
    seed=st.integers(0, (1 << 32) - 1), length=st.integers(1, 7), axis=st.integers(0, 1),
    exponent=st.integers(-60, 60), multipliers=st.sampled_from([(1, 15), (1, 1), (3, 7), (1, 255)]),
)
@settings(max_examples=20)
def test_scales_are_exact_multiples(
    seed: int, length: int, axis: int, exponent: int, multipliers: tuple[int, int]
) -> None:
    """Of one float32 a channel, whatever the weights; in float64, where products are exact."""
    rng = np.random.default_rng(seed)
    weights = np.ldexp(rng.normal(0, 1, (7, 7)) * rng.lognormal(0, 1, (7, 7)), exponent).astype(np.float32)
    weights[:, 2], weights[3] = 0, rng.choice([0, 1]) * weights[3]
    blocks = (1, length) if axis == 0 else (length, 1)
    scale, found = group_scales(weights, blocks, axis, LIMITS, multipliers)
    grid = (7, -(-7 // length)) if axis == 0 else (-(-7 // length), 7)
    assert scale.dtype == np.float32
    assert found.dtype == np.uint8
    assert scale.shape == found.shape == grid
    assert multipliers[0] <= found.min()
    assert found.max() <= multipliers[1]
    base = scale.astype(np.float64) / found
    first = base[:, :1] if axis == 0 else base[:1]
    assert (base == first).all()
    assert (first.astype(np.float32) == first).all()
    assert (scale > 0).all()


def test_weights_on_such_a_grid_are_found_again() -> None:
    """Integers that use the whole range, with multipliers that have no common divisor, lose nothing."""
    rng = np.random.default_rng()
    multipliers = np.array([[15, 7, 4, 1]] * 5)
    integers = rng.integers(-8, 8, (5, 4, 16))
    integers[:, :, 0], integers[:, :, 1] = -8, 7
    weights = (integers * multipliers[..., None] * 0.03125).reshape(5, 64)
    scale, _ = group_scales(weights, (1, 16), 0, LIMITS, (1, 15))
    error = np.square(rounded(weights, scale, (1, 16)) - weights).sum() / np.square(weights).sum()
    assert error < 1e-4


@pytest.mark.parametrize("weighted", [False, True])
def test_the_search_is_near_the_best(weighted: bool) -> None:
    """A finer search over all scales and every multiplier gains little, over many channels."""
    rng = np.random.default_rng(5)
    weights = rng.normal(0, 1, (30, 40)) * np.repeat(rng.lognormal(0, 0.7, (30, 5)), 8, 1)
    importance = rng.lognormal(0, 1, (30, 40)) if weighted else np.ones((30, 40))
    scale, _ = group_scales(weights, (1, 8), 0, LIMITS, (1, 15), importance if weighted else None)
    found = (importance * np.square(rounded(weights, scale, (1, 8)) - weights)).sum()
    best = 0.0
    for channel, counts in zip(weights, importance, strict=True):
        cut = channel.reshape(5, 1, 1, 8)
        steps = np.geomspace(np.abs(channel).max() / 240, np.abs(channel).max() / 7, 200)[:, None] * np.arange(1, 16)
        values = np.clip(np.rint(cut / steps[..., None]), *LIMITS) * steps[..., None]
        best += (counts.reshape(5, 1, 1, 8) * np.square(values - cut)).sum(3).min(2).sum(0).min()
    assert found <= 1.04 * best


def test_groups_serve_unequal_weights() -> None:
    """Groups of very different size: one scale for the channel errs far more."""
    rng = np.random.default_rng()
    weights = rng.normal(0, 1, (8, 64)) * np.repeat(rng.choice([0.1, 1.0], (8, 4)), 16, 1)
    errors = []
    for length in (16, 64):
        scale, _ = group_scales(weights, (1, length), 0, LIMITS, (1, 15))
        errors.append(np.square(rounded(weights, scale, (1, length)) - weights).sum())
    assert errors[0] < 0.7 * errors[1]


def test_channels_of_zeros_take_the_largest_scale() -> None:
    weights = np.array([[0.0, 0.0], [1.0, -3.0], [0.1, 0.2]])
    scale, multipliers = group_scales(weights, (1, 2), 0, LIMITS, (2, 15))
    base = scale / multipliers
    assert multipliers[0] == 2
    assert base[0] == base.max()
    scale, multipliers = group_scales(np.zeros((2, 3)), (1, 3), 0, LIMITS, (1, 15))
    assert (scale == 1).all()


@given(
    scale=st.floats(2.0**-100, 2.0**100), multiplier=st.integers(1, 255), largest=st.sampled_from([1, 15, 16, 255]),
    up=st.booleans(),
)
def test_products_with_multipliers_are_exact(scale: float, multiplier: int, largest: int, up: bool) -> None:
    multiplier = min(multiplier, largest)
    (found,) = few_mantissa_bits(np.array([scale]), largest, up=up)
    assert float(np.float32(found * multiplier)) == float(found) * multiplier
    assert abs(found - scale) <= scale * 2.0 ** (largest.bit_length() - 23)
    assert not up or found >= scale
