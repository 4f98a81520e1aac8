"""Sums of products of blocks against exact rational arithmetic."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from numerics import block_definition as definition
from numerics.block_cases import roundings
from numerics.exact_arithmetic import ROUNDINGS, float32
from qcompiler.errors import QCompilerError
from qcompiler.numerics.block_accumulator import FixedPointAccumulator, bits_for
from qcompiler.numerics.block_contraction import SUMMATION_ORDERS, BlockOperand, contract, contract_float32
from qcompiler.numerics.block_conversion import to_block
from qcompiler.numerics.block_format import BlockFormat
from qcompiler.numerics.rounding import SHIFT_ROUNDINGS


@st.composite
def operands(draw: st.DrawFn, widest: int = 12, exponent: int = 6) -> tuple[BlockOperand, BlockOperand, int]:
    """x ``[2, M, K]``, w ``[K, N]`` and the block length; axes of exponents may have length 1."""
    m, k, n = draw(st.integers(1, 3)), draw(st.integers(1, 9)), draw(st.integers(1, 3))
    length = draw(st.integers(1, k + 1))
    blocks = -(-k // length)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    bits = draw(st.integers(2, widest))

    def mantissas(*shape: int) -> NDArray[Any]:
        values = rng.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), shape)
        ends = rng.choice([-(2 ** (bits - 1)), 2 ** (bits - 1) - 1, 0], shape)
        return np.where(rng.random(shape) < 0.3, ends, values)

    def exponents(*shape: int) -> NDArray[Any]:
        return rng.integers(-exponent, exponent + 1, [s if draw(st.booleans()) else 1 for s in shape])

    return (
        BlockOperand(mantissas(2, m, k), exponents(2, m, blocks)),
        BlockOperand(mantissas(k, n), exponents(blocks, n)),
        length,
    )


def pairs_of(x: BlockOperand, w: BlockOperand, length: int, b: int, m: int, n: int) -> definition.Pairs:
    """The pairs of blocks of one result; a single pair where no exponent changes along the reduction."""
    k = x.mantissas.shape[-1]
    count = max(x.exponents.shape[-1], w.exponents.shape[0])
    step = length if count > 1 else k
    left = np.broadcast_to(x.exponents, (*x.mantissas.shape[:2], count))[b, m]
    right = np.broadcast_to(w.exponents, (count, w.mantissas.shape[1]))[:, n]
    return [
        (x.mantissas[b, m, i * step : (i + 1) * step].tolist(), int(left[i]),
         w.mantissas[i * step : (i + 1) * step, n].tolist(), int(right[i]))
        for i in range(count)
    ]


def places_of(x: BlockOperand, w: BlockOperand) -> Any:
    return itertools.product(*map(range, (*x.mantissas.shape[:2], w.mantissas.shape[1])))


@pytest.mark.parametrize("overflow", ["forbidden", "saturate", "wrap"])
@settings(max_examples=40, deadline=None)
@given(st.data())
def test_fixed_point_accumulation_follows_the_definition(overflow: str, data: st.DataObject) -> None:
    x, w, length = data.draw(operands(exponent=data.draw(st.sampled_from([1, 6, 80]))))
    accumulator = FixedPointAccumulator(
        data.draw(st.integers(6, 34)), overflow, data.draw(roundings), data.draw(st.integers(0, 5))
    )
    try:
        expected = {p: definition.contract(pairs_of(x, w, length, *p), accumulator) for p in places_of(x, w)}
    except definition.Overflow:
        with pytest.raises(QCompilerError, match=f"overflows its {accumulator.bits}-bit accumulator"):
            contract(x, w, length, accumulator)
        return
    sums, exponents = contract(x, w, length, accumulator)
    spread = np.broadcast_to(exponents, sums.shape)
    assert {p: (sums[p], spread[p]) for p in places_of(x, w)} == expected


@pytest.mark.parametrize("rounding", SHIFT_ROUNDINGS)
@pytest.mark.parametrize("overflow", ["saturate", "wrap"])
def test_every_mode_hits_ties_and_the_ends(rounding: str, overflow: str) -> None:
    """All dots of two blocks whose second is shifted by one place, in an accumulator too narrow for them."""
    first, second = np.meshgrid(np.arange(-20, 21), np.arange(-20, 21))
    x = BlockOperand(np.stack([first.reshape(-1), second.reshape(-1)], 1)[None], np.array([[[1, 0]]]))
    w = BlockOperand(np.ones((2, 1), np.int64), np.zeros((2, 1), np.int64))
    accumulator = FixedPointAccumulator(5, overflow, rounding)
    sums, exponents = contract(x, w, 1, accumulator)
    assert exponents.tolist() == [[[1]]]
    expected = [definition.contract(pairs_of(x, w, 1, *p), accumulator)[0] for p in places_of(x, w)]
    assert sums.reshape(-1).tolist() == expected
    assert {sums.min(), sums.max()} == {-16, 15}


def test_saturation_depends_on_the_order_of_blocks() -> None:
    accumulator = FixedPointAccumulator(8, "saturate")
    ones = BlockOperand(np.ones((3, 1), np.int64), np.zeros((3, 1), np.int64))
    for terms, total in (([100, 100, -100], 27), ([100, -100, 100], 100), ([-100, -100, 100], -28)):
        x = BlockOperand(np.array([terms]), np.zeros((1, 3), np.int64))
        assert contract(x, ones, 1, accumulator)[0].tolist() == [[total]]


def test_one_block_saturates_at_its_end() -> None:
    x = BlockOperand(np.array([[100, 100, -100]]), np.zeros((1, 1), np.int64))
    ones = BlockOperand(np.ones((3, 1), np.int64), np.zeros((1, 1), np.int64))
    assert contract(x, ones, 1, FixedPointAccumulator(8, "saturate"))[0].tolist() == [[100]]


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_results_do_not_go_below_a_given_exponent(data: st.DataObject) -> None:
    x, w, length = data.draw(operands())
    accumulator = FixedPointAccumulator(50)
    _, exponents = contract(x, w, length, accumulator)
    limit = np.array([[[data.draw(st.integers(-15, 15))]]])
    sums, limited = contract(x, w, length, accumulator, limit)
    assert (limited == np.maximum(exponents, limit)).all()
    for p in places_of(x, w):
        pairs = pairs_of(x, w, length, *p)
        target = int(np.broadcast_to(limited, sums.shape)[p])
        steps = [definition.dot(a, c) * definition.power(b + d - target) for a, b, c, d in pairs]
        assert sums[p] == sum(ROUNDINGS["half-even"](s) for s in steps)


@pytest.mark.parametrize("order", SUMMATION_ORDERS)
@settings(max_examples=40, deadline=None)
@given(st.data())
def test_float32_accumulation_follows_the_definition(order: str, data: st.DataObject) -> None:
    x, w, length = data.draw(operands(widest=33, exponent=data.draw(st.sampled_from([1, 6, 14]))))
    found = contract_float32(x, w, length, order)
    assert found.dtype == np.float32
    for p in places_of(x, w):
        expected = definition.contract_float32(pairs_of(x, w, length, *p), order)
        assert float(found[p]) == expected


def test_float32_orders_differ() -> None:
    """2**24 swallows a 1 added to it, but not a 2: the order of summation shows."""
    x = BlockOperand(np.array([[1, 1, 1, 1]]), np.array([[24, 0, 0, 0]]))
    ones = BlockOperand(np.ones((4, 1), np.int64), np.zeros((4, 1), np.int64))
    assert contract_float32(x, ones, 1, "sequential")[0, 0] == 2.0**24
    assert contract_float32(x, ones, 1, "pairwise")[0, 0] == 2.0**24 + 2


@pytest.mark.parametrize("element", ["e5m2", "e4m3"])
@pytest.mark.parametrize("seed", range(3))
def test_float32_of_wide_elements(element: str, seed: int) -> None:
    """e5m2 spans 32 binary places: products of 64, summed up exactly before they are rounded."""
    rng = np.random.default_rng([seed, len(element)])
    f = BlockFormat.mx(element)
    scale = 2.0 ** rng.integers(-16, 16, (4, 64))
    values = rng.standard_normal((4, 64)) * scale
    values[:, 1::2] = -values[:, ::2] * rng.choice([1, 1 + 2.0**-9], (4, 32))  # cancellation
    x = BlockOperand(*to_block(values[None], f, (1, 1, 32)))
    w = BlockOperand(*to_block(np.repeat(scale[:3, ::2].T, 2, 0), f, (32, 1)))
    found = contract_float32(x, w, 32)
    for p in places_of(x, w):
        assert float(found[p]) == definition.contract_float32(pairs_of(x, w, 32, *p), "sequential")


@pytest.mark.parametrize("length", [1, 8, 40])
def test_float32_ties_in_dots_wider_than_float64(length: int) -> None:
    """2**63 + 2**39 is a tie in float32; one more below decides it."""
    for least, expected in ((0, 2.0**63), (1, 2.0**63 + 2.0**40), (-1, 2.0**63)):
        terms = np.zeros((1, 1, 40), np.int64)
        weights = np.zeros((40, 1), np.int64)
        terms[0, 0, :4], weights[:4, 0] = [2**32 - 1, 2**31, 2**20, least], [2**31, 1, 2**19, 1]
        x = BlockOperand(terms, np.zeros((1, 1, 1), np.int64))
        w = BlockOperand(weights, np.zeros((1, 1), np.int64))
        assert contract_float32(x, w, length)[0, 0, 0] == expected


def test_float32_subnormal_results() -> None:
    """Rounded once, at the last place of float32's subnormal numbers."""
    dots = np.arange(-40, 41)
    x = BlockOperand(dots[None, :, None], np.array([[[-152]]]))
    one = BlockOperand(np.ones((1, 1), np.int64), np.zeros((1, 1), np.int64))
    found = contract_float32(x, one, 1).reshape(-1)
    assert [float(v) for v in found] == [float32(int(d) * definition.power(-152)) for d in dots]


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_a_batch_is_its_samples(data: st.DataObject) -> None:
    """Seven samples, each with an exponent of its own, and a classic 40-bit accumulator; and float32."""
    f = BlockFormat(16, scale="headroom", overflow="raise")
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    values = rng.standard_normal((7, 3, 10)) * 2.0 ** rng.integers(-30, 30, (7, 1, 1))
    values[data.draw(st.integers(0, 6))] = 0
    x = BlockOperand(*to_block(values, f, (1, 3, 10)))
    w = BlockOperand(*to_block(rng.standard_normal((10, 4)), f, (10, 4)))
    sums, exponents = contract(x, w, 10, FixedPointAccumulator(40))
    floats = contract_float32(x, w, 10)
    assert exponents.shape == (7, 1, 1)
    for i in range(7):
        alone = BlockOperand(x.mantissas[i : i + 1], x.exponents[i : i + 1])
        one, one_exponents = contract(alone, w, 10, FixedPointAccumulator(40))
        assert one.tolist() == sums[i : i + 1].tolist()
        assert one_exponents.tolist() == exponents[i : i + 1].tolist()
        assert contract_float32(alone, w, 10).tolist() == floats[i : i + 1].tolist()


def test_two_activations_with_leading_dimensions() -> None:
    rng = np.random.default_rng(3)
    x, w = rng.integers(-99, 99, (2, 5, 3, 8)), rng.integers(-99, 99, (2, 5, 8, 4))
    left, right = rng.integers(-3, 3, (2, 5, 3, 2)), rng.integers(-3, 3, (2, 5, 2, 4))
    sums, exponents = contract(BlockOperand(x, left), BlockOperand(w, right), 4, FixedPointAccumulator(40))
    for b in itertools.product(range(2), range(5)):
        one, one_exponents = contract(
            BlockOperand(x[b], left[b]), BlockOperand(w[b], right[b]), 4, FixedPointAccumulator(40)
        )
        assert one.tolist() == sums[b].tolist()
        assert one_exponents.tolist() == exponents[b].tolist()


@pytest.mark.parametrize("overflow", ["forbidden", "saturate", "wrap"])
@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_bias_is_aligned_as_the_definition_has_it(overflow: str, data: st.DataObject) -> None:
    accumulator = FixedPointAccumulator(data.draw(st.integers(2, 62)), overflow, data.draw(roundings))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    bits = rng.integers(1, 63, 5)
    bias = np.append(rng.integers(-(2**62) + 1, 2**62, 5) >> (62 - bits), 0)
    exponents, target = rng.integers(-80, 80, 6), np.array([[rng.integers(-80, 80)]])
    if data.draw(st.booleans()):
        target = exponents + rng.integers(-9, 3, (1, 6))
    try:
        expected = [
            definition.store(
                ROUNDINGS[accumulator.rounding](int(b) * definition.power(int(e) - int(t))),
                accumulator.bits, overflow,
            )
            for b, e, t in zip(bias, exponents, np.broadcast_to(target, (1, 6))[0], strict=True)
        ]
    except definition.Overflow:
        with pytest.raises(QCompilerError, match="overflows its"):
            accumulator.align(bias, exponents, target)
        return
    assert accumulator.align(bias, exponents, target).reshape(-1).tolist() == expected


def test_forbidden_overflow_says_how_many_bits_it_takes() -> None:
    accumulator = FixedPointAccumulator(8)
    with pytest.raises(QCompilerError) as caught:
        accumulator.add(np.array([127, 1]), np.array([0, 127]))
    assert (caught.value.expected, caught.value.found) == ("-128 to 127", "128, which takes 9 bits")
    with pytest.raises(QCompilerError) as caught:
        accumulator.align(np.array([3]), np.array([70]), np.array([0]))
    assert caught.value.found == "3 * 2**70, which takes 73 bits"


@pytest.mark.parametrize("bits", [2, 8, 40, 62])
def test_an_accumulator_holds_the_ends_of_its_range(bits: int) -> None:
    ends = np.array([-(2 ** (bits - 1)), 2 ** (bits - 1) - 1])
    accumulator = FixedPointAccumulator(bits)
    assert accumulator.store(ends).tolist() == ends.tolist()
    zero = np.array([0])
    assert accumulator.align(ends[:1] // 2, zero + 1, zero).tolist() == ends[:1].tolist()
    for beyond in (ends[0] - 1, ends[1] + 1):
        with pytest.raises(QCompilerError, match="overflows"):
            accumulator.store(np.array([0, beyond]))


@pytest.mark.parametrize("low", [-9, -8, -1, 0, 7, 8])
@pytest.mark.parametrize("high", [-8, -1, 0, 1, 7, 8, 127, 128])
def test_bits_for(low: int, high: int) -> None:
    bits = bits_for(low, high)
    assert all(-(2 ** (bits - 1)) <= v < 2 ** (bits - 1) for v in (low, high))
    assert bits == 1 or not all(-(2 ** (bits - 2)) <= v < 2 ** (bits - 2) for v in (low, high))


ACCUMULATOR = FixedPointAccumulator(40)
PLACES = FixedPointAccumulator(60, fraction=38)
X = BlockOperand(np.ones((3, 8), int), np.zeros((3, 2), int))
W = BlockOperand(np.ones((8, 2), int), np.zeros((2, 2), int))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: contract(X, BlockOperand(np.ones((7, 2), int), W.exponents), 4, ACCUMULATOR), "line up"),
        (lambda: contract(X, W, 0, ACCUMULATOR), "at least one term"),
        (lambda: contract(X, W, 3, ACCUMULATOR), r"exponents of x do not fit .* blocks of 3"),
        (lambda: contract(X, BlockOperand(W.mantissas, np.zeros((1, 3), int)), 4, ACCUMULATOR), "of w do"),
        (lambda: contract(X, BlockOperand(W.mantissas, np.zeros(2, int)), 4, ACCUMULATOR), "of w do"),
        (lambda: contract_float32(X, W, 4, "random"), "unknown order of summation"),
        (lambda: contract_float32(BlockOperand(X.mantissas, X.exponents + 128), W, 4), "beyond the range of float32"),
        (
            lambda: contract(
                BlockOperand(X.mantissas << 32, X.exponents), BlockOperand(W.mantissas << 31, W.exponents), 4,
                ACCUMULATOR,
            ),
            "too wide for a fixed-point accumulator",
        ),
        (
            lambda: contract(BlockOperand(X.mantissas << 22, X.exponents), W, 4, PLACES),
            "up to 63 bits",
        ),
        (lambda: contract_float32(BlockOperand(X.mantissas << 52, X.exponents), W, 4), "too wide to sum up exactly"),
        (lambda: FixedPointAccumulator(63), "2 to 62 bits"),
        (lambda: FixedPointAccumulator(40, "ignore"), "unknown overflow 'ignore'"),
        (lambda: FixedPointAccumulator(40, rounding="up"), "unknown rounding 'up'"),
        (lambda: FixedPointAccumulator(40, fraction=40), "binary places"),
    ],
)
def test_errors(call: Any, message: str) -> None:
    with pytest.raises(QCompilerError, match=message):
        call()
