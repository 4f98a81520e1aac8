"""Integer bilinear resizing, against Python integers."""

from __future__ import annotations

import numpy as np
import pytest

from numerics.exact_kernels import exact_resize
from qcompiler.numerics import Quantization, resolve

RULE = resolve("resize", "litert-resize-bilinear")
OUTPUT = Quantization(np.asarray(0.1, np.float32), np.asarray(7), -128, 127)
MODES = [(True, False), (False, True), (False, False)]
SIZES = [((5, 7), (11, 13)), ((4, 4), (8, 8)), ((9, 6), (4, 3)), ((3, 5), (1, 1)), ((1, 1), (3, 4)), ((2, 9), (6, 2))]


@pytest.mark.parametrize(("half_pixel", "align_corners"), MODES)
@pytest.mark.parametrize(("before", "after"), SIZES, ids=str)
def test_random_images(
    before: tuple[int, int], after: tuple[int, int], half_pixel: bool, align_corners: bool
) -> None:
    x = np.random.default_rng(before).integers(-128, 128, (2, *before, 2))
    found = RULE.apply(x, after, OUTPUT, half_pixel, align_corners)
    for sample in range(2):
        for channel in range(2):
            expected = exact_resize(x[sample, :, :, channel].tolist(), *after, half_pixel, align_corners)
            assert found[sample, :, :, channel].tolist() == expected


@pytest.mark.parametrize(("half_pixel", "align_corners"), MODES)
def test_constant_images_stay_and_equal_sizes_copy(half_pixel: bool, align_corners: bool) -> None:
    for value in (-128, 127):
        constant = np.full((1, 3, 4, 1), value)
        assert set(RULE.apply(constant, (7, 5), OUTPUT, half_pixel, align_corners).reshape(-1).tolist()) == {value}
    x = np.random.default_rng(0).integers(-128, 128, (1, 5, 6, 3))
    np.testing.assert_array_equal(RULE.apply(x, (5, 6), OUTPUT, half_pixel, align_corners), x)


def test_ties_round_away_from_zero() -> None:
    """Halfway between neighbours that differ by 1: both signs."""
    x = np.array([[-4, -3], [3, 4]]).reshape(1, 2, 2, 1)
    found = RULE.apply(x, (2, 4), OUTPUT, False, False)
    assert found[0, :, 1, 0].tolist() == [-4, 4]
