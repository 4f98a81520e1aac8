"""Pooling and reductions on block floating point against Python integers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numerics.block_definition import power

from block_float import op_definitions as definitions
from block_float.block_tensors import FORMATS, blocks_for, citing, formats, roundings, run, tensors, wide
from qcompiler.ir import BlockFloat, TensorType
from qcompiler.ir.op import OpTypeError, Tensor
from qcompiler.ops.pooling import AveragePool2D, MaxPool2D
from qcompiler.ops.reduction import ArgMax, Mean, ReduceMax, ReduceMin, ReduceProduct, ReduceSum

NARROW = ("dsp16", "dsp8", "amd", "mx-int8", "mx-e2m3", "mx-e2m1", "mx-e3m2")


def same(found: Tensor, expected: definitions.Written) -> None:
    assert found.exponents is not None
    assert (found.data.tolist(), found.exponents.tolist()) == expected


@st.composite
def pools(draw: st.DrawFn, make: Any, dilations: tuple[int, int] | None = None) -> tuple[Any, Tensor, Any]:
    """A pool whose windows all hold a value, its operand, and the windows."""
    kernel = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    pads = tuple(draw(st.integers(0, max(k - 1, 0))) for k in (*kernel, *kernel))
    op = make(kernel, strides=(draw(st.integers(1, 2)), draw(st.integers(1, 3))), pads=pads, layout="NHWC")
    op = op if dilations is None else op.replace(dilations=dilations)
    shape = (draw(st.integers(1, 2)), draw(st.integers(1, 4)), draw(st.integers(1, 4)), draw(st.integers(1, 3)))
    assume(all((op.kernel[i] - 1) * op.dilations[i] < shape[1 + i] + pads[i] + pads[i + 2] for i in (0, 1)))
    x = draw(tensors(shape, draw(formats(*NARROW))))
    (result,) = op.infer_shapes([x.type])
    windows = definitions.pool_windows(shape, op, tuple(int(str(d)) for d in result))
    assume(all(windows.reshape(-1)))
    return op, x, windows


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_largest_values_of_windows(data: st.DataObject) -> None:
    dilations = (data.draw(st.integers(1, 2)), 1)
    op, x, windows = data.draw(pools(MaxPool2D, dilations))
    assert isinstance(x.type.elem, BlockFloat)
    elem = BlockFloat(x.type.elem.format, data.draw(blocks_for(windows.shape)))
    same(run(op, [x], elem)[0], definitions.reduced(max, definitions.numbers_of(x), windows, elem))


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_averages_of_windows(data: st.DataObject) -> None:
    bits = data.draw(st.sampled_from([16, 8, 24]))
    op, x, windows = data.draw(pools(AveragePool2D))
    elem = BlockFloat(wide(62, data.draw(roundings)), data.draw(blocks_for(windows.shape)))
    expected = definitions.averaged(definitions.numbers_of(x), windows, bits, elem)
    same(run(citing(op, f"reciprocal{{bits={bits}}}"), [x], elem)[0], expected)


@st.composite
def reductions(draw: st.DrawFn) -> tuple[Tensor, tuple[int, ...], bool, Any]:
    """An operand, any of its axes, the first one too."""
    shape = draw(st.sampled_from([(2, 3, 4), (3, 5), (1, 2, 3, 2), (2, 50)]))
    axes = draw(st.lists(st.sampled_from(range(len(shape))), min_size=1, unique=True))
    keepdims = draw(st.booleans())
    assume(keepdims or len(axes) < len(shape))
    x = draw(tensors(shape, draw(formats(*NARROW))))
    return x, tuple(sorted(axes)), keepdims, definitions.reduction_windows(shape, tuple(axes), keepdims)


@pytest.mark.parametrize(("make", "function"), [(ReduceMax, max), (ReduceMin, min)])
@settings(max_examples=25, deadline=None)
@given(st.data())
def test_largest_and_smallest_values(make: Any, function: Any, data: st.DataObject) -> None:
    x, axes, keepdims, windows = data.draw(reductions())
    assert isinstance(x.type.elem, BlockFloat)
    elem = BlockFloat(x.type.elem.format, data.draw(blocks_for(windows.shape)))
    expected = definitions.reduced(function, definitions.numbers_of(x), windows, elem)
    same(run(make(axes, keepdims), [x], elem)[0], expected)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_sums(data: st.DataObject) -> None:
    x, axes, keepdims, windows = data.draw(reductions())
    elem = BlockFloat(wide(40, data.draw(roundings)), data.draw(blocks_for(windows.shape)))
    expected = definitions.reduced(sum, definitions.numbers_of(x), windows, elem)
    same(run(citing(ReduceSum(axes, keepdims), "align-larger"), [x], elem)[0], expected)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_means(data: st.DataObject) -> None:
    x, axes, keepdims, windows = data.draw(reductions())
    bits = data.draw(st.sampled_from([16, 8, 24]))
    elem = BlockFloat(wide(62, data.draw(roundings)), data.draw(blocks_for(windows.shape)))
    expected = definitions.averaged(definitions.numbers_of(x), windows, bits, elem)
    same(run(citing(Mean(axes, keepdims), f"reciprocal{{bits={bits}}}"), [x], elem)[0], expected)


def test_a_mean_of_a_power_of_two_is_exact() -> None:
    x = np.array([[-32768, 32767, 5, -3]], np.int16)
    value = Tensor(TensorType((1, 4), BlockFloat(FORMATS["dsp16"], (1, 4))), x, np.array([[-7]], np.int32))
    (found,) = run(citing(Mean((1,)), "reciprocal"), [value], BlockFloat(wide(), (1, 1)))
    assert found.exponents is not None
    assert found.data.item() * 2.0 ** found.exponents.item() == x.sum() / 4 * 2.0**-7


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_the_first_of_the_largest_values(data: st.DataObject) -> None:
    shape, block_format = data.draw(st.sampled_from([(2, 3, 4), (3, 9)])), data.draw(formats())
    x = data.draw(tensors(shape, block_format))
    axis, keepdims = data.draw(st.integers(-len(shape), len(shape) - 1)), data.draw(st.booleans())
    numbers = definitions.numbers_of(x)
    values = numbers.mantissas * np.vectorize(power, otypes=[object])(numbers.exponents)
    expected = np.apply_along_axis(lambda row: row.tolist().index(max(row)), axis, values)
    (found,) = run(ArgMax(axis, keepdims), [x])
    np.testing.assert_array_equal(found.data, np.expand_dims(expected, axis) if keepdims else expected)


def test_equal_values_at_different_exponents() -> None:
    """6 * 2**0, 3 * 2**1 and 12 * 2**-1 are one number: the first is found."""
    x = np.array([[5, 6, 3, 12]], np.int8)
    value = Tensor(TensorType((1, 4), BlockFloat(FORMATS["amd"], (1, 1))), x, np.array([[0, 0, 1, -1]], np.int32))
    assert run(ArgMax(1), [value])[0].data.tolist() == [[1]]


def test_types_that_do_not_fit() -> None:
    x = TensorType((2, 4), BlockFloat(FORMATS["amd"], (1, 4)))
    with pytest.raises(OpTypeError, match="reduce_max keeps the format of its operand"):
        ReduceMax((1,)).check([x], [TensorType((2, 1), BlockFloat(wide(), (1, 1)))])
    with pytest.raises(OpTypeError, match="is not one of block floating point"):
        citing(Mean((1,)), "litert-mean").check([x], [TensorType((2, 1), BlockFloat(wide(), (1, 1)))])
    with pytest.raises(OpTypeError, match="has no meaning on block floating point"):
        ReduceProduct((1,)).result_elems([x])
