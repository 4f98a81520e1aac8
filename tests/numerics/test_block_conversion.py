"""Into, out of and between block formats, against the definition in fractions."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from numerics import block_definition as definition
from numerics.block_cases import AMD, AMD_COMPILER, DSP, arrays, blocks_for, formats, roundings
from numerics.exact_arithmetic import ROUNDINGS
from qcompiler.errors import QCompilerError
from qcompiler.numerics.block_conversion import align, from_block, normalize, reblock, to_block
from qcompiler.numerics.block_format import BlockFormat


def assert_written(found: tuple[Any, Any], expected: tuple[Any, Any]) -> None:
    np.testing.assert_array_equal(found[1], expected[1])
    np.testing.assert_array_equal(found[0], expected[0])


@settings(max_examples=125, deadline=None)
@given(st.data())
def test_to_block_follows_the_definition(data: st.DataObject) -> None:
    x, f = data.draw(arrays()), data.draw(formats)
    blocks = data.draw(blocks_for(x.shape))
    found = to_block(x, f, blocks)
    assert_written(found, definition.write(definition.fractions_of(x), f, blocks))
    assert found[0].dtype == f.mantissa_dtype


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_reblock_rounds_each_exact_value_once(data: st.DataObject) -> None:
    """Wide mantissas, exponents far apart, another grid and format."""
    shape = (data.draw(st.integers(1, 5)), data.draw(st.integers(1, 5)))
    blocks, target = data.draw(blocks_for(shape)), data.draw(blocks_for(shape))
    f = data.draw(formats)
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    bits = rng.integers(1, 63, shape)
    mantissas = rng.integers(-(2**62) + 1, 2**62, shape) >> (62 - bits)
    grid = to_block(np.ones(shape), AMD, blocks)[1].shape
    exponents = rng.integers(-70, 20, grid)
    found = reblock(mantissas, exponents, blocks, f, target)
    assert_written(found, definition.write(definition.read(mantissas, exponents, blocks), f, target))
    if target == blocks:
        assert_written(found, normalize(mantissas, exponents, blocks, f))


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_from_block_is_exact_and_to_block_keeps_what_fits(data: st.DataObject) -> None:
    x, f = data.draw(arrays()), data.draw(formats)
    blocks = data.draw(blocks_for(x.shape))
    mantissas, exponents = to_block(x, f, blocks)
    values = from_block(mantissas, exponents, blocks)
    assert (definition.fractions_of(values) == definition.read(mantissas, exponents, blocks)).all()
    assert_written(reblock(mantissas, exponents, blocks, f, blocks, fixed=exponents), (mantissas, exponents))
    assert_written(to_block(values, f, blocks, exponents), (mantissas, exponents))


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_fixed_exponents_clamp(data: st.DataObject) -> None:
    x, f = data.draw(arrays()), data.draw(formats)
    exponent = data.draw(st.integers(*f.exponent_range))
    found = to_block(x, f, (), np.asarray(exponent))
    expected, _ = definition.write_block(list(definition.fractions_of(x).reshape(-1)), f, exponent)
    assert_written(found, (np.array(expected).reshape(x.shape), exponent))


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_a_batch_is_its_samples(data: st.DataObject) -> None:
    """One exponent for all values of a sample: seven samples of very different magnitude do not meet."""
    f = data.draw(formats)
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    x = rng.standard_normal((7, 3, 5)) * 2.0 ** rng.integers(-30, 30, (7, 1, 1))
    whole = to_block(x, f, (1, 3, 5))
    assert whole[1].shape == (7, 1, 1)
    for i in range(7):
        assert_written(to_block(x[i : i + 1], f, (1, 3, 5)), (whole[0][i : i + 1], whole[1][i : i + 1]))


@pytest.mark.parametrize("scale", [2.0**-1074, 2.0**-1060, 2.0**-149, 2.0**900])
def test_magnitudes_from_subnormal_to_huge(scale: float) -> None:
    f = BlockFormat(8, 16)
    x = np.array([[127.0, -3.0, 0.0, 1.0]]) * scale
    mantissas, exponents = to_block(x, f, (1, 4))
    assert mantissas.tolist() == [[127, -3, 0, 1]]
    assert exponents[0, 0] == np.log2(scale)
    assert from_block(mantissas, exponents, (1, 4)).tolist() == x.tolist()


def test_the_exponent_range_ends() -> None:
    f = BlockFormat(8, 4, lowest_exponent=-4, highest_exponent=3)
    zeros = to_block(np.zeros((1, 4)), f, (1, 4))
    assert_written(zeros, ([[0, 0, 0, 0]], [[-4]]))
    # 2**-4 is the last bit: half of it is a tie, and mantissas are short.
    assert_written(to_block(np.array([[3 / 16, 1 / 32, 3 / 32, -3 / 32]]), f, (1, 4)), ([[3, 0, 2, -2]], [[-4]]))
    # The largest value is 127 * 2**3.
    assert_written(to_block(np.array([[1e30, -1e30, 8.0, 1016.0]]), f, (1, 4)), ([[127, -128, 1, 127]], [[3]]))


AMD_BLOCK = [127.5 / 64, 1.0, 0.5 / 64, 1.5 / 64, -0.5 / 64, -1.5 / 64, 2.5 / 64, -127.5 / 64]
"""In steps of 1/64: two ties beyond the mantissa's range, and ties to each side."""


@pytest.mark.parametrize(
    ("rounding", "clamped", "raised"),
    [
        ("half-away", [127, 64, 1, 2, -1, -2, 3, -127], [64, 32, 0, 1, 0, -1, 1, -64]),
        ("half-up", [127, 64, 1, 2, 0, -1, 3, -127], [64, 32, 0, 1, 0, -1, 1, -64]),
        ("half-even", [127, 64, 0, 2, 0, -2, 2, -127], [64, 32, 0, 1, 0, -1, 1, -64]),
    ],
)
def test_amd_bfp16_ties_and_overflow(rounding: str, clamped: list[int], raised: list[int]) -> None:
    """AMD Quark: the standard kernel clamps at 127 steps, the compiler's kernel raises the exponent."""
    x = np.array([AMD_BLOCK], np.float32)
    standard = BlockFormat(8, symmetric=True, rounding=rounding)
    assert_written(to_block(x, standard, (1, 8)), ([clamped], [[-6]]))
    compiler = BlockFormat(8, overflow="raise", rounding=rounding)
    assert_written(to_block(x, compiler, (1, 8)), ([raised], [[-5]]))


@pytest.mark.parametrize(
    ("value", "f", "mantissa", "exponent"),
    [
        # -127.6 steps round to -128, which two's complement holds: nothing overflows.
        (-127.6 / 64, AMD_COMPILER, -128, -6), (-127.6 / 64, AMD, -127, -6),
        (127.6 / 64, AMD_COMPILER, 64, -5), (127.6 / 64, AMD, 127, -6),
        (127.4 / 64, AMD_COMPILER, 127, -6), (127.4 / 64, AMD, 127, -6),
        # A power of two alone: its own magnitude decides, not what two's complement could hold.
        (-2.0, AMD_COMPILER, -64, -5), (2.0, AMD_COMPILER, 64, -5),
        # A classic DSP normalizes -1 to -32768 and 1 to 16384.
        (-1.0, DSP, -32768, -15), (1.0, DSP, 16384, -14), (-1.0 - 2**-20, DSP, -16384, -14),
        (32767.5 / 32768, DSP, 16384, -14), (32767.25 / 32768, DSP, 32767, -15),
    ],
)
def test_single_values(value: float, f: BlockFormat, mantissa: int, exponent: int) -> None:
    """Blocks that hold one value and a zero."""
    found = to_block(np.array([[value, 0.0]]), f, (1, 2))
    assert_written(found, ([[mantissa, 0]], [[exponent]]))


def test_guard_bits_leave_room() -> None:
    x = np.array([[1.0, -0.5]])
    for guard in range(5):
        f = BlockFormat(16, scale="headroom", guard=guard)
        assert_written(to_block(x, f, (1, 2)), ([[16384 >> guard, -8192 >> guard]], [[guard - 14]]))


def test_an_outlier_rounds_its_block_away_and_no_other() -> None:
    x = np.ones((2, 8), np.float32)
    x[0, 3] = 300.0
    mantissas, exponents = to_block(x, AMD, (1, 8))
    assert mantissas.tolist() == [[0, 0, 0, 75, 0, 0, 0, 0], [64] * 8]
    assert exponents.tolist() == [[2], [-6]]


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_align_rounds_the_smaller_exponent(data: st.DataObject) -> None:
    rounding = data.draw(roundings)
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    width = data.draw(st.integers(2, 62))
    a, b = (rng.integers(-(2 ** (width - 1)) + 1, 2 ** (width - 1), (4, 6)) for _ in range(2))
    a_exponents, b_exponents = rng.integers(-80, 80, (4, 1)), rng.integers(-80, 80, (1, 6))
    if data.draw(st.booleans()):
        b_exponents = a_exponents + rng.integers(-3, 4, (4, 6))
    left, right, exponents = align(a, a_exponents, b, b_exponents, rounding)
    assert (exponents == np.maximum(a_exponents, b_exponents)).all()
    for found, mantissas, own in ((left, a, a_exponents), (right, b, b_exponents)):
        expected = [
            ROUNDINGS[rounding](Fraction(int(m)) * definition.power(int(e) - int(t)))
            for m, e, t in zip(mantissas.flat, np.broadcast_to(own, (4, 6)).flat, exponents.flat, strict=True)
        ]
        assert found.reshape(-1).tolist() == expected


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_infinity_and_nan_are_refused(bad: float) -> None:
    with pytest.raises(QCompilerError, match="no infinity and no NaN") as caught:
        to_block(np.array([[1.0, bad]]), AMD, (1, 2))
    assert caught.value.found == str(bad)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: to_block(np.ones((2, 4)), AMD, (4,)), r"blocks \[4\] do not fit shape \[2, 4\]"),
        (lambda: to_block(np.ones((2, 4)), AMD, (1, 0)), r"blocks \[1, 0\] do not fit"),
        (lambda: to_block(np.ones(2, np.int32), AMD, (1,)), "only float32 and float64"),
        (lambda: to_block(np.ones(2), AMD, (2,), np.array([200])), "outside the range"),
        (lambda: to_block(np.ones(2), AMD, (2,), np.array([0.5])), "exponents are integers"),
        (lambda: reblock(np.ones((2, 4), int), np.zeros((2, 4), int), (1, 4), AMD, ()), "do not stand on the grid"),
        (lambda: normalize(np.ones(2), np.zeros(1, int), (2,), AMD), "mantissas are integers"),
        (lambda: normalize(np.array([2**62, 0]), np.zeros(1, int), (2,), AMD), "too wide"),
        (lambda: normalize(np.array([-(2**63), 0]), np.zeros(1, int), (2,), AMD), "too wide"),
        (lambda: from_block(np.array([3, 1]), np.array([-1075]), (2,)), "float64 does not hold"),
        (lambda: from_block(np.array([3, 1]), np.array([1024]), (2,)), "float64 does not hold"),
        (lambda: from_block(np.array([2**53 + 1]), np.array([0]), (1,)), "float64 does not hold"),
        (lambda: from_block(np.array([2**24 + 1]), np.array([0]), (1,), np.float32), "float32 does not hold"),
        (lambda: from_block(np.array([1]), np.array([-150]), (1,), np.float32), "float32 does not hold"),
    ],
)
def test_errors(call: Any, message: str) -> None:
    with pytest.raises(QCompilerError, match=message):
        call()


def test_from_block_to_float32_at_its_ends() -> None:
    values = from_block(np.array([2**24 - 1, -(2**24) + 1]), np.array([104]), (2,), np.float32)
    assert values.dtype == np.float32
    assert values[0] == np.finfo(np.float32).max
    assert from_block(np.array([1]), np.array([-149]), (1,), np.float32)[0] == np.finfo(np.float32).smallest_subnormal


def test_empty_arrays() -> None:
    mantissas, exponents = to_block(np.zeros((0, 4), np.float32), AMD, (1, 4))
    assert (mantissas.shape, exponents.shape) == ((0, 4), (0, 1))
    assert from_block(mantissas, exponents, (1, 4)).shape == (0, 4)
