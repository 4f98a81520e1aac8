"""add, sub, mul, maximum, minimum and limits on block floating point against Python integers."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numerics.block_definition import Overflow

from block_float import op_definitions as definitions
from block_float.block_tensors import (
    FORMATS,
    NARROW,
    blocks_for,
    citing,
    formats,
    mantissas_of,
    roundings,
    run,
    tensors,
    wide,
)
from qcompiler.errors import QCompilerError
from qcompiler.ir import BlockFloat, TensorType
from qcompiler.ir.op import OpTypeError, Tensor
from qcompiler.ir.scalar import F32
from qcompiler.numerics.block_format import BlockFormat
from qcompiler.ops.activation import Clip, Relu
from qcompiler.ops.binary import Add, Maximum, Minimum, Mul, Sub

SHAPES = [
    ((2, 3, 5), (2, 3, 5)), ((2, 1, 5), (3, 1)), ((4, 7), (1, 7)), ((1,), (2, 4)), ((3, 9), (9,)), ((2, 40), (2, 40)),
]


def same(found: Tensor, expected: definitions.Written) -> None:
    assert found.exponents is not None
    assert (found.data.tolist(), found.exponents.tolist()) == expected


@st.composite
def pairs(draw: st.DrawFn, *, of_one_format: bool = False) -> tuple[Tensor, Tensor]:
    first, second = draw(st.sampled_from(SHAPES))
    block_format = draw(formats(*NARROW))
    other = block_format if of_one_format else draw(formats(*NARROW))
    return draw(tensors(first, block_format)), draw(tensors(second, other))


def result_shape(a: Tensor, b: Tensor) -> tuple[int, ...]:
    return np.broadcast_shapes(a.data.shape, b.data.shape)


@pytest.mark.parametrize(("op", "function"), [(Add(), operator.add), (Sub(), operator.sub)])
@settings(max_examples=30, deadline=None)
@given(st.data())
def test_sums_are_exact_at_the_largest_exponent(
    op: Any, function: Callable[[int, int], int], data: st.DataObject
) -> None:
    a, b = data.draw(pairs())
    held = wide(data.draw(st.sampled_from([40, 20])), data.draw(roundings))
    elem = BlockFloat(held, data.draw(blocks_for(result_shape(a, b))))
    expected = definitions.aligned(function, definitions.numbers_of(a), definitions.numbers_of(b), elem)
    same(run(citing(op, "align-larger"), [a, b], elem)[0], expected)


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_products_are_exact_at_the_sum_of_the_exponents(data: st.DataObject) -> None:
    a, b = data.draw(pairs())
    elem = BlockFloat(wide(62, data.draw(roundings)), data.draw(blocks_for(result_shape(a, b))))
    expected = definitions.written(definitions.product(definitions.numbers_of(a), definitions.numbers_of(b)), elem)
    same(run(citing(Mul(), "exact-product"), [a, b], elem)[0], expected)


@pytest.mark.parametrize(("op", "function"), [(Maximum(), max), (Minimum(), min)])
@settings(max_examples=30, deadline=None)
@given(st.data())
def test_selections_are_made_at_the_larger_exponent(
    op: Any, function: Callable[[int, int], int], data: st.DataObject
) -> None:
    a, b = data.draw(pairs(of_one_format=True))
    elem = BlockFloat(a.type.elem.format, data.draw(blocks_for(result_shape(a, b))))  # type: ignore[union-attr]
    expected = definitions.aligned(function, definitions.numbers_of(a), definitions.numbers_of(b), elem)
    same(run(op, [a, b], elem)[0], expected)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_limits_are_rounded_to_the_block_and_are_mantissas_of_the_format(data: st.DataObject) -> None:
    x = data.draw(tensors(data.draw(st.sampled_from([(2, 5), (1, 40), (2, 3, 4)]))))
    assert isinstance(x.type.elem, BlockFloat)
    assert x.exponents is not None
    # Bounds in quarters of some block's steps, beyond its ends too.
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    steps = rng.choice([1.25 * x.type.elem.format.largest, 20]) * rng.uniform(-1, 1, 2)
    low, high = np.sort(np.ldexp(np.rint(4 * steps), rng.choice(x.exponents.reshape(-1)) - 2)).tolist()
    op: Any = data.draw(st.sampled_from([Relu(), Clip(low, high), Clip(minimum=low), Clip(maximum=high)]))
    lowest, highest = (Fraction(b) if math.isfinite(b) else None for b in op.limits)
    expected = definitions.limited(definitions.numbers_of(x), (lowest, highest), x.type.elem.format)
    (found,) = run(op, [x])
    assert found.type == x.type
    assert found.data.tolist() == expected.tolist()
    np.testing.assert_array_equal(found.exponents, x.exponents, strict=True)
    assert found.data.dtype == x.data.dtype
    assert np.isin(found.data, mantissas_of(x.type.elem.format)).all()


@pytest.mark.parametrize("rounding", ["half-up", "half-away", "half-even", "toward-zero", "floor"])
def test_ties_of_sums_in_every_rounding(rounding: str) -> None:
    """Odd mantissas one place below the other operand's exponent: every one is a tie."""
    odd = np.arange(-127, 128, 2, dtype=np.int8)
    elem = BlockFloat(FORMATS["amd"], (len(odd),))
    a = Tensor(TensorType(odd.shape, elem), odd, np.array([0], np.int32))
    b = Tensor(TensorType(odd.shape, elem), np.zeros_like(odd), np.array([1], np.int32))
    result = BlockFloat(wide(20, rounding), (len(odd),))
    expected = {
        "half-up": [math.floor(m / 2 + 0.5) for m in odd.tolist()], "half-even": [round(m / 2) for m in odd.tolist()],
        "half-away": [int(math.copysign(abs(m) // 2 + 1, m)) for m in odd.tolist()],
        "toward-zero": [int(m / 2) for m in odd.tolist()], "floor": [m // 2 for m in odd.tolist()],
    }[rounding]
    (found,) = run(citing(Add(), "align-larger"), [a, b], result)
    assert found.data.tolist() == expected


def test_a_mantissa_that_does_not_fit_is_an_error() -> None:
    elem = BlockFloat(FORMATS["amd"], (1,))
    x = Tensor(TensorType((1,), elem), np.array([-128], np.int8), np.array([0], np.int32))
    assert run(citing(Add(), "align-larger"), [x, x], BlockFloat(wide(9), (1,)))[0].data.tolist() == [-256]
    with pytest.raises(QCompilerError, match="overflow of a 8-bit mantissa"):
        run(citing(Add(), "align-larger"), [x, x], BlockFloat(wide(8), (1,)))


@pytest.mark.parametrize("exponent", [-100, 100])
def test_an_exponent_that_does_not_fit_is_an_error(exponent: int) -> None:
    """A product whose exponent its format does not have is not given another one."""
    elem = BlockFloat(FORMATS["amd"], (1,))
    x = Tensor(TensorType((1,), elem), np.array([3], np.int8), np.array([exponent], np.int32))
    product = citing(Mul(), "exact-product")
    assert run(product, [x, x], BlockFloat(wide(exponent=9), (1,)))[0].exponents.tolist() == [2 * exponent]  # type: ignore[union-attr]
    with pytest.raises(QCompilerError, match="8-bit exponent"):
        run(product, [x, x], BlockFloat(wide(exponent=8), (1,)))


def test_a_block_of_zeros_has_the_smallest_exponent_at_least() -> None:
    elem = BlockFloat(FORMATS["amd"], (1,))
    x = Tensor(TensorType((1,), elem), np.array([0], np.int8), np.array([-128], np.int32))
    (found,) = run(citing(Mul(), "exact-product"), [x, x], BlockFloat(wide(exponent=8), (1,)))
    assert found.exponents is not None
    assert found.exponents.tolist() == [-128]


def test_types_that_do_not_fit() -> None:
    a = TensorType((4,), BlockFloat(FORMATS["amd"], (4,)))
    b = TensorType((4,), BlockFloat(FORMATS["mx-int8"], (4,)))
    broad = TensorType((4,), BlockFloat(BlockFormat(40, 12), (4,)))
    with pytest.raises(OpTypeError, match="maximum keeps the format of its operand"):
        Maximum().check([a, b], [a])
    with pytest.raises(OpTypeError, match="needs block floating point"):
        Add().result_elems([a, TensorType((4,), F32)])
    with pytest.raises(OpTypeError, match="products of these mantissas have 80 bits"):
        citing(Mul(), "exact-product").result_elems([broad, broad])
    with pytest.raises(OpTypeError, match="is not one of block floating point"):
        citing(Add(), "litert-add").check([a, a], [broad])


def test_overflow_in_the_definition_is_overflow() -> None:
    """The definition refuses what the op refuses, so that neither hides the other's clamp."""
    elem = BlockFloat(FORMATS["amd"], (1,))
    x = Tensor(TensorType((1,), elem), np.array([-128], np.int8), np.array([0], np.int32))
    with pytest.raises(Overflow):
        definitions.aligned(operator.sub, definitions.numbers_of(x), definitions.numbers_of(
            Tensor(x.type, np.array([127], np.int8), x.exponents)), BlockFloat(wide(8), (1,)))
