"""A batch of 7 samples gives what seven batches of one give: every mantissa and every exponent of every value."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from models import ModelWriter
from numpy.typing import NDArray
from random_networks import random_inputs, random_network

from qcompiler.backends import reference
from qcompiler.compilation import compile
from qcompiler.ir import Graph, SymbolicDim, Value
from qcompiler.ir.op import Tensor
from qcompiler.target import built_in_targets, load_target

TARGETS = [name for name in sorted(built_in_targets()) if load_target(name).has_blocks]
SEEDS = (1, 8, 26, 54)
"""Networks with splits, functions of inputs, products of computed values; none resizes linearly."""
SAMPLES = 7


def unlike_samples(feeds: dict[str, NDArray[Any]], seed: int) -> dict[str, NDArray[Any]]:
    """Samples of different magnitudes, so that each has exponents of its own; one of zeros, one with an outlier."""
    rng = np.random.default_rng(seed)
    found = {}
    for name, array in feeds.items():
        factors = np.array([1, 0, 2.0**-40, 300, 1, 2.0**-9, 7]).reshape(-1, *[1] * (array.ndim - 1))
        scaled = (array * factors).astype(array.dtype)
        scaled[4].flat[int(rng.integers(scaled[4].size))] *= 1000
        found[name] = scaled
    return found


def batch_axis(value: Value) -> int:
    """The axis that runs over the samples."""
    return next(i for i, d in enumerate(value.type.shape) if isinstance(d, SymbolicDim))


def compare(graph: Graph, feeds: dict[str, NDArray[Any]]) -> None:
    """Run a batch and its samples alone, and compare every value that carries samples.

    Raises:
        AssertionError: some mantissa or exponent differs, or hardly any value has exponents.
    """
    together: dict[Value, Tensor] = {}
    alone: list[dict[Value, Tensor]] = [{} for _ in range(SAMPLES)]
    reference.run(graph, feeds, together.__setitem__)
    for i, seen in enumerate(alone):
        reference.run(graph, {name: array[i : i + 1] for name, array in feeds.items()}, seen.__setitem__)
    blocks = 0
    for value, tensor in together.items():
        if not value.type.carries_batch:
            continue
        axis = batch_axis(value)
        parts = [seen[value] for seen in alone]
        joined = np.concatenate([p.data for p in parts], axis)
        np.testing.assert_array_equal(tensor.data, joined, err_msg=str(value), strict=True)
        if tensor.exponents is not None:
            exponents = np.concatenate([p.exponents for p in parts if p.exponents is not None], axis)
            np.testing.assert_array_equal(tensor.exponents, exponents, err_msg=str(value), strict=True)
            blocks += 1
    assert blocks > 2


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("seed", SEEDS)
def test_samples_do_not_see_each_other(target: str, seed: int) -> None:
    model = random_network(seed)
    graph = compile(model, target=target, data=random_inputs(model, 8, seed), native=False).graph
    compare(graph, unlike_samples(random_inputs(model, SAMPLES, seed + 1), seed))


@pytest.mark.parametrize("target", TARGETS)
def test_several_rows_a_sample(target: str) -> None:
    """A reshape to ``[-1, 12]`` puts the rows of all samples into one dimension; each sample keeps its exponents."""
    w = ModelWriter(3)
    x = w.node("Reshape", "x", w.constant([-1, 12], np.int64))
    y = w.node("Relu", w.node("MatMul", x, w.normal(12, 5)))
    z = w.node("Softmax", w.node("MatMul", y, w.normal(5, 4)), axis=-1)
    model = w.model({"x": ["batch", 6, 12]}, [z])
    feeds = {"x": np.random.default_rng(4).normal(0, 1, (SAMPLES, 6, 12)).astype(np.float32)}
    compare(compile(model, target=target, data=feeds, native=False).graph, unlike_samples(feeds, 4))
