"""Integer softmax, against Python integers and against the real function."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from numerics.exact_kernels import exact_softmax
from qcompiler.errors import QCompilerError
from qcompiler.numerics import Quantization, resolve

RULE = resolve("softmax", "gemmlowp-softmax")
OUTPUT = Quantization(np.asarray(1 / 256, np.float32), np.asarray(-128), -128, 127)


def softmax(x: np.ndarray, scale: float) -> np.ndarray:
    source = Quantization(np.asarray(scale, np.float32), np.asarray(0), -128, 127)
    result: np.ndarray = RULE.apply(x, OUTPUT, RULE.constants(source, OUTPUT))
    return result


def rows(rng: np.random.Generator, length: int) -> np.ndarray:
    """Random rows, equal rows, one winner at each end, and ties between winners."""
    random = rng.integers(-128, 128, (12, length))
    equal = np.repeat(np.array([[-128], [0], [127]]), length, 1)
    winners = np.full((2, length), -128)
    winners[0, 0] = winners[1, -1] = 127
    tied = np.where(np.arange(length) % 2, 100, -100)[None]
    return np.concatenate([random, equal, winners, tied])


@pytest.mark.parametrize("scale", [2.0**-20, 0.001, 0.02, 0.1, 0.5, 1.0, 3.7])
@pytest.mark.parametrize("length", [1, 2, 7, 40])
def test_rows(length: int, scale: float) -> None:
    x = rows(np.random.default_rng(length), length)
    exact_scale = Fraction(float(np.float32(scale)))
    found = softmax(x, scale)
    assert found.tolist() == [exact_softmax([int(v) for v in row], exact_scale) for row in x]


@pytest.mark.parametrize("scale", [0.001, 0.02, 0.1, 0.5])
def test_within_one_step_of_the_real_function(scale: float) -> None:
    x = rows(np.random.default_rng(1), 60)
    exponentials = np.exp(scale * (x - x.max(-1, keepdims=True)))
    real = exponentials / exponentials.sum(-1, keepdims=True)
    expected = np.clip(real * 256 - 128, -128, 127)
    assert np.abs(softmax(x, scale) - expected).max() <= 1


def test_leading_axes_do_not_mix() -> None:
    x = np.random.default_rng(2).integers(-128, 128, (3, 4, 9))
    found = softmax(x, 0.05)
    for index in np.ndindex(3, 4):
        assert found[index].tolist() == softmax(x[index][None], 0.05)[0].tolist()


@pytest.mark.parametrize(
    ("source", "output", "message"), [(0.1, 1 / 128, "fixed output scale"), (2.0**-26, 1 / 256, "so small")]
)
def test_scales_outside_its_domain(source: float, output: float, message: str) -> None:
    quantizations: list[Any] = [
        Quantization(np.asarray(s, np.float32), np.asarray(0), -128, 127) for s in (source, output)
    ]
    with pytest.raises(QCompilerError, match=message):
        RULE.constants(*quantizations)
