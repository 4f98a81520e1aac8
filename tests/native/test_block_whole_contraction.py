"""Contractions of block floating point with one exponent a sample: native code equals the reference, bit for bit."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from kernel_harness import NO_LOOKUPS
from native_comparison import assert_native_equals_reference
from whole_contraction_cases import (
    COMMON,
    HIGHEST,
    LOWEST,
    RARE,
    ROUNDINGS,
    Array,
    N,
    Written,
    computed_matrices,
)

from qcompiler.backends.tvm.graph_lowering import lower_program
from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.kernel_cache import KernelCache
from qcompiler.backends.tvm.kernel_program import NoLowering
from qcompiler.backends.tvm.selection import runnable_instruction_sets
from qcompiler.ir import Arithmetic, verify
from qcompiler.numerics.block_format import BlockFormat
from qcompiler.ops.activation import Clip, Relu
from qcompiler.ops.contraction import Conv2D, Matmul

ISAS = [isa for isa in runnable_instruction_sets() if isa.name not in NO_LOOKUPS]
FIXED = Arithmetic.parse("fixed-point")

seeds = st.integers(0, (1 << 32) - 1)
every_isa = pytest.mark.parametrize("isa", ISAS, ids=lambda isa: isa.name)


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> KernelCache:
    return KernelCache(tmp_path_factory.mktemp("kernels"))


def examples(count: int) -> settings:
    """A test of ``count`` fresh seeds; there is nothing to shrink in a seed."""
    phases = [Phase.explicit, Phase.reuse, Phase.generate]
    return settings(phases=phases, max_examples=count, deadline=None, suppress_health_check=list(HealthCheck))


def check(
    w: Written, isas: Sequence[InstructionSet], kernels: KernelCache | None = None,
    feeds_of: Callable[[int], dict[str, Array]] | None = None, samples: Sequence[int] = (1, 12),
) -> None:
    graph = w.finish()
    verify(graph)
    with tempfile.TemporaryDirectory() as folder:
        assert_native_equals_reference(
            graph, feeds_of or w.feeds, isas, Path(folder), samples=samples if w.batch == N else (1,), kernels=kernels
        )


@every_isa
@examples(1)
@given(seed=seeds)
def test_common_contractions(isa: InstructionSet, seed: int, kernels: KernelCache) -> None:
    w = Written(np.random.default_rng(seed))
    for case in COMMON:
        case(w)
    check(w, [isa], kernels)


@examples(1)
@given(seed=seeds)
def test_rare_contractions(seed: int, kernels: KernelCache) -> None:
    w = Written(np.random.default_rng(seed))
    for case in RARE:
        case(w)
    check(w, [w.pick(*ISAS)], kernels)


@examples(1)
@given(seed=seeds)
def test_a_fixed_batch(seed: int, kernels: KernelCache) -> None:
    """One program for three samples, each with its exponent."""
    w = Written(np.random.default_rng(seed), 3)
    cases = [*COMMON, *RARE]
    for case in (computed_matrices, *(cases[index] for index in w.rng.permutation(len(cases))[:2])):
        case(w)
    check(w, [w.pick(*ISAS)], kernels)


RESULTS = {
    f"{rounding} {scale} {overflow}": BlockFormat(16, scale=scale, overflow=overflow, rounding=rounding)
    for rounding in ROUNDINGS for scale in ("headroom", "no-overflow") for overflow in ("raise", "clamp")
}


@examples(3)
@given(names=st.sampled_from(sorted(RESULTS)), seed=seeds)
def test_ties_at_the_ends_of_the_range(names: str, seed: int, kernels: KernelCache) -> None:
    """``a * 2**14 + b``: whole mantissas and fractions, drawn so that halves at the largest mantissas are frequent."""
    w = Written(np.random.default_rng(seed))
    x = w.activations(5, 2)
    weights = w.constant(np.array([[1 << 14], [1]], np.int16), 16, -15)
    sums = w.sums(Matmul(False, FIXED), x, weights, None, BlockFormat(40, 10, rounding=RESULTS[names].rounding))
    w.emit(w.normalized(sums, RESULTS[names]))
    half = 1 << 13

    def feeds(samples: int) -> dict[str, Array]:
        whole_part = w.rng.choice([HIGHEST, HIGHEST - 1, LOWEST, LOWEST + 1, HIGHEST // 2, 0, 1], (samples, 5))
        fraction = w.rng.choice([0, half, half - 1, half + 1, -half, 1 - half, -half - 1], (samples, 5))
        pair = np.stack([whole_part, fraction], axis=-1)
        return {"x0": np.ldexp(pair.astype(np.float64), int(w.rng.integers(-40, 20))).astype(np.float32)}

    check(w, [w.pick(*ISAS)], kernels, feeds, (1, 60))


@every_isa
def test_sums_at_their_bound(isa: InstructionSet, kernels: KernelCache) -> None:
    """Activations at an end of the range, each with the sign of one output's weight: nothing grows further."""
    rng = np.random.default_rng()
    weights = rng.integers(LOWEST, HIGHEST + 1, (6, 2, 2, 16)).astype(np.int16)
    weights[0], weights[1] = LOWEST, HIGHEST
    largest = int(np.abs(weights.astype(np.int64)).reshape(6, -1).sum(axis=1).max()) << 15
    w = Written(rng)
    op = Conv2D(layout="NHWC", arithmetic=FIXED)
    bits = largest.bit_length() + 1
    for rounding in ("half-even", "floor", None):
        sums = w.sums(op, w.activations(2, 2, 16), w.constant(weights, 16, -15), None, BlockFormat(bits, 10))
        result = BlockFormat(16, scale="headroom", overflow="raise", rounding=rounding or "half-up")
        w.emit(sums if rounding is None else w.normalized(sums, result))

    def feeds(samples: int) -> dict[str, Array]:
        chosen = weights[np.arange(samples) % len(weights)]
        flip = rng.choice([-1, 1], (samples, 1, 1, 1))
        ends = np.where(chosen * flip < 0, LOWEST, HIGHEST)
        return {name: ends.astype(np.float32) for name in ("x0", "x1", "x2")}

    check(w, [isa], kernels, feeds, (1, 12))


@pytest.mark.parametrize("overflow", ["saturate", "wrap"])
def test_accumulators_that_overflow(overflow: str, kernels: KernelCache) -> None:
    w = Written(np.random.default_rng())
    for fraction in (0, 4, 29):
        arithmetic = Arithmetic.parse(f"fixed-point{{overflow={overflow} fraction={fraction}}}")
        op, width = Conv2D(layout="NHWC", arithmetic=arithmetic), BlockFormat(int(w.rng.integers(30, 32)), 10)
        # Shifted to the left, sums leave even 64 bits, unless a bias keeps them at a larger exponent.
        least = LOWEST if fraction < 29 else 3 * HIGHEST // 4
        weights = w.constant(w.rng.integers(least, HIGHEST, (5, 2, 2, 6)).astype(np.int16), 16, -15)
        # It is too large by itself, before sums of the other sign are added.
        bias = w.constant(np.array([(1 << 31) - 1, -(1 << 31), 1 << 30, -(1 << 29), 5], np.int32), 32, -30)
        x = w.activations(4, 5, 6)
        for follow in (w.normalized, lambda sums: w.build(Relu(), sums)):
            w.emit(follow(w.sums(op, x, weights, bias if fraction < 29 else None, width)))

    def feeds(samples: int) -> dict[str, Array]:
        found = w.feeds(samples)
        for x in found.values():
            x[0] = HIGHEST
        return found

    check(w, [w.pick(*ISAS)], kernels, feeds)


def test_a_bias_alone(kernels: KernelCache) -> None:
    """Without activations the bias decides the exponent, at whatever exponent it is given."""
    w = Written(np.random.default_rng())
    for exponent in (-128, -40, 0, 50):
        bias = w.constant(w.rng.integers(-(1 << 31), 1 << 31, 9).astype(np.int32), 32, exponent)
        op = Conv2D(pads=(1, 1, 1, 1), layout="NHWC", arithmetic=FIXED)
        sums = w.sums(op, w.activations(3, 3, 2), w.weights(9, 3, 3, 2), bias, BlockFormat(48, 10))
        w.emit(w.normalized(sums, BlockFormat(16, scale="headroom", overflow="raise")))
    zeros = {v.name: np.zeros((2, 3, 3, 2), np.float32) for v in w.graph.inputs}
    check(w, [w.pick(*ISAS)], kernels, lambda samples: {n: a[:samples] for n, a in zeros.items()}, (1, 2))


def test_sums_of_zeros_have_no_exponent_below_the_lowest(kernels: KernelCache) -> None:
    """As they are, and once a limit has made something of them."""
    w = Written(np.random.default_rng())
    for limit in (None, Clip(minimum=0.75)):
        sums = w.sums(Matmul(False, FIXED), w.activations(7), w.weights(7, 3), None, BlockFormat(48, 8))
        w.emit(sums if limit is None else w.normalized(w.build(limit, sums)))
    zeros = {v.name: np.zeros((1, 7), np.float32) for v in w.graph.inputs}
    check(w, [w.pick(*ISAS)], kernels, lambda samples: zeros, (1,))


def test_exponents_far_from_those_of_the_sums(kernels: KernelCache) -> None:
    """Sums vanish but for what rounding makes of them, or saturate: fixed exponents, and the ends of a range."""
    w = Written(np.random.default_rng())
    x, weights = w.activations(6), w.constant(w.rng.integers(LOWEST, HIGHEST, (6, 9)).astype(np.int16), 16, -15)
    for rounding in ("floor", w.pick(*ROUNDINGS)):
        limits: dict[str, Any] = {"rounding": rounding, "lowest_exponent": -20, "highest_exponent": 20}
        for fixed in (None, 0):
            sums = w.sums(Matmul(False, FIXED), x, weights, None, BlockFormat(48, 10))
            w.emit(w.normalized(sums, BlockFormat(16, **limits), fixed))

    def feeds(samples: int) -> dict[str, Array]:
        exponents = np.linspace(-120, 90, samples).astype(int)[:, None]
        numbers = w.rng.integers(LOWEST, HIGHEST + 1, (samples, 6))
        return {"x0": np.ldexp(numbers.astype(np.float64), exponents).astype(np.float32)}

    check(w, [w.pick(*ISAS)], kernels, feeds, (1, 31))


def test_the_largest_sum_may_stand_anywhere(kernels: KernelCache) -> None:
    """Each sample has one activation that is larger than all others, in the first piece of the sums or in others."""
    w = Written(np.random.default_rng())
    sums = w.sums(Conv2D(layout="NHWC", arithmetic=FIXED), w.activations(40, 40, 2), w.weights(5, 1, 1, 2))
    w.emit(w.normalized(sums, BlockFormat(16, scale="headroom", overflow="raise")))
    assert sums.type.shape[1:] == (40, 40, 5)

    def feeds(samples: int) -> dict[str, Array]:
        x = w.rng.integers(-9, 10, (samples, 40 * 40, 2)).astype(np.float32)
        x[np.arange(samples), np.linspace(0, 40 * 40 - 1, samples).astype(int)] = [[HIGHEST, LOWEST]]
        return {"x0": x.reshape(samples, 40, 40, 2)}

    check(w, [w.pick(*ISAS)], kernels, feeds, (1, 7))


def test_no_sum_of_64_bits_is_stored() -> None:
    """A convolution with a normalize behind it takes two passes over its partial sums."""
    w = Written(np.random.default_rng())
    op = Conv2D(pads=(1, 1, 1, 1), layout="NHWC", arithmetic=FIXED)
    sums = w.sums(op, w.activations(8, 8, 16), w.weights(16, 3, 3, 16), w.bias(16), BlockFormat(48, 10))
    w.emit(w.normalized(w.build(Relu(), sums)))
    program, _ = lower_program(w.finish(), ISAS[0])
    assert [type(call.kernel).__name__ for call in program.calls][-4:] == [
        "SumExtremes", "ChooseSumExponent", "WriteSums", "WriteReals"
    ]
    assert max(buffer.elements for buffer in program.workspace if buffer.dtype == "int64") < 16


def test_a_computed_bias_has_no_native_form() -> None:
    w = Written(np.random.default_rng(), 1)
    bias = w.activations()
    sums = w.sums(Matmul(False, FIXED), w.activations(4), w.weights(4, 1), bias)
    w.emit(w.normalized(sums))
    with pytest.raises(NoLowering, match="constant bias"):
        lower_program(w.finish(), ISAS[0])
