"""Ops that move values between blocks, against numpy on integers and exponents and a definition of what meets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from block_float import op_definitions as definitions
from block_float.block_tensors import FORMATS, blocks_for, formats, run, tensors
from qcompiler.ir import BlockFloat, ConstantArray, TensorType
from qcompiler.ir.op import OpTypeError, Tensor
from qcompiler.ir.scalar import I64
from qcompiler.ops.resize import Resize
from qcompiler.ops.shape import Concat, Expand, Reshape, Transpose
from qcompiler.ops.slicing import Gather, Pad, Slice, Split

Moves = list[Callable[[Any], Any]]
SHAPE = (2, 4, 5, 3)


def nearest(x: Any) -> Any:
    """Rows 0 0 1 1 2 2 3 3, columns 0 0 1 1 2 2 3 3 4 4."""
    return x[:, [i // 2 for i in range(8)]][:, :, [i // 2 for i in range(10)]]


def edge_padded(x: Any) -> Any:
    return x[:, [0, 0, 1, 2, 3, 3, 3]]


# The op, and for each result what numpy does to an array.
CASES: dict[str, tuple[Any, Moves]] = {
    "reshape": (Reshape((2, 20, 3)), [lambda x: x.reshape(2, 20, 3)]),
    "reshape across": (Reshape((2, 12, 5)), [lambda x: x.reshape(2, 12, 5)]),
    "transpose": (Transpose((0, 3, 1, 2)), [lambda x: x.transpose(0, 3, 1, 2)]),
    "slice": (Slice((1, 2), (3, 0), (-1, 5), (-2, 2)), [lambda x: x[:, 3::-2, 0:5:2]]),
    "split": (Split(2, (1, 4)), [lambda x: x[:, :, :1], lambda x: x[:, :, 1:]]),
    "expand": (Expand((3, 2, 4, 5, 3)), [lambda x: np.broadcast_to(x, (3, 2, 4, 5, 3))]),
    "resize": (Resize((1, 2), (8, 10), coordinates="asymmetric", nearest="floor"), [nearest]),
    "pad edge": (Pad((0, 1, 0, 0), (0, 2, 0, 0), "edge"), [edge_padded]),
    "pad reflect": (Pad((0, 0, 2, 0), (0, 0, 1, 0), "reflect"), [lambda x: x[:, :, [2, 1, 0, 1, 2, 3, 4, 3]]]),
}


def same(found: Tensor, expected: definitions.Written) -> None:
    assert found.exponents is not None
    assert (found.data.tolist(), found.exponents.tolist()) == expected


@pytest.mark.parametrize("case", CASES)
@settings(max_examples=15, deadline=None)
@given(st.data())
def test_values_move_and_meet(case: str, data: st.DataObject) -> None:
    op, moves = CASES[case]
    x = data.draw(tensors(SHAPE))
    assert isinstance(x.type.elem, BlockFloat)
    elems = [BlockFloat(x.type.elem.format, data.draw(blocks_for(s))) for s in op.infer_shapes([x.type])]
    for found, move, elem in zip(run(op, [x], *elems), moves, elems, strict=True):
        same(found, definitions.written(definitions.moved(move, definitions.numbers_of(x)), elem))


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_padding_has_no_exponent(data: st.DataObject) -> None:
    x = data.draw(tensors(SHAPE))
    before, after = ([0, *(data.draw(st.integers(0, 3)) for _ in range(3))] for _ in range(2))
    op = Pad(tuple(before), tuple(after))
    assert isinstance(x.type.elem, BlockFloat)
    elem = BlockFloat(x.type.elem.format, data.draw(blocks_for(op.infer_shapes([x.type])[0])))
    numbers = definitions.numbers_of(x)
    widths = tuple(zip(before, after, strict=True))
    nothing: Any = None
    padded = definitions.Numbers(
        np.pad(numbers.mantissas, widths, constant_values=0), np.pad(numbers.exponents, widths, constant_values=nothing)
    )
    same(run(op, [x], elem)[0], definitions.written(padded, elem))


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_parts_of_different_exponents_are_joined(data: st.DataObject) -> None:
    axis, block_format = data.draw(st.integers(0, 2)), data.draw(formats())
    sizes = data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=3))
    parts = [data.draw(tensors(tuple(s if i == axis else 3 for i in range(3)), block_format)) for s in sizes]
    op = Concat(data.draw(st.sampled_from([axis, axis - 3])))
    elem = BlockFloat(block_format, data.draw(blocks_for(op.infer_shapes([p.type for p in parts])[0])))
    numbers = [definitions.numbers_of(p) for p in parts]
    joined = definitions.Numbers(*(np.concatenate([n[i] for n in numbers], axis) for i in (0, 1)))
    same(run(op, parts, elem)[0], definitions.written(joined, elem))


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_slices_are_gathered(data: st.DataObject) -> None:
    x, axis = data.draw(tensors((3, 4, 5))), data.draw(st.integers(-3, 2))
    size = (3, 4, 5)[axis]
    shape = data.draw(st.sampled_from([(4,), (2, 2), ()]))
    picks = np.random.default_rng(data.draw(st.integers(0, 2**32))).integers(-size, size, shape)
    indices = Tensor(TensorType(shape, I64), np.asarray(picks))
    op = Gather(axis)
    assert isinstance(x.type.elem, BlockFloat)
    elem = BlockFloat(x.type.elem.format, data.draw(blocks_for(op.infer_shapes([x.type, indices.type])[0])))
    moved = definitions.moved(lambda a: a.take(picks, axis), definitions.numbers_of(x))
    same(run(op, [x, indices], elem)[0], definitions.written(moved, elem))


def test_one_exponent_moves_nothing() -> None:
    """Where all that meets has one exponent, every mantissa is kept, the last bit too."""
    x = np.arange(-128, 128, dtype=np.int8).reshape(2, 8, 16)
    type = TensorType(x.shape, BlockFloat(FORMATS["amd"], (1, 8, 16)))
    value = Tensor(type, x, np.array([3, -9], np.int32).reshape(2, 1, 1))
    (found,) = run(Transpose((0, 2, 1)), [value], BlockFloat(FORMATS["amd"], (1, 16, 8)))
    assert found.exponents is not None
    np.testing.assert_array_equal(found.data, x.transpose(0, 2, 1))
    assert found.exponents.tolist() == [[[3]], [[-9]]]


def test_what_movement_does_not_do() -> None:
    elem = BlockFloat(FORMATS["amd"], (1, 1, 1, 3))
    x = TensorType(SHAPE, elem)
    with pytest.raises(OpTypeError, match=r"pads with zeros, found 1\.0"):
        Pad((0, 0, 0, 0), (0, 1, 0, 0), value=1.0).result_elems([x])
    with pytest.raises(OpTypeError, match="resizes to the nearest element, found mode 'linear'"):
        Resize((1, 2), (8, 10), "linear").result_elems([x])
    with pytest.raises(OpTypeError, match="transpose keeps the format of its operand"):
        Transpose((0, 3, 1, 2)).check([x], [TensorType((2, 3, 4, 5), BlockFloat(FORMATS["mx-int8"], (1, 3, 1, 1)))])
    fixed = BlockFloat(FORMATS["amd"], (1, 3, 1, 1), ConstantArray(np.zeros((1,) * 4, np.int32)))
    with pytest.raises(OpTypeError, match="transpose finds its exponents at run time"):
        Transpose((0, 3, 1, 2)).check([x], [TensorType((2, 3, 4, 5), fixed)])


