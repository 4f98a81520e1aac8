"""to_block, from_block, normalize and fake_block against the definition of block formats, in fractions."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numerics import block_definition as definition
from numerics.block_cases import arrays
from numerics.exact_arithmetic import float32

from block_float.block_tensors import FORMATS, NARROW, blocks_for, formats, run, tensors, wide
from qcompiler.errors import QCompilerError
from qcompiler.ir import BlockFloat, ConstantArray, TensorType
from qcompiler.ir.op import OpTypeError, Tensor
from qcompiler.ir.scalar import F32
from qcompiler.numerics.block_format import BlockFormat
from qcompiler.ops.block_conversion import FakeBlock, FromBlock, Normalize, ToBlock
from qcompiler.ops.reduction import ArgMax

SHAPES = [(2, 5), (1, 40), (2, 3, 4), (7,), (2, 2, 2, 3)]


def held(found: Tensor) -> tuple[Any, Any]:
    assert found.exponents is not None
    return found.data.tolist(), found.exponents.tolist()


def expected(values: Any, elem: BlockFloat) -> tuple[Any, Any]:
    """What a type holds of exact values; its exponents may be fixed."""
    blocks = tuple(int(str(b)) for b in elem.blocks)
    if elem.exponents is None:
        mantissas, exponents = definition.write(values, elem.format, blocks)
        return mantissas.tolist(), exponents.tolist()
    grid = tuple(-(-s // b) for s, b in zip(values.shape, blocks, strict=True))
    exponents = np.broadcast_to(elem.exponents.array, grid)
    mantissas = np.zeros(values.shape, np.int64)
    for place, part in definition.slices(values.shape, blocks):
        block = values[part]
        found, _ = definition.write_block(list(block.reshape(-1)), elem.format, int(exponents[place]))
        mantissas[part] = np.array(found).reshape(block.shape)
    return mantissas.tolist(), exponents.tolist()


@st.composite
def elems(draw: st.DrawFn, shape: tuple[int, ...]) -> BlockFloat:
    """A type for this shape whose exponents are found, or fixed: one for all blocks, or one for each."""
    elem = BlockFloat(draw(formats()), draw(blocks_for(shape)))
    kind = draw(st.sampled_from(["found", "found", "one", "each"]))
    if kind == "found":
        return elem
    blocks = tuple(int(str(b)) for b in elem.blocks)
    grid = (1,) * len(shape) if kind == "one" else tuple(-(-s // b) for s, b in zip(shape, blocks, strict=True))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    middle = draw(st.sampled_from([-50, -8, 0, 20]))
    low, high = elem.format.exponent_range
    exponents = np.clip(middle + rng.integers(-4, 5, grid), low, high).astype(np.int32)
    return BlockFloat(elem.format, elem.blocks, ConstantArray(exponents))


@settings(max_examples=75, deadline=None)
@given(st.data())
def test_reals_are_written(data: st.DataObject) -> None:
    x = data.draw(arrays(data.draw(st.integers(1, 4)))).astype(np.float32)
    elem = data.draw(elems(x.shape))
    (found,) = run(ToBlock(), [Tensor(TensorType(x.shape, F32), x)], elem)
    assert held(found) == expected(definition.fractions_of(x.astype(np.float64)), elem)
    assert found.data.dtype == elem.format.mantissa_dtype


@settings(max_examples=75, deadline=None)
@given(st.data())
def test_values_change_format_and_blocks_with_one_rounding(data: st.DataObject) -> None:
    shape = data.draw(st.sampled_from(SHAPES))
    x = data.draw(tensors(shape, data.draw(formats(*NARROW))))
    assert isinstance(x.type.elem, BlockFloat)
    assert x.exponents is not None
    elem = data.draw(elems(shape))
    values = definition.read(x.data, x.exponents, tuple(int(str(b)) for b in x.type.elem.blocks))
    (found,) = run(Normalize(), [x], elem)
    assert held(found) == expected(values, elem)


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_sums_of_40_bits_are_normalized(data: st.DataObject) -> None:
    """Accumulators: mantissas of 40 bits, at their ends too."""
    shape = data.draw(st.sampled_from(SHAPES))
    block_format = wide(40)
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    elem = BlockFloat(block_format, data.draw(blocks_for(shape)))
    blocks = tuple(int(str(b)) for b in elem.blocks)
    grid = tuple(-(-s // b) for s, b in zip(shape, blocks, strict=True))
    bits = rng.integers(1, 40, shape)
    mantissas = np.where(rng.random(shape) < 0.2, -(2**39), rng.integers(-(2**bits), 2**bits))
    exponents = rng.integers(-60, 60, grid).astype(np.int32)
    x = Tensor(TensorType(shape, elem), np.clip(mantissas, -(2**39), 2**39 - 1), exponents)
    assert x.exponents is not None
    result = data.draw(elems(shape))
    (found,) = run(Normalize(), [x], result)
    assert held(found) == expected(definition.read(x.data, x.exponents, blocks), result)


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_values_are_read_as_float32_rounded_once(data: st.DataObject) -> None:
    shape = data.draw(st.sampled_from(SHAPES))
    x = data.draw(tensors(shape))
    assert isinstance(x.type.elem, BlockFloat)
    assert x.exponents is not None
    values = definition.read(x.data, x.exponents, tuple(int(str(b)) for b in x.type.elem.blocks))
    with np.errstate(over="ignore"):
        reals = [np.float32(float(float32(v))) for v in values.reshape(-1)]
        (found,) = run(FromBlock(), [x])
    np.testing.assert_array_equal(found.data.reshape(-1), np.array(reals), strict=True)


def test_reading_rounds_ties_to_even() -> None:
    mantissas = np.array([2**24 + 1, 2**24 + 3, -(2**24) - 1, 2**25 + 2, 2**30 + 2**6 + 1], np.int64)
    elem = BlockFloat(wide(40, exponent=10), (5,))
    (found,) = run(FromBlock(), [Tensor(TensorType((5,), elem), mantissas, np.array([-3], np.int32))])
    assert (found.data * 8).tolist() == [2**24, 2**24 + 4, -(2**24), 2**25, 2**30 + 2**7]


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_marks_simulate_what_they_mark(data: st.DataObject) -> None:
    """A mark's result is what the value would be once written and read."""
    x = data.draw(arrays(2)).astype(np.float32)
    elem = data.draw(elems(x.shape))
    operand = Tensor(TensorType(x.shape, F32), x)
    mark = FakeBlock(TensorType(x.shape, elem), elem.exponents is not None)
    (simulated,) = run(mark, [operand])
    (written,) = run(ToBlock(), [operand], elem)
    np.testing.assert_array_equal(simulated.data, run(FromBlock(), [written])[0].data, strict=True)


def test_a_mark_without_its_exponent_changes_nothing() -> None:
    x = np.array([[0.1, 1e30]], np.float32)
    mark = FakeBlock(TensorType(x.shape, BlockFloat(FORMATS["amd"], (1, 2))), True)
    assert not mark.is_calibrated
    np.testing.assert_array_equal(run(mark, [Tensor(TensorType(x.shape, F32), x)])[0].data, x)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([0.0, 0.25, 0.4375, 0.5, 0.5625, 0.75, 1.0, 1.5]), st.integers(-60, 60), st.floats(-1, 1),
    formats("dsp16", "amd", "mx-int8"),
)
def test_calibration_takes_the_smallest_exponent_at_which_all_fits(
    beyond: float, exponent: int, share: float, block_format: Any
) -> None:
    """Ends around the largest mantissa and one half: what rounds beyond it takes the next exponent."""
    end = (block_format.largest + beyond) * 2.0**exponent
    low, high = sorted((-end, share * end) if share < 0 else (share * end, end))
    elem = BlockFloat(block_format, (1, 4))
    mark = FakeBlock(TensorType((2, 4), elem), True).fixed_for(low, high)
    largest = max(abs(Fraction(low)), abs(Fraction(high)))
    lowest, highest = block_format.exponent_range
    end = block_format.largest + Fraction(1, 2)
    fits = [e for e in range(lowest, highest + 1) if largest / definition.power(e) < end]
    assert mark.exponent == (min(fits) if fits else highest)
    assert mark.is_calibrated


def test_types_that_do_not_fit() -> None:
    real = TensorType((2, 4), F32)
    elem = BlockFloat(FORMATS["amd"], (1, 4))
    for op in (FromBlock(), Normalize()):
        with pytest.raises(OpTypeError, match="needs block floating point"):
            op.result_elems([real])
    with pytest.raises(OpTypeError, match="needs block floating point"):
        ToBlock().check([real], [real])
    with pytest.raises(OpTypeError, match=r"marks .* to be held as"):
        FakeBlock(TensorType((2, 5), elem)).result_elems([real])


@pytest.mark.parametrize(
    ("block_format", "fits"),
    [
        (BlockFormat(54), True), (BlockFormat(55), False), (BlockFormat(40, 10), True), (BlockFormat(40, 11), False),
        (BlockFormat(8, 11, lowest_exponent=-1023, highest_exponent=1016), True),
        (BlockFormat(8, 11, lowest_exponent=-1023, highest_exponent=1017), False),
    ],
)
def test_what_float64_does_not_hold_is_not_read(block_format: BlockFormat, fits: bool) -> None:
    type = TensorType((2, 4), BlockFloat(block_format, (1, 4)))
    for op in (FromBlock(), ArgMax(1)):
        if fits:
            assert len(op.result_elems([type])) == 1
            continue
        with pytest.raises(OpTypeError, match="needs values that float64 holds"):
            op.result_elems([type])


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_infinities_are_refused(value: float) -> None:
    x = np.array([[1.0, value]], np.float32)
    with pytest.raises(QCompilerError, match="no infinity and no NaN"):
        run(ToBlock(), [Tensor(TensorType(x.shape, F32), x)], BlockFloat(FORMATS["amd"], (1, 2)))
