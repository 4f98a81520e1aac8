"""The verifier catches broken links, broken order and malformed types."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from qcompiler.errors import QCompilerError
from qcompiler.ir import Affine, Builder, ConstantArray, Graph, Node, SymbolicDim, TensorType, Untraced, Value, verify
from qcompiler.ir.scalar import F32, I8, I32
from qcompiler.ops.activation import Elu, Relu
from qcompiler.ops.binary import Add
from qcompiler.ops.constant import Constant
from qcompiler.ops.contraction import Matmul
from qcompiler.ops.fused import Fused

TYPE = TensorType((SymbolicDim("N"), 4), F32)


def chain() -> tuple[Graph, Node, Node]:
    """x -> relu -> elu, both at named layers."""
    graph = Graph()
    x = graph.add_input("x", TYPE)
    build = Builder(graph)
    first = build.create(Relu(), [x], loc=("first",))
    second = build.create(Elu(), [first.result], loc=("second",))
    graph.set_outputs([("y", second.result)])
    verify(graph)
    return graph, first, second


def test_use_before_definition() -> None:
    graph, first, second = chain()
    second.set_operand(0, graph.inputs[0])
    graph.set_outputs([("y", first.result)])
    graph.erase(second)
    graph.prepend(second)
    late = Node(Elu(), [first.result], ("early",))
    late.results = (Value(TYPE, Untraced("test"), late),)
    graph.prepend(late)
    with pytest.raises(QCompilerError, match="layer 'early': operand 0 of elu is used before it is defined"):
        verify(graph)


def test_operand_of_another_graph() -> None:
    graph, _, second = chain()
    second.set_operand(0, chain()[0].inputs[0])
    with pytest.raises(QCompilerError, match=r"'second'.*used before it is defined"):
        verify(graph)


def test_missing_use() -> None:
    graph, first, second = chain()
    del first.result.uses[second, 0]
    with pytest.raises(QCompilerError, match=r"'second'.*missing among its uses"):
        verify(graph)


def test_use_that_does_not_exist() -> None:
    graph, first, second = chain()
    second.result.uses[first, 0] = None
    with pytest.raises(QCompilerError, match=r"'second'.*records a use that does not exist"):
        verify(graph)


def test_use_by_an_operand_that_does_not_exist() -> None:
    graph, first, second = chain()
    second.result.uses[first, 7] = None
    with pytest.raises(QCompilerError, match=r"'second'.*records a use that does not exist"):
        verify(graph)


def test_use_of_an_input_that_does_not_exist() -> None:
    graph, _, second = chain()
    graph.inputs[0].uses[second, 0] = None
    with pytest.raises(QCompilerError, match="records a use that does not exist"):
        verify(graph)


def test_result_of_another_producer() -> None:
    graph, first, second = chain()
    first.result.producer = second
    with pytest.raises(QCompilerError, match=r"'first'.*names another producer"):
        verify(graph)


def test_output_of_another_graph() -> None:
    graph, *_ = chain()
    graph.set_outputs([("y", chain()[1].result)])
    with pytest.raises(QCompilerError, match="output 'y' returns a value that the graph does not define"):
        verify(graph)


def test_output_without_use() -> None:
    graph, _, second = chain()
    del second.result.uses[graph.terminator, 0]
    with pytest.raises(QCompilerError, match="output 'y' is not recorded"):
        verify(graph)


@pytest.mark.parametrize(
    "type", [TensorType((SymbolicDim("N"), 5), F32), TensorType((4,), F32), TensorType(TYPE.shape, I32)]
)
def test_wrong_result_type(type: TensorType) -> None:
    graph, _, second = chain()
    second.result.type = type
    with pytest.raises(QCompilerError, match=r"'second'.*result type that its operands do not give") as caught:
        verify(graph)
    assert caught.value.expected == str(TYPE)
    assert caught.value.found == str(type)


def test_wrong_number_of_results() -> None:
    graph, _, second = chain()
    second.results = (*second.results, Value(TYPE, Untraced("test"), second))
    with pytest.raises(QCompilerError, match=r"'second'.*elu has 2 results"):
        verify(graph)


def test_operands_that_do_not_fit() -> None:
    graph, first, _ = chain()
    build = Builder(graph)
    wide = build(Constant(ConstantArray(np.zeros((3, 4), np.float32))), elem=F32)
    matmul = build.create(Matmul(True), [first.result, wide], loc=("fc",))
    wide.type = TensorType((3, 5), F32)
    with pytest.raises(QCompilerError):
        verify(graph)
    wide.type = TensorType((3, 4), F32)
    verify(graph)
    matmul.set_op(Matmul(False))
    with pytest.raises(QCompilerError, match="layer 'fc': matmul: reduces over 4 and 3 elements"):
        verify(graph)


def test_bodies_are_verified() -> None:
    graph, first, _ = chain()
    body = Graph("body")
    inside = body.add_input("0", TYPE)
    relu = Builder(body).create(Relu(), [inside], loc=("inner",))
    body.set_outputs([("0", relu.result)])
    Builder(graph)(Fused(body), first.result)
    verify(graph)
    del inside.uses[relu, 0]
    with pytest.raises(QCompilerError, match="'inner'"):
        verify(graph)


def affine(**changes: Any) -> Affine:
    """A per-row type of ``[2, 4]``, with some fields replaced."""
    good = Affine.blocked(I8, np.array([[0.5], [0.25]], np.float32), np.array([[0], [3]], np.int64), (1, 4), -127, 127)
    return Affine(**{**{f: getattr(good, f) for f in good.__dataclass_fields__}, **changes})


MALFORMED = {
    "scale shape": (affine(scale=ConstantArray(np.ones((2,), np.float32))), "block grid"),
    "scale shape, transposed": (affine(scale=ConstantArray(np.ones((1, 2), np.float32))), "block grid"),
    "zero point shape": (affine(zero_point=ConstantArray(np.zeros((), np.int64))), "block grid"),
    "scale of several for one block": (
        Affine(I8, ConstantArray(np.ones(3, np.float32)), ConstantArray(np.zeros(3, np.int64)), (), -128, 127),
        "block grid",
    ),
    "blocks that are too long": (affine(blocks=(1, 5)), "does not fit"),
    "scales of fewer blocks than there are": (affine(blocks=(1, 3)), "block grid"),
    "blocks of length 0": (affine(blocks=(1, 0)), "does not fit"),
    "blocks of another rank": (affine(blocks=(4,)), "do not fit shape"),
    "scale 0": (affine(scale=ConstantArray(np.array([[0.5], [0.0]], np.float32))), "positive"),
    "scale -0": (affine(scale=ConstantArray(np.array([[0.5], [-0.0]], np.float32))), "positive"),
    "scale negative": (affine(scale=ConstantArray(np.array([[0.5], [-0.5]], np.float32))), "positive"),
    "scale nan": (affine(scale=ConstantArray(np.array([[0.5], [np.nan]], np.float32))), "positive"),
    "scale infinite": (affine(scale=ConstantArray(np.array([[0.5], [np.inf]], np.float32))), "finite"),
    "scale of float64": (affine(scale=ConstantArray(np.array([[0.5], [0.25]], np.float64))), "not float32"),
    "zero point too large": (affine(zero_point=ConstantArray(np.array([[0], [128]], np.int64))), "zero point outside"),
    "zero point too small": (affine(zero_point=ConstantArray(np.array([[-129], [0]], np.int64))), "zero point outside"),
    "qmin above qmax": (affine(qmin=5, qmax=4), r"bounds \[5,4\]"),
    "qmin outside": (affine(qmin=-129), r"bounds \[-129,127\]"),
    "qmax outside": (affine(qmax=128), r"bounds \[-127,128\]"),
    "float storage": (affine(storage=F32, qmin=0, qmax=0), "not an integer"),
}


@pytest.mark.parametrize("case", MALFORMED)
@pytest.mark.parametrize("place", ["input", "result"])
def test_malformed_affine_types(case: str, place: str) -> None:
    elem, problem = MALFORMED[case]
    graph = Graph()
    if place == "input":
        graph.add_input("x", TensorType((2, 4), elem))
    else:
        node = Node(Constant(ConstantArray(np.zeros((2, 4), np.int8))), (), ("weights",))
        node.results = (Value(TensorType((2, 4), elem), Untraced("test"), node),)
        graph.append(node)
    with pytest.raises(QCompilerError, match=problem) as caught:
        verify(graph)
    assert caught.value.layer == ("input x" if place == "input" else "weights")


def test_well_formed_affine_types() -> None:
    graph = Graph()
    graph.add_input("x", TensorType((2, 4), affine()))
    graph.add_input("y", TensorType((2, 4), affine(qmin=7, qmax=7)))
    verify(graph)


@pytest.mark.parametrize("value", [-128, 127])
def test_stored_integers_outside_their_bounds(value: int) -> None:
    """A type whose bounds its constant does not keep is not true."""
    array = np.array([[1, value]], np.int8)
    graph = Graph()
    node = Node(Constant(ConstantArray(array)), (), ("weights",))
    node.results = (Value(TensorType((1, 2), Affine.per_tensor(I8, 0.5, 0, -127, 126)), Untraced("test"), node),)
    graph.append(node)
    with pytest.raises(QCompilerError, match=r"'weights'.*\[-127,126\]"):
        verify(graph)


def test_builder_names_layer_and_operands() -> None:
    graph, first, _ = chain()
    wide = graph.add_input("w", TensorType((3, 5), F32))
    before = dict(wide.uses)
    with pytest.raises(QCompilerError, match=r"layer 'sum'.*add") as caught:
        Builder(graph, loc=("sum",))(Add(), first.result, wide)
    assert caught.value.found == "operands (f32[N,4], f32[3,5])"
    # The refused node leaves no trace.
    assert wide.uses == before
    assert len(graph) == 2
    verify(graph)
