"""Contractions of block floating point with blocks along the channels: native code equals the reference."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from block_program_comparison import every_isa, examples
from channel_contraction_cases import BYTES, DENSE, ROUNDINGS, WIDE, Array, ContractionWriter, N
from hypothesis import given, reject
from hypothesis import strategies as st
from native_comparison import assert_native_equals_reference

from qcompiler.backends.tvm.graph_lowering import lower_program
from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.kernel_cache import KernelCache
from qcompiler.backends.tvm.kernel_program import NoLowering
from qcompiler.backends.tvm.selection import runnable_instruction_sets
from qcompiler.errors import QCompilerError
from qcompiler.ir import Arithmetic, BlockFloat, verify
from qcompiler.numerics.block_format import BlockFormat
from qcompiler.ops.activation import Clip
from qcompiler.ops.contraction import Conv2D, Matmul

ISAS = runnable_instruction_sets()

seeds = st.integers(0, (1 << 32) - 1)


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> KernelCache:
    return KernelCache(tmp_path_factory.mktemp("kernels"))


def check(
    w: ContractionWriter, isas: Sequence[InstructionSet], kernels: KernelCache | None = None,
    feeds_of: Callable[[int], dict[str, Array]] | None = None, samples: Sequence[int] = (1, 3, 1, 3),
) -> None:
    graph = w.finish()
    verify(graph)
    with tempfile.TemporaryDirectory() as folder:
        try:
            assert_native_equals_reference(
                graph, feeds_of or w.feeds, isas, Path(folder), samples=samples if w.batch == N else (1, 1),
                kernels=kernels,
            )
        except QCompilerError as error:
            # A sum that the reference refuses has no bits to compare; another example is drawn.
            if "beyond the range of float32" not in str(error):
                raise
            reject()


def names_of_kernels(w: ContractionWriter) -> set[str]:
    program, _ = lower_program(w.finish(), ISAS[0])
    return {type(call.kernel).__name__ for call in program.calls}


@every_isa
@examples(2)
@given(seed=seeds, box=st.booleans())
def test_sums_in_float32(isa: InstructionSet, seed: int, box: bool) -> None:
    w = ContractionWriter(np.random.default_rng(seed))
    for kind in DENSE:
        w.float_sums(*w.convolution(kind, "float32", w.pick(*BYTES), w.pick(*BYTES), box))
    check(w, [isa])


@every_isa
@examples(2)
@given(seed=seeds, box=st.booleans())
def test_sums_in_fixed_point(isa: InstructionSet, seed: int, box: bool) -> None:
    w = ContractionWriter(np.random.default_rng(seed))
    for kind in DENSE:
        arithmetic = w.pick("fixed-point", "fixed-point", "fixed-point{fraction=3}")
        w.fixed_sums(*w.convolution(kind, arithmetic, w.pick(*BYTES), w.pick(*BYTES), box), w.pick(36, 50))
    check(w, [isa])


@examples(3)
@given(seed=seeds, order=st.sampled_from(["sequential", "pairwise"]))
def test_sums_in_float32_by_the_definition(seed: int, order: str) -> None:
    """Transposed convolutions, mantissas of more than 8 bits, sums in pairs, two computed matrices."""
    w = ContractionWriter(np.random.default_rng(seed))
    arithmetic = f"float32{{order={order}}}"
    w.float_sums(*w.convolution("transposed", arithmetic, w.pick(*BYTES), w.pick(*BYTES)))
    w.float_sums(*w.convolution(w.pick(*DENSE), arithmetic, w.pick(*WIDE), w.pick(*BYTES, *WIDE)))
    w.float_sums(*w.convolution(w.pick(*DENSE), arithmetic, w.pick(*BYTES), w.pick(*BYTES, *WIDE)))
    w.float_sums(*w.product(arithmetic, w.pick(*BYTES), w.pick(*WIDE)))
    check(w, [w.pick(*ISAS)])


@examples(3)
@given(seed=seeds, overflow=st.sampled_from(["saturate", "wrap", "forbidden"]))
def test_sums_in_fixed_point_by_the_definition(seed: int, overflow: str) -> None:
    """As above, and sums that overflow, and results of which several share an exponent."""
    w = ContractionWriter(np.random.default_rng(seed))
    arithmetic = f"fixed-point{{overflow={overflow} fraction={w.number(0, 3)}}}"
    bits = 54 if overflow == "forbidden" else w.number(12, 20)
    for kind in ("transposed", w.pick(*DENSE)):
        operands = w.convolution(kind, arithmetic, w.pick(*WIDE[1:]), w.pick(*BYTES, *WIDE[1:]))
        w.fixed_sums(*operands, bits)
    operands = w.convolution("dense", arithmetic, w.pick(*BYTES), w.pick(*BYTES))
    w.fixed_sums(*operands, bits, blocks=(1, w.number(1, 3), 1, w.number(2, 9)))
    w.fixed_sums(*w.product(arithmetic, w.pick(*BYTES), w.pick(*BYTES)), bits)
    check(w, [w.pick(*ISAS)])


@examples(2)
@given(seed=seeds)
def test_a_fixed_batch(seed: int) -> None:
    """One program for three samples."""
    w = ContractionWriter(np.random.default_rng(seed), 3)
    w.float_sums(*w.convolution(w.pick(*DENSE), "float32", w.pick(*BYTES), w.pick(*BYTES)))
    w.fixed_sums(*w.convolution(w.pick(*DENSE), "fixed-point", w.pick(*BYTES), w.pick(*BYTES)), 50)
    w.float_sums(*w.convolution("dense", "float32", w.pick(*WIDE), w.pick(*BYTES)))
    check(w, [w.pick(*ISAS)])


def test_dots_are_added_in_pairs(kernels: KernelCache) -> None:
    """As many dots as make trees of any form, of sizes that round away differently in another order."""
    rng = np.random.default_rng()
    w = ContractionWriter(rng)
    counts = (1, 2, 3, 7, 11, 23, 45)
    for count in counts:
        x = w.activations(BYTES[0], 1, count)
        weights = w.weights(BYTES[0], (count, 5), (1, 1))
        w.emit(w.build(Matmul(arithmetic=Arithmetic.parse("float32{order=pairwise}")), x, weights))

    def feeds(samples: int) -> dict[str, Array]:
        return {
            f"x{i}": np.ldexp(rng.normal(0, 1, (samples, n)), rng.integers(-14, 14, (samples, n))).astype(np.float32)
            for i, n in enumerate(counts)
        }

    check(w, [w.pick(*ISAS)], kernels, feeds, (40,))


@pytest.mark.parametrize("overflow", ["saturate", "wrap"])
def test_each_addition_overflows(overflow: str, kernels: KernelCache) -> None:
    """Products of about half of the accumulator's range, and a bias as large, all at one exponent."""
    rng = np.random.default_rng()
    w = ContractionWriter(rng)
    x = w.activations(BYTES[0], 1, 6)
    weights = w.constant(rng.choice([-128, 127], (6, 30)).astype(np.int8), np.zeros((6, 30)), BYTES[0], (1, 1))
    numbers = rng.choice([-20000, 20000, 1], 30).astype(np.int32)
    bias = w.constant(numbers, np.zeros(1), BlockFormat(32, 10), (30,))
    op = Matmul(arithmetic=Arithmetic.parse(f"fixed-point{{overflow={overflow}}}"))
    w.emit(w.build(op, x, weights, bias, elem=BlockFloat(BlockFormat(16, 10), (1, 1))))
    ends = rng.choice([-128.0, 127.0, 1.0], (9, 6)).astype(np.float32)
    check(w, [w.pick(*ISAS)], kernels, lambda samples: {"x0": ends[:samples]}, (9,))


@every_isa
def test_limits_keep_the_sign_of_zero(isa: InstructionSet, kernels: KernelCache) -> None:
    """Sums of negative numbers too small for float32 are -0.0, at a bound of 0.0 too."""
    w = ContractionWriter(np.random.default_rng(), 1)
    for block_format, channels in ((BYTES[0], 5), (WIDE[2], 5), (BYTES[0], 1)):
        x = w.activations(block_format, 8, 2, 2, 5)
        groups = 5 // channels
        mantissas = -np.ones((5, 1, 1, channels), block_format.mantissa_dtype)
        weights = w.constant(mantissas, np.full((5, 1, 1, 1), -80), block_format, (1, 1, 1, 8))
        op = Conv2D(layout="NHWC", groups=groups, arithmetic=Arithmetic.parse("float32"))
        w.emit(w.build(Clip(0.0, 6.0), w.build(op, x, weights)))
    numbers = np.full((1, 2, 2, 5), 2.0**-90, np.float32)
    numbers[0, 0] = 0.0
    check(w, [isa], kernels, lambda samples: dict.fromkeys(("x0", "x1", "x2"), numbers))


@every_isa
@pytest.mark.parametrize("rounding", ["half-even", "floor"])
def test_an_accumulator_of_32_bits(isa: InstructionSet, rounding: str, kernels: KernelCache) -> None:
    """Mantissas at the ends of their range, each with the sign of one output's weight."""
    rng = np.random.default_rng()
    w = ContractionWriter(rng)
    x = w.activations(BYTES[0], 16, 3, 3, 32)
    mantissas = rng.choice([-128, 127], (6, 3, 3, 32)).astype(np.int8)
    mantissas[0] = -128
    exponents = np.zeros((6, 3, 3, 2))
    exponents[3:] = rng.integers(-3, 1, (3, 3, 3, 2))
    weights = w.constant(mantissas, exponents, BYTES[0], (1, 1, 1, 16))
    op = Conv2D(pads=(1, 1, 1, 1), layout="NHWC", arithmetic=Arithmetic.parse("fixed-point"))
    w.fixed_sums(op, x, weights, 32, rounding)

    def feeds(samples: int) -> dict[str, Array]:
        sign = np.where(mantissas[rng.integers(0, 6, samples)] < 0, -128.0, 127.0)
        return {"x0": (sign * rng.choice([-1, 1], (samples, 1, 1, 1))).astype(np.float32)}

    check(w, [isa], kernels, feeds)


def test_which_kernels_serve() -> None:
    """What targets have runs on the fast kernels."""
    for kind in DENSE:
        depthwise = "Depthwise" if kind == "depthwise" else "Convolution"
        for x_format in BYTES:
            w = ContractionWriter(np.random.default_rng())
            w.float_sums(*w.convolution(kind, "float32", x_format, BYTES[0]))
            w.fixed_sums(*w.convolution(kind, "fixed-point", x_format, BYTES[0]), 50, ROUNDINGS[0])
            assert {f"FloatBlock{depthwise}", f"FixedBlock{depthwise}"} <= names_of_kernels(w)


def test_what_has_no_native_form() -> None:
    w = ContractionWriter(np.random.default_rng(), 1)
    wide = BlockFormat.mx("e5m2")
    x = w.activations(wide, 8, 8)
    mantissas = np.full((8, 2), wide.largest, wide.mantissa_dtype)
    weights = w.constant(mantissas, np.zeros((1, 2), np.int32), wide, (8, 1))
    w.float_sums(Matmul(arithmetic=Arithmetic.parse("float32")), x, weights)
    with pytest.raises(NoLowering, match="too wide for native code"):
        lower_program(w.finish(), ISAS[0])
