"""The structural hash sees every kind of change, and none in the names of inner values."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from random_graphs import graphs

from qcompiler.ir import (
    Affine,
    Arithmetic,
    Builder,
    ConstantArray,
    Graph,
    Node,
    Original,
    SymbolicDim,
    TensorType,
    Untraced,
    clone,
    structural_hash,
)
from qcompiler.ir.scalar import F32, I8
from qcompiler.ops.activation import Clip, Elu, Relu
from qcompiler.ops.binary import Sub
from qcompiler.ops.constant import Constant
from qcompiler.ops.fused import Fused
from qcompiler.ops.quantization import Quantize
from qcompiler.ops.slicing import Pad


def small() -> Graph:
    graph = Graph("g", "t", "a,b")
    x = graph.add_input("x", TensorType((SymbolicDim("N"), 4), F32), Original("x"))
    build = Builder(graph, loc=("layer",))
    w = build(Constant(ConstantArray(np.array([1.0, 2.0, 0.0, 4.0], np.float32))), elem=F32)
    difference = build(Sub(), x, w, origin=Original("d", (1, 0)))
    clipped = build(Clip(0.0, 6.0), difference)
    q = build(Quantize(Arithmetic.parse("affine{rounding=half-away}")), clipped, elem=Affine.per_tensor(I8, 0.5, 3))
    body = Graph("body")
    inside = body.add_input("0", difference.type)
    body.set_outputs([("0", Builder(body)(Relu(), inside))])
    fused = build(Fused(body), difference)
    graph.set_outputs([("y", q), ("z", fused)])
    return graph


def node(graph: Graph, name: str) -> Node:
    return next(n for n in graph.nodes if n.op.name == name)


def _swap_operands(g: Graph) -> None:
    sub = node(g, "sub")
    first, second = sub.operands
    sub.set_operand(0, second)
    sub.set_operand(1, first)


def _set(target: object, name: str, value: object) -> None:
    setattr(target, name, value)


CHANGES: dict[str, Callable[[Graph], object]] = {
    "attribute": lambda g: node(g, "clip").set_op(Clip(0.0, 6.5)),
    "attribute, signed zero": lambda g: node(g, "clip").set_op(Clip(-0.0, 6.0)),
    "op": lambda g: node(g, "clip").set_op(Relu()),
    "arithmetic": lambda g: node(g, "quantize").set_op(Quantize(Arithmetic.parse("affine{rounding=half-even}"))),
    "constant": lambda g: node(g, "constant").set_op(
        Constant(ConstantArray(np.array([1.0, 2.0, 0.0, 5.0], np.float32)))
    ),
    "constant, signed zero": lambda g: node(g, "constant").set_op(
        Constant(ConstantArray(np.array([1.0, 2.0, -0.0, 4.0], np.float32)))
    ),
    "constant, shape": lambda g: node(g, "constant").set_op(
        Constant(ConstantArray(np.array([[1.0, 2.0, 0.0, 4.0]], np.float32)))
    ),
    "constant, dtype": lambda g: node(g, "constant").set_op(
        Constant(ConstantArray(np.array([1.0, 2.0, 0.0, 4.0], np.float32).view(np.int32)))
    ),
    "scale": lambda g: _set(
        node(g, "quantize").result, "type",
        TensorType(node(g, "quantize").result.type.shape, Affine.per_tensor(I8, 0.5 + 2.0**-24, 3)),
    ),
    "zero point": lambda g: _set(
        node(g, "quantize").result, "type",
        TensorType(node(g, "quantize").result.type.shape, Affine.per_tensor(I8, 0.5, 4)),
    ),
    "bounds": lambda g: _set(
        node(g, "quantize").result, "type",
        TensorType(node(g, "quantize").result.type.shape, Affine.per_tensor(I8, 0.5, 3, -127)),
    ),
    "shape": lambda g: _set(g.inputs[0], "type", TensorType((SymbolicDim("N", 2), 4), F32)),
    "operand order": _swap_operands,
    "operand": lambda g: node(g, "clip").set_operand(0, g.inputs[0]),
    "location": lambda g: _set(node(g, "clip"), "loc", ("layer", "other")),
    "location split": lambda g: _set(node(g, "clip"), "loc", ("lay", "er")),
    "origin": lambda g: _set(node(g, "sub").result, "origin", Original("e", (1, 0))),
    "origin permutation": lambda g: _set(node(g, "sub").result, "origin", Original("d")),
    "origin factor": lambda g: _set(
        node(g, "sub").result, "origin", Original("d", (1, 0), ConstantArray(np.array([2.0], np.float32)))
    ),
    "origin reason": lambda g: _set(node(g, "clip").result, "origin", Untraced("because")),
    "input name": lambda g: _set(g.inputs[0], "name", "x2"),
    "output name": lambda g: g.set_outputs([("y2", g.outputs[0].value), ("z", g.outputs[1].value)]),
    "output order": lambda g: g.set_outputs([("z", g.outputs[1].value), ("y", g.outputs[0].value)]),
    "output value": lambda g: g.set_outputs([("y", g.outputs[1].value), ("z", g.outputs[1].value)]),
    "outputs fewer": lambda g: g.set_outputs([("y", g.outputs[0].value)]),
    "node added": lambda g: Builder(g)(Relu(), g.inputs[0]),
    "input added": lambda g: g.add_input("more", TensorType((), F32)),
    "body": lambda g: next(node(g, "fused").op.body.nodes).set_op(Elu()),  # type: ignore[attr-defined]
    "target": lambda g: _set(g, "target", "u"),
    "pipeline": lambda g: _set(g, "pipeline", "a"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_changes_the_hash(change: str) -> None:
    graph = small()
    before = structural_hash(graph)
    CHANGES[change](graph)
    assert structural_hash(graph) != before


def test_the_hash_is_stable() -> None:
    assert structural_hash(small()) == structural_hash(small())


def test_names_of_the_program_and_of_inner_values_do_not_count() -> None:
    graph, other = small(), small()
    other.name = "another"
    node(other, "sub").result.name = "named"
    assert structural_hash(graph) == structural_hash(other)
    assert graph == other
    assert hash(graph) == hash(other)


def test_pads_of_signed_zero_differ() -> None:
    def padded(value: float) -> Graph:
        graph = Graph()
        x = graph.add_input("x", TensorType((2,), F32))
        graph.set_outputs([("y", Builder(graph)(Pad((1,), (0,), "constant", value), x))])
        return graph

    assert padded(0.0) != padded(-0.0)


@settings(max_examples=30)
@given(graphs, graphs)
def test_equal_hashes_mean_equal_text(first: Graph, second: Graph) -> None:
    first.name = second.name
    assert (first == second) == (str(first) == str(second))
    assert clone(first) == first
