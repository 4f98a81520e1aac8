"""Every op that a legalized program may hold, over random shapes and parameters: native code equals the reference.

A seed stands for a whole graph of many ops, since building a library costs more than running it. The seed of a
failure is printed and tried again first the next time.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import contraction_cases
import elementwise_cases
import movement_cases
import numpy as np
import pytest
import reduction_cases
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from native_comparison import assert_native_equals_reference
from op_writer import OpWriter

from qcompiler.backends.tvm.selection import runnable_instruction_sets
from qcompiler.ir import SymbolicDim, verify

ISAS = runnable_instruction_sets()
BATCHES = (SymbolicDim("N"), SymbolicDim("N"), SymbolicDim("batch", 4), 1, 4)

seeds = st.integers(0, (1 << 32) - 1)
examples: Callable[..., Any] = settings(
    phases=[Phase.explicit, Phase.reuse, Phase.generate], max_examples=3, deadline=None, derandomize=False,
    suppress_health_check=list(HealthCheck),
)


def check(cases: Sequence[Any], seed: int, count: int) -> None:
    """A graph of ``count`` random cases."""
    rng = np.random.default_rng(seed)
    w = OpWriter(rng, BATCHES[rng.integers(len(BATCHES))])
    for _ in range(count):
        w.add_case(cases[rng.integers(len(cases))])
    graph = w.finish()
    verify(graph)
    samples = (1,) if isinstance(w.batch, int) else (1, 3)
    with tempfile.TemporaryDirectory() as folder:
        assert_native_equals_reference(graph, w.feeds, ISAS, Path(folder), samples=samples)


@pytest.mark.parametrize("part", range(3))
@examples
@given(seed=seeds)
def test_contractions(part: int, seed: int) -> None:
    check(contraction_cases.CASES, seed, 5)


@pytest.mark.parametrize("part", range(2))
@examples
@given(seed=seeds)
def test_elementwise_ops(part: int, seed: int) -> None:
    check(elementwise_cases.CASES, seed, 8)


@examples
@given(seed=seeds)
def test_every_requantize_form(seed: int) -> None:
    check([elementwise_cases.every_form], seed, 1)


@examples
@given(seed=seeds)
def test_pools_reductions_and_softmax(seed: int) -> None:
    check(reduction_cases.CASES, seed, 8)


@examples
@given(seed=seeds)
def test_movement(seed: int) -> None:
    check(movement_cases.CASES, seed, 10)
