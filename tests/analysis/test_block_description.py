"""Values of block floating point in words and figures: mantissas, exponents, and what differs between types."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.analysis.op_changes import Change, type_changes, type_text
from qcompiler.analysis.program_comparison import diff_programs
from qcompiler.analysis.value_description import BlockDescription, Spread, describe_value, held_numbers
from qcompiler.ir import BlockArray, BlockFloat, Builder, ConstantArray, Graph, Tensor, TensorType, value_names
from qcompiler.ir.scalar import F32
from qcompiler.numerics.block_format import BlockFormat
from qcompiler.ops.block_conversion import FakeBlock, FromBlock, ToBlock
from qcompiler.ops.constant import Constant

FORMAT = BlockFormat(8, scale="headroom", overflow="raise")


def exponents_of(*values: int) -> ConstantArray:
    return ConstantArray(np.array([values], np.int32))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1 << 30), rows=st.integers(1, 5), width=st.integers(1, 4))
def test_figures_are_those_of_mantissas_exponents_and_real_numbers(seed: int, rows: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    type = TensorType((rows, 4), BlockFloat(FORMAT, (1, width)))
    tensors = []
    for _ in range(2):
        mantissas = rng.choice([-128, 127, 0, 5, -9], (rows, 4)).astype(np.int8)
        exponents = rng.integers(-20, 20, (rows, -(-4 // width))).astype(np.int32)
        tensors.append(Tensor.of(type, BlockArray(mantissas, exponents)))
    held = held_numbers(tensors)
    mantissas = np.concatenate([t.data.reshape(-1) for t in tensors]).astype(int)
    real = [
        int(t.data[i, j]) * 2.0 ** int(t.block.exponents[i, j // width])
        for t in tensors for i in range(rows) for j in range(4)
    ]
    assert held.stored is not None
    assert held.exponents is not None
    assert (held.real.minimum, held.real.maximum, held.real.count) == (min(real), max(real), len(real))
    assert (held.stored.minimum, held.stored.maximum) == (mantissas.min(), mantissas.max())
    assert held.at_minimum == np.mean(mantissas == -128)
    assert held.at_maximum == np.mean(mantissas == 127)
    exponents = np.concatenate([t.block.exponents.reshape(-1) for t in tensors])
    assert held.exponents.count == exponents.size
    assert (held.exponents.minimum, held.exponents.maximum) == (exponents.min(), exponents.max())
    assert sum(held.exponents.histogram.counts) == exponents.size


def program() -> Graph:
    """to_block with exponents found at run time, then from_block; a mark; a constant."""
    graph = Graph()
    build = Builder(graph)
    x = graph.add_input("x", TensorType((2, 4), F32))
    held = build(ToBlock(), x, elem=BlockFloat(FORMAT, (1, 4)))
    marked = build(FakeBlock(TensorType((2, 4), BlockFloat(FORMAT, (1, 2), exponents_of(-3)))), x)
    waiting = build(FakeBlock(TensorType((2, 4), BlockFloat(FORMAT, (1, 2))), is_fixed=True), x)
    constant = build(
        Constant(ConstantArray(np.array([[1, -2, 3, 127]], np.int8)), exponents_of(-3, 4)),
        elem=BlockFloat(FORMAT, (1, 2)),
    )
    back = build(FromBlock(), constant)
    graph.set_outputs([("y", build(FromBlock(), held)), ("m", marked), ("w", waiting), ("c", back)])
    return graph


def test_a_value_is_described_by_its_format() -> None:
    graph = program()
    names = value_names(graph)
    held, marked, waiting, constant, *_ = (n.result for n in graph.nodes)
    expected = BlockDescription(
        "i8", -128, 127, "m8e8, scale=headroom, overflow=raise", "[1,4]", -128, 127, None
    )
    assert describe_value(graph, held, names).block == expected
    fixed = dataclasses.replace(expected, blocks="[1,2]", fixed_exponents=Spread(1, -3, -3, -3))
    assert describe_value(graph, marked, names).block == fixed
    assert describe_value(graph, waiting, names).block is None
    found = describe_value(graph, constant, names)
    assert found.block == dataclasses.replace(expected, blocks="[1,2]")
    assert found.quantization is None
    assert found.constant is not None
    assert found.constant.exponents is not None
    assert (found.constant.exponents.minimum, found.constant.exponents.maximum) == (-3, 4)
    assert found.constant.real.maximum == 127 * 16
    assert found.constant.at_maximum == 0.25
    assert describe_value(graph, graph.inputs[0], names).block is None


HELD = BlockFloat(FORMAT, (1, 4))
FIXED = BlockFloat(FORMAT, (1, 2), exponents_of(-3, 5))


@pytest.mark.parametrize(("before", "after", "expected"), [
    (HELD, HELD, []),
    (
        HELD, BlockFloat(dataclasses.replace(FORMAT, mantissa=9, rounding="floor"), (1, 4)),
        [Change("format mantissa", "8", "9"), Change("format rounding", "half-even", "floor")],
    ),
    (HELD, BlockFloat(FORMAT, (1, 2)), [Change("blocks", "[1,4]", "[1,2]")]),
    (
        BlockFloat(FORMAT, (1, 2)), FIXED,
        [Change("exponents", "found at run time", "[-3,5]")],
    ),
    (
        FIXED, BlockFloat(FORMAT, (1, 2), exponents_of(-3, 7)),
        [Change("exponents", "[-3,5]", "[-3,7]", "1 of 2 differ, by at most 2")],
    ),
    (FIXED, BlockFloat(FORMAT, (1, 2), exponents_of(-3)), [Change("exponents", "[-3,5]", "-3")]),
])
def test_what_differs_between_two_types(before: BlockFloat, after: BlockFloat, expected: list[Change]) -> None:
    shape = (3, 4)
    assert list(type_changes(TensorType(shape, before), TensorType(shape, after))) == expected
    back = [Change(c.what, c.after, c.before, c.detail) for c in expected]
    assert list(type_changes(TensorType(shape, after), TensorType(shape, before))) == back


def test_blocks_that_follow_the_shape_are_no_change() -> None:
    before, after = TensorType((3, 4), HELD), TensorType((4, 3), BlockFloat(FORMAT, (4, 1)))
    assert list(type_changes(before, after)) == [Change("shape", "[3,4]", "[4,3]")]


def test_a_type_that_becomes_another_kind_is_named_whole() -> None:
    before, after = TensorType((3, 4), HELD), TensorType((3, 4), F32)
    assert list(type_changes(before, after)) == [Change("type", str(before), "f32[3,4]")]


def test_many_fixed_exponents_are_given_by_their_range() -> None:
    exponents = ConstantArray(np.arange(-20, 20, dtype=np.int32).reshape(1, 40))
    text = type_text(TensorType((3, 80), BlockFloat(FORMAT, (1, 2), exponents)))
    assert text == "bf<m8e8, scale=headroom, overflow=raise, blocks=[1,2], 40 exponents from -20 to 19>[3,80]"
    few = TensorType((3, 4), FIXED)
    assert type_text(few) == str(few)


def test_programs_differ_in_the_exponents_of_a_constant() -> None:
    before, after = program(), program()
    node = next(n for n in after.nodes if isinstance(n.op, Constant))
    assert isinstance(node.op, Constant)
    node.set_op(node.op.replace(exponents=exponents_of(-3, 6)))
    assert not diff_programs(before, program())
    (op,) = diff_programs(before, after).ops
    (change,) = op.changes
    assert change == Change("exponents", "[-3,4]", "[-3,6]", "1 of 2 elements differ, by at most 2")
