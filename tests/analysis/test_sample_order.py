"""Samples that stay in order, against what the reference computes for a batch and for its samples."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from qcompiler.analysis.sample_order import samples_in_order
from qcompiler.backends import reference
from qcompiler.ir import Builder, Graph, SymbolicDim, TensorType, Value
from qcompiler.ir.scalar import I64
from qcompiler.ops.binary import Maximum
from qcompiler.ops.fused import Fused
from qcompiler.ops.shape import Reshape, Transpose
from qcompiler.ops.slicing import Slice
from qcompiler.program import Program

N = SymbolicDim("N")

SHAPES: tuple[tuple[Any, ...], ...] = (
    (N, 4, 6), (4, N, 6), (4, 6, N), (N * 4, 6), (N * 24,), (N, 24), (24, N), (2, N * 2, 6), (N * 2, 12), (N * 2, 2, 6)
)


@st.composite
def programs(draw: st.DrawFn) -> Graph:
    """Reshapes and transposes of 24 numbers a sample, some values meeting others, in the end [..*N, ..] or so."""
    graph = Graph()
    build = Builder(graph)
    values: list[Value] = [graph.add_input("x", TensorType((N, 4, 6), I64))]
    for _ in range(draw(st.integers(1, 6))):
        x = draw(st.sampled_from(values[-2:]))
        kind = draw(st.sampled_from(["reshape", "reshape", "transpose", "transpose", "meet", "fused"]))
        if kind == "reshape":
            values.append(build(Reshape(draw(st.sampled_from(SHAPES))), x))
        elif kind == "transpose":
            values.append(build(Transpose(tuple(draw(st.permutations(range(x.type.rank))))), x))
        elif kind == "meet":
            same = [v for v in values if v.type == x.type]
            values.append(build(Maximum(), x, draw(st.sampled_from(same))))
        else:
            body = Graph("body")
            inside = body.add_input("0", x.type)
            body.set_outputs([("0", Builder(body)(Reshape(draw(st.sampled_from(SHAPES))), inside))])
            values.append(build(Fused(body), x))
    last = values[-1]
    free = [isinstance(d, SymbolicDim) for d in last.type.shape].index(True)
    if free:
        last = build(Transpose((free, *(i for i in range(last.type.rank) if i != free))), last)
    graph.set_outputs([("y", last)])
    return graph


def is_in_order(graph: Graph) -> bool:
    """Whether a batch of 3 gives what its samples give, every number being different."""
    x = np.arange(72).reshape(3, 4, 6)
    alone = [reference.run(graph, {"x": x[i : i + 1]})["y"] for i in range(3)]
    return bool((reference.run(graph, {"x": x})["y"] == np.concatenate(alone)).all())


@given(programs())
def test_nothing_out_of_order_is_accepted(graph: Graph) -> None:
    assert not samples_in_order(graph) or is_in_order(graph)


def chain(*ops: Any) -> Graph:
    graph = Graph()
    x = graph.add_input("x", TensorType((N, 4, 6), I64))
    build = Builder(graph)
    for op in ops:
        x = build(op, x)
    graph.set_outputs([("y", x)])
    return graph


def test_usual_programs_are_accepted() -> None:
    swap = Transpose((1, 0, 2))
    for graph in (
        chain(Reshape((N, 24))), chain(Reshape((N * 4, 6)), Reshape((N, 24))), chain(swap, swap),
        chain(swap, Reshape((N * 4, 6)), Slice((1,), (0,), (3,), (1,)), Reshape((4, N, 3)), swap),
        chain(Reshape((N * 2, 12)), Reshape((N, 2, 2, 6)), Transpose((0, 2, 1, 3)), Reshape((N * 24,))),
    ):
        assert samples_in_order(graph)
        if graph.outputs[0].value.type.shape != (N, 4, 3):
            assert is_in_order(graph)


def test_many_samples_are_cut_only_where_they_stay_in_order() -> None:
    x = np.arange(24 * 200).reshape(200, 4, 6)
    mixing = chain(Transpose((1, 0, 2)), Reshape((N * 4, 6)))
    ordered = chain(Reshape((N * 4, 6)))
    for graph in (mixing, ordered):
        expected = reference.run(graph, {"x": x})["y"]
        np.testing.assert_array_equal(Program(graph).run({"x": x})["y"], expected)


def test_rows_of_several_samples_are_refused() -> None:
    graph = chain(Transpose((1, 0, 2)), Reshape((N * 4, 6)))
    assert not is_in_order(graph)
    assert not samples_in_order(graph)
