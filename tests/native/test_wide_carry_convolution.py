"""Chunks of terms that int32 holds, whatever the activations are, and the carries between them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_harness import NO_PRODUCTS, isa_fixture, run_kernel
from numpy.typing import NDArray

from qcompiler.backends.tvm.instruction_set import INSTRUCTION_SETS, InstructionSet
from qcompiler.backends.tvm.kernels.contraction import Tile
from qcompiler.backends.tvm.kernels.contraction_weights import pack_constants
from qcompiler.backends.tvm.kernels.epilogue import Epilogue
from qcompiler.backends.tvm.kernels.wide_carry_convolution import LARGEST_CHUNK, CarryConvolution, chunk_constants
from qcompiler.backends.tvm.kernels.wide_kernel import WideKernel

isa = isa_fixture(but=NO_PRODUCTS)

LOWEST, HIGHEST = -(1 << 15), (1 << 15) - 1
ONE = Tile(1, 1)


def product(terms: int, outputs: int, rows: int = 1, tile: Tile = ONE) -> CarryConvolution:
    return CarryConvolution(
        1, rows, terms, outputs, (1, 1), (1, 1), (1, 1), (0, 0, 0, 0), 1, "int16", Epilogue((), (), "int32"), tile
    )


def test_a_chunk_leaves_room_for_what_is_left_over() -> None:
    """The largest chunk, on top of all low bits, stays within int32; a larger one may not."""
    left_over = (1 << 16) - 1
    assert left_over + LARGEST_CHUNK * (1 << 15) < 1 << 31 <= left_over + (LARGEST_CHUNK + 1) * (1 << 15)


@settings(max_examples=25, deadline=None)
@given(
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)), groups=st.integers(1, 3), each=st.integers(1, 9),
    dilated=st.booleans(), spread=st.sampled_from([50, 2000, 12000]), seed=st.integers(0, 1 << 32),
)
def test_chunks_cover_every_step_once_and_never_exceed_the_largest(
    kernel: tuple[int, int], groups: int, each: int, dilated: bool, spread: int, seed: int
) -> None:
    wide = INSTRUCTION_SETS["avx512-vnni"].wide
    rng = np.random.default_rng(seed)
    convolution = CarryConvolution(
        9, 9, groups * each, 2 * groups, kernel, (1, 1), (1, 1 + dilated), (0, 0, 0, 0), groups, "int16",
        Epilogue((), (), "int32"), Tile(1, 1),
    )
    weights = np.clip(rng.laplace(0, spread, (2 * groups, *kernel, each)), LOWEST, HIGHEST).astype(np.int16)
    found = chunk_constants(convolution, wide, weights)
    runs = convolution.window_rows * convolution.runs
    rows = np.abs(weights.astype(np.int64)).reshape(2 * groups, runs, -1)
    pairs = [[rows[:, run, k : k + 2].sum(axis=1) for k in range(0, rows.shape[2], 2)] for run in range(runs)]
    if found is None:
        assert max(int(pair.max()) for run in pairs for pair in run) > LARGEST_CHUNK
        return
    starts, chunks = found["chunk_starts"], found["chunks"].reshape(-1, 2)
    assert starts[0] == 0
    for run in range(runs):
        own = chunks[starts[run] : starts[run + 1]].tolist()
        assert [step for first, last in own for step in range(first, last)] == list(range(len(pairs[run])))
        for index, (first, last) in enumerate(own):
            total = sum(pairs[run][first:last])
            assert np.max(total) <= LARGEST_CHUNK
            # As long as can be.
            assert index == len(own) - 1 or np.max(total + pairs[run][last]) > LARGEST_CHUNK


@pytest.mark.parametrize("tile", [ONE, Tile(4, 2)], ids=str)
def test_chunks_that_are_full(isa: InstructionSet, tile: Tile) -> None:
    """Weights fill their chunks to the last unit, and activations reach the ends of every sum."""
    terms, outputs, rows, rng = 24, 35, 11, np.random.default_rng()
    halves = rng.integers(1, LARGEST_CHUNK // 2, (outputs, 1, 1, terms // 2))
    weights = np.stack([halves, np.minimum(LARGEST_CHUNK - halves, HIGHEST)], axis=-1).reshape(outputs, 1, 1, terms)
    weights = (weights * rng.choice([-1, 1], (outputs, 1, 1, 1))).astype(np.int16)
    weights[0, ..., ::2], weights[0, ..., 1::2] = -HIGHEST, HIGHEST - 1
    kernel = product(terms, outputs, rows, tile)
    chunks = chunk_constants(kernel, isa.wide, weights)
    assert chunks is not None
    assert chunks["chunk_starts"][-1] >= terms // 2
    x: NDArray[np.int16] = rng.choice([LOWEST, HIGHEST, -1, 1], (rows, terms)).astype(np.int16)
    x[0], x[1], x[2] = LOWEST, HIGHEST, np.where(np.arange(terms) < 2, -1, np.sign(weights[1, 0, 0]) * HIGHEST)
    y = np.zeros((2, rows, outputs), np.int32)
    packed = pack_constants(kernel, isa.wide, weights, np.zeros(outputs, np.int32), 0)
    run_kernel(WideKernel(kernel), isa, {"x": x, **packed, **chunks, "y": y})
    assert y[0].min() >= 0
    assert y[0].max() < 1 << 16
    expected = x.astype(np.int64) @ weights[:, 0, 0].T.astype(np.int64)
    np.testing.assert_array_equal((y[1].astype(np.int64) << 16) + y[0], expected)


def test_a_step_that_exceeds_a_chunk(isa: InstructionSet) -> None:
    weights = np.full((3, 1, 1, 4), LOWEST, np.int16)
    found = chunk_constants(product(4, 3), isa.wide, weights)
    assert (found is None) == (isa.wide.group == 2)
