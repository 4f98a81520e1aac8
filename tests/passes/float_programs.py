"""Writes small float programs, runs passes on them, and checks that their meaning stays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcompiler import plugins
from qcompiler.backends import reference
from qcompiler.calibration.data import open_data
from qcompiler.ir import (
    Builder,
    ConstantArray,
    Dim,
    Graph,
    Node,
    Op,
    Original,
    SymbolicDim,
    TensorType,
    Value,
    clone,
    scalar_of,
    verify,
)
from qcompiler.ir.scalar import F32
from qcompiler.ops.constant import Constant
from qcompiler.pipeline import Context, Pipeline
from qcompiler.target import load_target

plugins.load()

Array = NDArray[Any]
N = SymbolicDim("N")


class FloatProgram:
    """A float program in the making. Each op gets its own layer name and original."""

    def __init__(self) -> None:
        self.graph = Graph("case")
        self.build = Builder(self.graph)
        self.layers = 0

    def input(self, *shape: Dim, name: str = "x") -> Value:
        return self.graph.add_input(name, TensorType(shape, F32), Original(name))

    def constant(self, array: Any, dtype: Any = np.float32) -> Value:
        stored = np.asarray(array, dtype)
        return self.build(Constant(ConstantArray(stored)), elem=scalar_of(stored.dtype))

    def normal(self, *shape: int, seed: int = 0) -> Value:
        return self.constant(np.random.default_rng([seed, *shape]).normal(0, 1, shape))

    def __call__(self, op: Op, *operands: Value, layer: str = "") -> Value:
        name = layer or f"{op.name}{self.layers}"
        self.layers += 1
        return self.build(op, *operands, loc=(name,), origin=Original(f"{name}_out"))

    def split(self, op: Op, operand: Value) -> tuple[Value, ...]:
        """The results of an op that has several."""
        self.layers += 1
        return self.build.create(op, [operand], loc=(f"{op.name}{self.layers}",)).results

    def finish(self, *outputs: Value) -> Graph:
        self.graph.set_outputs((f"y{i}", value) for i, value in enumerate(outputs))
        verify(self.graph)
        return self.graph


def run_passes(graph: Graph, pipeline: str, data: Any = None, target: str = "tpu-int8") -> Graph:
    """The program after the passes; ``graph`` stays as it is."""
    context = Context(load_target(target), None if data is None else open_data(data, graph))
    after = Pipeline.parse(pipeline).run(clone(graph), context)
    verify(after)
    return after


def op_names(graph: Graph) -> list[str]:
    """The ops in order, constants left out."""
    return [node.op.name for node in graph.nodes if not isinstance(node.op, Constant)]


def only(graph: Graph, name: str) -> Node:
    """The only node of this op."""
    (node,) = (n for n in graph.nodes if n.op.name == name)
    return node


def random_feeds(graph: Graph, count: int = 3, seed: int = 0, scale: float = 2.0) -> dict[str, Array]:
    """Normally distributed inputs; a free batch has ``count`` samples."""
    rng = np.random.default_rng([seed, count])
    feeds = {}
    for value in graph.inputs:
        shape = [d if isinstance(d, int) else d.coefficient * count for d in value.type.shape]
        feeds[value.name] = rng.normal(0, scale, shape).astype(np.float32)
    return feeds


def assert_same_meaning(before: Graph, after: Graph, seeds: int = 3) -> None:
    """Equal outputs up to float32 rounding, on random inputs; names and types of outputs stay."""
    assert [o.name for o in before.outputs] == [o.name for o in after.outputs]
    for seed in range(seeds):
        feeds = random_feeds(before, seed=seed)
        expected, found = reference.run(before, feeds), reference.run(after, feeds)
        for name, array in expected.items():
            assert found[name].shape == array.shape
            assert found[name].dtype == array.dtype
            np.testing.assert_allclose(found[name], array, rtol=1e-4, atol=1e-4 * max(1.0, float(np.abs(array).max())))


def check_pass(graph: Graph, pipeline: str) -> Graph:
    """The program after the passes, whose meaning must stay and which must be well formed."""
    after = run_passes(graph, pipeline)
    assert_same_meaning(graph, after)
    return after
