"""Arithmetic of dimensions, against the same arithmetic with a number in place of the symbol."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcompiler.ir.dimension import (
    Dim,
    Shape,
    SymbolicDim,
    bind_dim,
    broadcast_shapes,
    divide,
    element_count,
    format_shape,
    parse_dim,
    sample_elements,
    static_shape,
)
from qcompiler.ir.types import block_grid, channel_blocks, spread_blocks

N = SymbolicDim("N")
dims: st.SearchStrategy[Dim] = st.integers(0, 12) | st.integers(1, 12).map(lambda c: SymbolicDim("N", c))
static_dims: st.SearchStrategy[Dim] = st.integers(0, 12)


@given(dims)
def test_text_reads_back(dim: Dim) -> None:
    assert parse_dim(str(dim)) == dim


@pytest.mark.parametrize("text", ["", "-1", "1.5", "N*2", "2*", "*N", "2*3", "N M", "²", "4 *N", "-2*N"])
def test_malformed_dimensions(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_dim(text)


@given(st.lists(static_dims, max_size=3), st.integers(1, 9), st.integers(0, 3), st.integers(1, 7))
def test_element_count(static: list[Dim], coefficient: int, position: int, batch: int) -> None:
    shape: Shape = (*static[:position], SymbolicDim("N", coefficient), *static[position:])
    count = element_count(shape)
    assert bind_dim(count, {"N": batch}) == np.prod([bind_dim(d, {"N": batch}) for d in shape])
    assert sample_elements(shape) == bind_dim(count, {"N": 1})


def test_element_count_of_nothing_is_one() -> None:
    assert element_count(()) == 1


def test_element_count_of_two_symbols() -> None:
    with pytest.raises(ValueError, match="two free dimensions"):
        element_count((N, 3, SymbolicDim("M")))


@given(dims, dims)
def test_divide(dividend: Dim, divisor: Dim) -> None:
    """A quotient is right for every batch; where there is none, no dimension is right for every batch."""
    try:
        quotient = divide(dividend, divisor)
    except ValueError:
        exact = all(
            bind_dim(divisor, {"N": n}) != 0 and bind_dim(dividend, {"N": n}) % bind_dim(divisor, {"N": n}) == 0
            for n in (1, 2, 3, 5, 7, 11, 13)
        )
        # 0 divided by a multiple of N is 0, which divide leaves to nobody's use.
        assert not exact or dividend == 0
        return
    for n in (1, 2, 3, 7):
        assert bind_dim(quotient, {"N": n}) * bind_dim(divisor, {"N": n}) == bind_dim(dividend, {"N": n})


@given(st.lists(st.sampled_from([1, 2, 3]), max_size=4), st.lists(st.sampled_from([1, 2, 3]), max_size=4))
def test_broadcast_is_numpys(first: list[int], second: list[int]) -> None:
    try:
        expected = np.broadcast_shapes(tuple(first), tuple(second))
    except ValueError:
        with pytest.raises(ValueError, match="do not broadcast"):
            broadcast_shapes(tuple(first), tuple(second))
    else:
        assert broadcast_shapes(tuple(first), tuple(second)) == expected


def test_broadcast_of_symbols() -> None:
    assert broadcast_shapes((N, 1, 3), (2, 1)) == (N, 2, 3)
    assert broadcast_shapes((N, 3), (1, 3), (3,)) == (N, 3)
    for other in (2, SymbolicDim("N", 2), SymbolicDim("M")):
        with pytest.raises(ValueError, match="do not broadcast"):
            broadcast_shapes((N, 3), (other, 3))


def test_static_shape() -> None:
    assert static_shape((2, 3)) == (2, 3)
    with pytest.raises(ValueError, match=r"\[N,3\] has a free dimension"):
        static_shape((N, 3))


def test_multiples_print() -> None:
    assert format_shape((N, 2 * N, N * 3, 4)) == "[N,2*N,3*N,4]"
    assert SymbolicDim("N", 6) == 2 * N * 3


def test_block_grids() -> None:
    assert block_grid((4, 6), ()) == ()
    assert block_grid((4, 6), (1, 3)) == (4, 2)
    assert block_grid((N, 6), (N, 2)) == (1, 3)
    assert channel_blocks((N, 4, 6), 1) == (N, 1, 6)
    assert block_grid((4, 6), (3, 5)) == (2, 2)
    for blocks in ((1,), (5, 1), (0, 1), (N, 1)):
        with pytest.raises(ValueError, match="block"):
            block_grid((4, 6), blocks)
    with pytest.raises(ValueError, match="does not fit"):
        block_grid((N, 6), (1, 6))


def test_spread_blocks_repeats_each_block() -> None:
    grid = np.array([[1, 2], [3, 4]])
    np.testing.assert_array_equal(spread_blocks(grid, (2, 4)), [[1, 1, 2, 2], [3, 3, 4, 4]])
    np.testing.assert_array_equal(spread_blocks(np.array(7), (2, 4)), 7)


def test_spread_blocks_cuts_the_last_block() -> None:
    """Two blocks of 3 on 5 values are not two halves."""
    grid = np.array([[1, 2], [3, 4]])
    np.testing.assert_array_equal(spread_blocks(grid, (2, 5), (1, 3)), [[1, 1, 1, 2, 2], [3, 3, 3, 4, 4]])
    np.testing.assert_array_equal(spread_blocks(grid, (5, 2), (4, 1))[:, 0], [1, 1, 1, 1, 3])
    column = spread_blocks(np.array([[1], [2]]), (2, 4))
    np.testing.assert_array_equal(np.broadcast_to(column, (2, 4)), [[1] * 4, [2] * 4])
