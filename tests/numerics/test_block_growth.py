"""Worst-case growth of sums: no input leaves the bounds, and a constructed one reaches them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from numerics.block_cases import roundings
from qcompiler.errors import QCompilerError
from qcompiler.numerics.block_accumulator import FixedPointAccumulator, bits_for
from qcompiler.numerics.block_contraction import BlockOperand, contract
from qcompiler.numerics.block_format import BlockFormat
from qcompiler.numerics.block_growth import growth_bits, growth_bounds

WIDE = 62


@st.composite
def weights(draw: st.DrawFn) -> tuple[BlockOperand, int]:
    k, n = draw(st.integers(1, 12)), draw(st.integers(1, 3))
    length = draw(st.integers(1, k + 1))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    grid = [-(-k // length) if draw(st.booleans()) else 1, n if draw(st.booleans()) else 1]
    return BlockOperand(rng.integers(-128, 128, (k, n)), rng.integers(-6, 7, grid)), length


def worst_input(w: BlockOperand, length: int, channel: int, x: BlockFormat, upper: bool, shared: bool) -> BlockOperand:
    """The operand that brings one channel to its bound: the end of the range that suits each weight's sign."""
    along = w.mantissas[:, channel] >= 0
    mantissas = np.where(along == upper, x.largest, x.smallest)
    grid = np.broadcast_to(w.exponents, (w.exponents.shape[0], w.mantissas.shape[1]))[:, channel]
    return BlockOperand(mantissas[None], np.zeros((1, 1), np.int64) if shared else -grid[None])


@settings(max_examples=40, deadline=None)
@given(st.data(), st.booleans())
def test_bounds_hold_and_are_reached(data: st.DataObject, shared: bool) -> None:
    w, length = data.draw(weights())
    x = BlockFormat(data.draw(st.integers(2, 16)), symmetric=data.draw(st.booleans()))
    accumulator = FixedPointAccumulator(WIDE, "forbidden", data.draw(roundings), data.draw(st.integers(0, 4)))
    lowest, highest = growth_bounds(w, length, x, accumulator, shared)
    for n in range(w.mantissas.shape[1]):
        for upper, bound in ((True, highest[n]), (False, lowest[n])):
            worst = worst_input(w, length, n, x, upper, shared)
            assert contract(worst, w, length, accumulator)[0][0, n] == bound
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    blocks = 1 if shared else -(-w.mantissas.shape[0] // length)
    inputs = BlockOperand(
        rng.choice([x.smallest, x.largest, 0, 1], (50, w.mantissas.shape[0])), rng.integers(-9, 10, (50, blocks))
    )
    sums, _ = contract(inputs, w, length, accumulator)
    assert (sums <= np.array(highest)).all()
    assert (sums >= np.array(lowest)).all()
    assert growth_bits(w, length, x, accumulator, shared) == bits_for(min(lowest), max(highest))


def test_one_bit_less_overflows() -> None:
    """A 16-bit operand and 300 weights at the end of their range: 40 bits suffice, 39 do not."""
    w = BlockOperand(np.full((300, 1), -32768), np.zeros((1, 1), np.int64))
    x = BlockFormat(16)
    bits = growth_bits(w, 300, x, FixedPointAccumulator(40))
    assert bits == 40
    worst = worst_input(w, 300, 0, x, True, True)
    assert contract(worst, w, 300, FixedPointAccumulator(bits))[0].tolist() == [[300 * 2**30]]
    with pytest.raises(QCompilerError, match="overflows its 39-bit accumulator"):
        contract(worst, w, 300, FixedPointAccumulator(bits - 1))


def test_classic_guard_bits() -> None:
    """K products of -32768 by itself take 32 + floor(log2 K) bits: 40 bits hold 511 of them, not 512."""
    for terms, bits in ((1, 32), (2, 33), (256, 40), (511, 40), (512, 41)):
        w = BlockOperand(np.full((terms, 1), -32768), np.zeros((1, 1), np.int64))
        assert growth_bits(w, terms, BlockFormat(16), FixedPointAccumulator(40)) == bits


def test_products_too_wide_are_refused() -> None:
    w = BlockOperand(np.full((2, 1), 2**32 - 1), np.zeros((1, 1), np.int64))
    with pytest.raises(QCompilerError, match="too wide for a fixed-point accumulator"):
        growth_bounds(w, 2, BlockFormat(33), FixedPointAccumulator(62))
    with pytest.raises(QCompilerError, match="two dimensions"):
        growth_bounds(BlockOperand(np.ones((1, 2, 1), int), w.exponents), 2, BlockFormat(8), FixedPointAccumulator(62))
