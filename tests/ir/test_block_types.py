"""Types and constants of block floating point: text, and what the verifier and the parser refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import block_types

from qcompiler.errors import QCompilerError
from qcompiler.ir import (
    BlockFloat,
    Builder,
    ConstantArray,
    Graph,
    SymbolicDim,
    TensorType,
    Untraced,
    Value,
    parse,
    parse_type,
    print_with_constants,
    structural_hash,
    verify,
)
from qcompiler.ir.scalar import F32
from qcompiler.numerics.block_format import BlockFormat
from qcompiler.ops.activation import Relu, Sigmoid
from qcompiler.ops.block_conversion import FakeBlock, Normalize
from qcompiler.ops.constant import Constant

M8 = BlockFormat(8)
N = SymbolicDim("N")


def test_types_read_back() -> None:
    texts = [
        "bf<m8e8, blocks=[1,8]>[N,20]", "bf<m16e8, scale=headroom, guard=2, overflow=raise, blocks=[1,4,5]>[N,4,5]",
        "bf<m8e8, symmetric=true, blocks=[1,8]>[3,20]", "bf<m8e4, rounding=half-away, blocks=[2,8]>[2*N,20]",
        "bf<m12e8, representation=sign-magnitude, scale=no-overflow, blocks=[]>[]",
        "bf<m8e8, lowest_exponent=-3, highest_exponent=5, blocks=[4]>[4]",
        "bf<m5e8, representation=sign-magnitude, element=e2m1, lowest_exponent=-128, highest_exponent=126, "
        "blocks=[1,32]>[3,40]",
        "bf<m8e8, blocks=[1,8], exponents=[-3]>[N,20]", "bf<m8e8, blocks=[1,8], exponents=[-3,0,7]>[N,20]",
        "bf<m8e8, blocks=[2,8], exponents=[1,2,3,4]>[3,9]", "bf<m8e8, blocks=[1], exponents=[]>[0]",
        "bf<m8e8, blocks=[1,1], exponents=[]>[0,3]", "bf<m8e8, blocks=[1,8], exponents=[5]>[0,3]",
    ]
    for text in texts:
        assert str(parse_type(text)) == text


def test_every_field_of_a_format_is_in_the_text() -> None:
    """Types that differ in one field have different texts, and none is lost."""
    changes: list[dict[str, Any]] = [
        {}, {"mantissa": 9}, {"exponent": 9}, {"representation": "sign-magnitude"}, {"symmetric": True},
        {"scale": "no-overflow"}, {"scale": "headroom"}, {"scale": "headroom", "guard": 1}, {"rounding": "floor"},
        {"overflow": "raise"}, {"lowest_exponent": -100}, {"highest_exponent": 100},
    ]
    formats = [BlockFormat(**{"mantissa": 8, **change}) for change in changes] + [
        BlockFormat.mx(element) for element in ("e4m3", "e5m2", "e3m2", "e2m3", "e2m1", "int8")
    ]
    texts = [str(TensorType((4,), BlockFloat(f, (4,)))) for f in formats]
    assert len(set(texts)) == len(formats)
    assert [parse_type(t).elem for t in texts] == [BlockFloat(f, (4,)) for f in formats]


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_random_types_read_back(data: st.DataObject) -> None:
    shape = data.draw(st.sampled_from([(), (7,), (N, 20), (SymbolicDim("N", 3), 2, 5), (2, 0), (2, 3, 4, 5)]))
    graph = Graph("g")
    graph.add_input("x", TensorType(shape, data.draw(block_types(shape))))
    text, constants = print_with_constants(graph)
    assert parse(text, constants) == graph


def test_marks_keep_the_type_that_they_hold() -> None:
    for elem in (BlockFloat(M8, (1, 8)), BlockFloat(M8, (1, 8), ConstantArray(np.array([[1, -2, 3]], np.int32)))):
        graph = Graph("g")
        x = graph.add_input("x", TensorType((N, 20), F32))
        mark = Builder(graph)(FakeBlock(TensorType((N, 20), elem), True), x)
        graph.set_outputs([("y", mark)])
        (node,) = parse(*print_with_constants(graph)).nodes
        assert isinstance(node.op, FakeBlock)
        assert node.op == FakeBlock(TensorType((N, 20), elem), True)


def exponents(*values: int) -> ConstantArray:
    return ConstantArray(np.array([values], np.int32))


MALFORMED: dict[str, tuple[BlockFloat, tuple[Any, ...], str]] = {
    "blocks of another rank": (BlockFloat(M8, (4,)), (2, 4), "do not fit shape"),
    "no blocks": (BlockFloat(M8, ()), (2, 4), "do not fit shape"),
    "blocks of length 0": (BlockFloat(M8, (1, 0)), (2, 4), "a block has a fixed, positive length, found 0"),
    "blocks of negative length": (BlockFloat(M8, (1, -4)), (2, 4), "a block has a fixed, positive length, found -4"),
    "blocks of free length": (BlockFloat(M8, (N, 4)), (N, 4), "a block has a fixed, positive length, found N"),
    "blocks of several samples": (BlockFloat(M8, (2, 4)), (N, 4), "a block of 2 spans several samples of N"),
    "blocks of a sample and a half": (
        BlockFloat(M8, (4, 4)), (SymbolicDim("N", 6), 4), r"a block of 4 spans several samples of 6\*N"
    ),
    "exponents of two blocks for three": (
        BlockFloat(M8, (1, 2), exponents(1, 2)), (1, 5), "fixes int32 exponents of shape"
    ),
    "exponents without a dimension": (
        BlockFloat(M8, (1, 2), ConstantArray(np.array([1, 2, 3], np.int32))), (1, 5), "fixes int32 exponents of shape"
    ),
    "exponents for each sample": (
        BlockFloat(M8, (1, 4), ConstantArray(np.zeros((2, 1), np.int32))), (N, 4), "fixes int32 exponents of shape"
    ),
    "exponents of 64 bits": (
        BlockFloat(M8, (1, 4), ConstantArray(np.zeros((1, 1), np.int64))), (1, 4), "fixes int64 exponents of shape"
    ),
    "exponents too small": (BlockFloat(M8, (1, 4), exponents(-129)), (1, 4), "fixes exponents outside its format"),
    "exponents too large": (BlockFloat(M8, (1, 2), exponents(0, 128)), (1, 4), "fixes exponents outside its format"),
}


@pytest.mark.parametrize("case", MALFORMED)
@pytest.mark.parametrize("place", ["input", "result"])
def test_malformed_types(case: str, place: str) -> None:
    elem, shape, problem = MALFORMED[case]
    graph = Graph()
    if place == "input":
        graph.add_input("x", TensorType(shape, elem))
    else:
        x = graph.add_input("x", TensorType(shape, BlockFloat(M8, tuple(1 for _ in shape))))
        node = Builder(graph, loc=("layer",)).create(Normalize(), [x], elem=BlockFloat(M8, tuple(1 for _ in shape)))
        node.results = (Value(TensorType(shape, elem), Untraced("test"), node),)
    with pytest.raises(QCompilerError, match=problem) as caught:
        verify(graph)
    assert caught.value.layer == ("input x" if place == "input" else "layer")


def constant(mantissas: Any, of_blocks: Any, elem: BlockFloat) -> None:
    """Build a constant, which the builder checks."""
    graph = Graph()
    op = Constant(ConstantArray(mantissas), None if of_blocks is None else ConstantArray(of_blocks))
    Builder(graph, loc=("weights",))(op, elem=elem)


GOOD = np.array([[1, -128, 127, 0, 5]], np.int8)
AT = np.array([[0, -3, 9]], np.int32)


@pytest.mark.parametrize(
    ("mantissas", "of_blocks", "elem", "problem"),
    [
        (GOOD, AT, BlockFloat(M8, (1, 2)), None),
        (GOOD, AT, BlockFloat(M8, (1, 2), exponents(0, -3, 9)), None),
        (GOOD, None, BlockFloat(M8, (1, 2)), r"needs exponents of shape \(1, 3\)"),
        (GOOD, AT[:, :2], BlockFloat(M8, (1, 2)), r"needs exponents of shape \(1, 3\)"),
        (GOOD, AT.astype(np.int64), BlockFloat(M8, (1, 2)), "holds int64 exponents, not int32"),
        (GOOD.astype(np.int16), AT, BlockFloat(M8, (1, 2)), "holds int16 numbers, its type stores i8"),
        (GOOD, AT, BlockFloat(BlockFormat(8, symmetric=True), (1, 2)), "holds mantissas outside -127 to 127"),
        (GOOD, AT, BlockFloat(BlockFormat(7), (1, 2)), "holds mantissas outside -64 to 63"),
        (GOOD, AT, BlockFloat(BlockFormat(8, 4), (1, 2)), "holds exponents outside -8 to 7"),
        (GOOD, AT, BlockFloat(M8, (1, 2), exponents(0, -3, 8)), "holds other exponents than its type fixes"),
        (GOOD, AT, BlockFloat(M8, (1, 2), exponents(0)), "holds other exponents than its type fixes"),
        (
            np.array([[1, 5]], np.int8), np.zeros((1, 1), np.int32), BlockFloat(BlockFormat.mx("e2m1"), (1, 2)),
            "holds mantissas that are no numbers of e2m1",
        ),
        (np.array([[12, -6]], np.int8), np.zeros((1, 1), np.int32), BlockFloat(BlockFormat.mx("e2m1"), (1, 2)), None),
    ],
)
def test_constants_hold_what_their_type_says(
    mantissas: Any, of_blocks: Any, elem: BlockFloat, problem: str | None
) -> None:
    if problem is None:
        constant(mantissas, of_blocks, elem)
        return
    with pytest.raises(QCompilerError, match=problem) as caught:
        constant(mantissas, of_blocks, elem)
    assert caught.value.layer == "weights"


def test_other_constants_have_no_exponents() -> None:
    with pytest.raises(QCompilerError, match="has exponents, but its type has none"):
        Builder(Graph())(Constant(ConstantArray(np.zeros(2, np.float32)), ConstantArray(AT)), elem=F32)


def test_an_op_without_a_meaning_on_blocks() -> None:
    graph = Graph()
    x = graph.add_input("x", TensorType((2, 4), BlockFloat(M8, (1, 4))))
    relu = Builder(graph, loc=("layer",)).create(Relu(), [x])
    relu.set_op(Sigmoid())
    with pytest.raises(QCompilerError, match="layer 'layer': sigmoid: has no meaning on block floating point"):
        verify(graph)


@pytest.mark.parametrize(
    "text",
    [
        "bf<m8, blocks=[1]>[1]", "bf<m8e8>[4]", "bf<m1e8, blocks=[4]>[4]", "bf<m63e8, blocks=[4]>[4]",
        "bf<m8e17, blocks=[4]>[4]", "bf<m8e8, scale=largest, blocks=[4]>[4]", "bf<m8e8, size=3, blocks=[4]>[4]",
        "bf<m8e8, guard=1, blocks=[4]>[4]", "bf<m8e8, symmetric=yes, blocks=[4]>[4]",
        "bf<m8e8, guard=x, blocks=[4]>[4]",
        "bf<m8e8, element=e9m9, blocks=[4]>[4]", "bf<m8e8, element=e2m1, blocks=[4]>[4]", "bf<m8e8, blocks=[4,4]>[4]",
        "bf<m8e8, blocks=[0]>[4]", "bf<m8e8, blocks=[2]>[N]", "bf<m8e8, blocks=[4], exponents=[1,2]>[4]",
        "bf<m8e8, blocks=[2], exponents=[1,,2]>[4]", "bf<m8e8, blocks=[4], exponents=[]>[4]",
        "bf<m8e8, blocks=[4], exponents=[0.5]>[4]", "bf<m8e8, blocks=[4], exponents=[99999999999]>[4]",
        "bf<m8e8, blocks=[4], exponents=@00ff>[4]", "bf<m8e8, blocks=[4], overflow=raise>[4]",
        "bf<m8e8, lowest_exponent=5, highest_exponent=4, blocks=[4]>[4]",
    ],
)
def test_malformed_texts_are_refused(text: str) -> None:
    with pytest.raises(QCompilerError, match=r"malformed type|the constants lack"):
        parse_type(text)


def graph_of(elem: BlockFloat, mantissas: Any = GOOD, of_blocks: Any = AT) -> Graph:
    graph = Graph("g")
    value = Builder(graph)(Constant(ConstantArray(mantissas), ConstantArray(of_blocks)), elem=elem)
    graph.set_outputs([("y", value)])
    return graph


def test_every_part_of_a_value_is_in_the_hash() -> None:
    other, shifted = GOOD.copy(), AT.copy()
    other[0, 0], shifted[0, 0] = 2, 1
    graphs = [
        graph_of(BlockFloat(M8, (1, 2))), graph_of(BlockFloat(M8, (2, 2))), graph_of(BlockFloat(M8, (1, 2)), other),
        graph_of(BlockFloat(M8, (1, 2)), GOOD, shifted), graph_of(BlockFloat(BlockFormat(8, rounding="floor"), (1, 2))),
        graph_of(BlockFloat(M8, (1, 2), exponents(0, -3, 9))),
    ]
    assert len({structural_hash(g) for g in graphs}) == len(graphs)
    assert structural_hash(graph_of(BlockFloat(M8, (1, 2)))) == structural_hash(graphs[0])
