"""Powers of two as scales, and the intervals that lose the least squared error."""

from __future__ import annotations

from typing import Any

import models
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import qcompiler
from qcompiler.calibration.observers import MinMax, SquaredError
from qcompiler.calibration.power_of_two import best_power_of_two, squared_error
from qcompiler.ir import Affine, Graph, walk

SEEDS = st.integers(0, 2**32 - 1)


@given(seed=SEEDS, grid=st.sampled_from([(), (8, 3), (1, 3), (4, 1)]))
def test_no_power_of_two_nearby_errs_less(seed: int, grid: tuple[int, ...]) -> None:
    rng = np.random.default_rng(seed)
    weights = (rng.standard_t(2, (8, 3)) * 2.0 ** rng.integers(-9, 9)).astype(np.float32)
    counts = tuple(n // b for n, b in zip(weights.shape, grid, strict=True)) if grid else ()
    widest = np.full(counts, 2.0 ** np.ceil(np.log2(np.abs(weights).max() / 127)), np.float32)
    best = best_power_of_two(weights, widest, grid, -128, 127)
    assert best.shape == counts
    least = squared_error(weights, best, grid, -128, 127)
    for step in range(4):
        other = (widest * np.float32(2.0**-step)).astype(np.float32)
        assert (least <= squared_error(weights, other, grid, -128, 127)).all()


def test_one_large_weight_saturates() -> None:
    """A step for the outlier alone would lose all others."""
    weights = np.append(np.random.default_rng(0).uniform(-1, 1, 10_000), 1.1).astype(np.float32)
    widest = np.asarray(2.0**-6, np.float32)
    assert float(best_power_of_two(weights, widest, (), -127, 127)) == 2.0**-7


def true_error(x: np.ndarray, low: float, high: float, steps: int) -> float:
    step = (high - low) / steps
    rounded = np.clip(np.rint(x / step) * step, low, high)
    return float(np.square(x - rounded).sum())


@given(seed=SEEDS, tail=st.sampled_from([1.5, 3.0, 30.0]), one_sided=st.booleans())
def test_the_interval_errs_little_more_than_the_best_one(seed: int, tail: float, one_sided: bool) -> None:
    """Against a search over the numbers themselves; the bins and the even spread of rounding errors cost something."""
    rng = np.random.default_rng(seed)
    x = rng.standard_t(tail, 4000)
    x = np.abs(x) if one_sided else x
    observer = SquaredError()
    for part in np.array_split(x.astype(np.float32), 7):
        observer.update(part)
    low, high = observer.best_interval(255)
    full = MinMax()
    full.update(x.astype(np.float32))
    assert observer.interval() == full.interval()
    lowest, highest = min(full.interval()[0], 0.0), max(full.interval()[1], 0.0)
    fractions = np.exp2(-np.arange(0, 25) / 8)
    ends = [(a, b) for a in (lowest * fractions if lowest else [0.0]) for b in highest * fractions]
    best = min(true_error(x, a, b, 255) for a, b in ends)
    assert true_error(x, min(low, 0.0), max(high, 0.0), 255) <= 1.5 * best


def test_an_interval_without_a_tail_stays_whole() -> None:
    x = np.random.default_rng(3).uniform(-2, 5, 5000).astype(np.float32)
    observer = SquaredError()
    observer.update(x)
    low, high = observer.best_interval(255)
    assert low == pytest.approx(x.min(), rel=0.1)
    assert high == pytest.approx(x.max(), rel=0.05)


def test_memory_does_not_grow_with_the_samples() -> None:
    observer = SquaredError()
    sizes = []
    for _ in range(3):
        observer.update(np.random.default_rng(0).normal(0, 1, 10_000).astype(np.float32))
        sizes.append(sum(getattr(v, "nbytes", 8) for v in vars(observer).values()))
    assert len(set(sizes)) == 1


def scales(graph: Graph) -> list[np.ndarray]:
    types = [value.type.elem for node in walk(graph) for value in node.results]
    return [elem.scale.array for elem in types if isinstance(elem, Affine)]


@pytest.mark.parametrize("target", ["dpu-pot8", "esp32-p4", "esp32-s3"])
@pytest.mark.parametrize("name", ["residual_cnn", "branching_net", "pooling_net"])
def test_every_scale_of_a_program_is_a_power_of_two(target: str, name: str) -> None:
    program = qcompiler.compile(models.model(name), target=target, data=models.samples(name, 20))
    found: list[Any] = scales(program.graph)
    assert found
    assert all((np.frexp(array)[0] == 0.5).all() for array in found)
    assert program.coverage.host_nodes == 0
