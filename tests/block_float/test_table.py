"""Tables and softmax on block floating point against their definitions; how tables are made."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numerics.block_definition import Overflow, power
from numerics.exact_arithmetic import half_even

from block_float import op_definitions as definitions
from block_float import table_definitions as tables
from block_float.block_tensors import FORMATS, blocks_for, citing, formats, roundings, run, tensors, wide
from qcompiler.ir import BlockFloat, ConstantArray, Constants, TensorType
from qcompiler.ir.op import OpTypeError, Tensor
from qcompiler.numerics.block_format import BlockFormat
from qcompiler.numerics.block_table import BlockSoftmax, table_entries, tabulate_block
from qcompiler.ops.normalization import Softmax
from qcompiler.ops.table import LookupTable


def fixed(block_format: BlockFormat, blocks: tuple[int, ...], exponent: int) -> BlockFloat:
    """A type with one fixed exponent."""
    return BlockFloat(block_format, blocks, ConstantArray(np.full((1,) * len(blocks), exponent, np.int32)))


@pytest.mark.parametrize("bits", [4, 8, 9, 12, 16])
@settings(max_examples=25, deadline=None)
@given(st.data())
def test_every_mantissa_is_looked_up(bits: int, data: st.DataObject) -> None:
    """Up to 8 bits have an entry each; wider ones are interpolated, with ties and steep steps among them."""
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1)
    mantissas = np.arange(low, high) if bits <= 12 else rng.choice(np.arange(low, high), 3000)
    mantissas[[0, -1]] = low, high - 1
    size = 2**bits if bits <= 8 else 513
    spread = data.draw(st.sampled_from([3, 100, 32768]))
    table = rng.integers(-spread, spread, size)
    block_format = BlockFormat(bits, scale="headroom", overflow="raise")
    type = TensorType((1, len(mantissas)), fixed(block_format, (1, 16), 3))
    stored = mantissas.reshape(1, -1).astype(block_format.mantissa_dtype)
    x = Tensor(type, stored, np.full((1, -(-len(mantissas) // 16)), 3, np.int32))
    result = fixed(BlockFormat(16), (1, data.draw(st.sampled_from([1, 7, 16, len(mantissas)]))), -12)
    (found,) = run(LookupTable(ConstantArray(table.astype(np.int16))), [x], result)
    assert found.exponents is not None
    assert found.data.tolist() == [[tables.looked_up(m, table.tolist(), bits) for m in mantissas.tolist()]]
    assert set(found.exponents.reshape(-1).tolist()) == {-12}
    assert found.exponents.shape == (1, -(-len(mantissas) // result.blocks[1]))  # type: ignore[operator]


@pytest.mark.parametrize("bits", [8, 16])
@settings(max_examples=30, deadline=None)
@given(st.data())
def test_tables_hold_the_nearest_entries_at_the_smallest_exponent(bits: int, data: st.DataObject) -> None:
    """A function of exact numbers: the entries are known as fractions."""
    exponent, result = data.draw(st.integers(-20, 3)), data.draw(formats("dsp16", "amd", "mx-int8"))
    numerator, shift = data.draw(st.integers(-9, 9)), data.draw(st.integers(-6, 6))
    table, chosen = tabulate_block(lambda x: x * numerator * 2.0**shift + 0.375, bits, exponent, result)
    spacing = 1 if bits == 8 else 128
    values = [
        (i * spacing - 2 ** (bits - 1)) * power(exponent + shift) * numerator + Fraction(3, 8)
        for i in range(table_entries(bits))
    ]
    largest = max(abs(v) for v in values)
    assert half_even(largest / power(chosen)) <= result.largest
    assert half_even(largest / power(chosen - 1)) > result.largest
    expected = [min(max(half_even(v / power(chosen)), result.smallest), result.largest) for v in values]
    assert table.tolist() == expected


def test_tables_outside_of_a_functions_domain() -> None:
    """No number becomes 0, infinities the nearest bound."""
    with np.errstate(all="ignore"):
        table, exponent = tabulate_block(lambda x: np.where(x < 0, np.nan, 1 / x), 8, 0, FORMATS["amd"])
    assert table[:128].tolist() == [0] * 128
    assert table[128] == 127
    assert table[129] * 2.0**exponent == 1.0
    table, exponent = tabulate_block(lambda x: np.zeros_like(x), 8, 0, FORMATS["amd"])
    assert (set(table.tolist()), exponent) == ({0}, -128)


TABLE = ConstantArray(np.zeros(256, np.int8))
POINT = TensorType((1, 4), fixed(FORMATS["amd"], (1, 4), 0))


@pytest.mark.parametrize(
    ("operand", "op", "result", "problem"),
    [
        (BlockFloat(FORMATS["amd"], (1, 4)), LookupTable(TABLE), POINT.elem, "an operand with one fixed exponent"),
        (
            BlockFloat(FORMATS["amd"], (1, 2), ConstantArray(np.array([[1, 2]], np.int32))), LookupTable(TABLE),
            POINT.elem, "an operand with one fixed exponent",
        ),
        (fixed(FORMATS["mx-e2m1"], (1, 4), 0), LookupTable(TABLE), POINT.elem, "a table takes at most 16 bits"),
        (fixed(BlockFormat(17), (1, 4), 0), LookupTable(TABLE), POINT.elem, "a table takes at most 16 bits"),
        (
            fixed(FORMATS["dsp16"], (1, 4), 0), LookupTable(TABLE), POINT.elem,
            r"a table for 16 bits has 513 entries, found \(256,\)",
        ),
        (POINT.elem, LookupTable(TABLE), BlockFloat(FORMATS["amd"], (1, 4)), "a table's result has one fixed exponent"),
        (
            POINT.elem, LookupTable(ConstantArray(np.full(256, -128, np.int16))), fixed(FORMATS["mx-int8"], (1, 4), 0),
            "table entries leave -127 to 127",
        ),
    ],
)
def test_tables_that_do_not_fit(operand: Any, op: Any, result: Any, problem: str) -> None:
    def check() -> None:
        x = TensorType((1, 4), operand)
        op.result_elems([x])
        op.check([x], [TensorType((1, 4), result)])

    with pytest.raises(OpTypeError, match=problem):
        check()


def softmax_of(axis: int) -> Any:
    op = citing(Softmax(axis), "block-exponential")
    return op.replace(constants=Constants(BlockSoftmax().constants()))


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_softmax_follows_its_definition(data: st.DataObject) -> None:
    shape, axis = data.draw(st.sampled_from([((2, 7), -1), ((3, 4), 0), ((2, 3, 4), 1), ((1, 1), 1), ((2, 40), -1)]))
    x = data.draw(tensors(shape, data.draw(formats("dsp16", "amd", "mx-int8", "mx-e2m1"))))
    elem = BlockFloat(wide(40, data.draw(roundings)), data.draw(blocks_for(shape)))
    table = BlockSoftmax().constants()["exponentials"].tolist()
    numbers = definitions.numbers_of(x)
    rows = [np.moveaxis(a, axis, -1).reshape(-1, shape[axis]).tolist() for a in numbers]
    found = [tables.softmax(m, e, table, elem.format.rounding) for m, e in zip(*rows, strict=True)]
    moved = np.moveaxis(numbers.mantissas, axis, -1).shape
    mantissas = np.moveaxis(np.array(found, object).reshape(moved), -1, axis)
    expected = definitions.written(definitions.Numbers(mantissas, np.full(shape, -30, object)), elem)
    (result,) = run(softmax_of(axis), [x], elem)
    assert result.exponents is not None
    assert (result.data.tolist(), result.exponents.tolist()) == expected


@pytest.mark.parametrize("exponent", [-20, -12, -9, -3, 4, 100])
def test_softmax_is_near_the_real_one(exponent: int) -> None:
    """The definition itself: within a thousandth, sums just below 1, equal values equal."""
    x = np.array([[0, -1, 3, 3, 117, 100, -128, 117]], np.int8)
    value = Tensor(TensorType(x.shape, BlockFloat(FORMATS["amd"], (1, 8))), x, np.array([[exponent]], np.int32))
    (found,) = run(softmax_of(-1), [value], BlockFloat(wide(), (1, 8)))
    probabilities = found.data * 2.0**-30
    reals = np.exp((x - 117.0) * 2.0**exponent)
    np.testing.assert_allclose(probabilities, reals / reals.sum(), atol=1e-3, rtol=0)
    assert 1 - 8 * 2.0**-30 <= probabilities.sum() <= 1
    assert found.data[0, 4] == found.data[0, 7]


def test_the_table_of_exponentials() -> None:
    table = BlockSoftmax().constants()["exponentials"]
    assert len(table) == 1025
    assert table[-1] == 2**30
    for index in (0, 1, 512, 1023):
        assert abs(table[index] * 2.0**-30 - np.exp(-16 + index / 64)) <= 2.0**-31


def test_softmax_constants_are_those_of_its_arithmetic() -> None:
    x = TensorType((1, 4), BlockFloat(FORMATS["amd"], (1, 4)))
    result = TensorType((1, 4), BlockFloat(wide(), (1, 4)))
    softmax_of(-1).check([x], [result])
    with pytest.raises(OpTypeError, match="constants are not those of block-exponential"):
        citing(Softmax(-1), "block-exponential").check([x], [result])


def test_probabilities_beyond_a_mantissa_are_an_error_in_the_definition_too() -> None:
    with pytest.raises(Overflow):
        definitions.written(
            definitions.Numbers(np.array([2**30], object), np.array([-30], object)), BlockFloat(wide(31), (1,))
        )
