"""Placement on target and host against the definition: every possible placement, tried."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from numpy.random import Generator

from qcompiler import plugins
from qcompiler.analysis.crossings import find_crossings
from qcompiler.analysis.islands import split_islands
from qcompiler.analysis.placement import place_on_host, sample_bytes
from qcompiler.ir import Affine, Builder, ConstantArray, Graph, Node, Op, SymbolicDim, TensorType, Value
from qcompiler.ir.scalar import F32, I8
from qcompiler.ops.activation import Exp, Relu
from qcompiler.ops.binary import Add, Pow
from qcompiler.ops.constant import Constant
from qcompiler.ops.contraction import Matmul
from qcompiler.target import Target, load_target

plugins.load()

N = SymbolicDim("N")


def random_program(rng: Generator, nodes: int) -> Graph:
    """Ops that ``cpu-int8`` has, contractions, and ``pow``, which it lacks; any value may be used again or returned."""
    graph = Graph("random")
    build = Builder(graph)
    values = [graph.add_input(name, TensorType((N, 4), F32)) for name in ("x", "z")]
    weights = build(Constant(ConstantArray(rng.normal(0, 1, (4, 4)).astype(np.float32))), elem=F32)
    for number in range(nodes):
        build.loc = (f"layer{number}",)
        first, second = (values[max(0, len(values) - 1 - int(rng.integers(4)))] for _ in range(2))
        kind = rng.choice(["pow", "exp", "add", "relu", "matmul"], p=[0.25, 0.2, 0.25, 0.2, 0.1])
        op: Op = {"pow": Pow(), "exp": Exp(), "add": Add(), "relu": Relu(), "matmul": Matmul()}[str(kind)]
        others = {"pow": [second], "add": [second], "matmul": [weights]}.get(str(kind), [])
        values.append(build(op, first, *others))
    unused = [v for v in values if not v.uses and v.producer is not None]
    graph.set_outputs((f"y{i}", v) for i, v in enumerate(unused))
    return graph


def cost(graph: Graph, on_host: set[Node], must: set[Node]) -> tuple[int, int, int]:
    """Crossings, nodes moved, bytes: what is to be small, counted plainly."""
    crossings, size = 0, 0
    for node in graph.nodes:
        if isinstance(node.op, Constant):
            continue
        for value in node.results:
            if any((user in on_host) != (node in on_host) for user in value.users if user is not graph.terminator):
                crossings += 1
                size += sample_bytes(value.type)
    return crossings, len(on_host - must), size


@pytest.mark.parametrize("seed", range(40))
def test_no_other_placement_is_better(seed: int) -> None:
    rng = np.random.default_rng([11, seed])
    target = load_target("cpu-int8")
    graph = random_program(rng, 9)
    must = {n for n in graph.nodes if n.op.name == "pow"}
    free = [n for n in graph.nodes if not isinstance(n.op, Constant | Matmul) and n not in must]
    placed = place_on_host(graph, target)
    assert must <= placed <= must | set(free)
    best = min(
        cost(graph, must | set(moved), must) for count in range(len(free) + 1) for moved in combinations(free, count)
    ) if must else (0, 0, 0)
    assert cost(graph, placed, must) == best
    assert len(find_crossings(graph, placed)) == best[0]


def test_random_programs_do_make_nodes_move() -> None:
    moved = 0
    for seed in range(40):
        graph = random_program(np.random.default_rng([11, seed]), 9)
        moved += any(n.op.name != "pow" for n in place_on_host(graph, load_target("cpu-int8")))
    assert moved >= 10


def chain(*ops: str) -> tuple[Graph, list[Value]]:
    graph = Graph("chain")
    build = Builder(graph)
    value = graph.add_input("x", TensorType((N, 4), F32))
    weights = build(Constant(ConstantArray(np.ones((4, 4), np.float32))), elem=F32)
    values = []
    for number, name in enumerate(ops):
        build.loc = (f"{name}{number}",)
        op = {"pow": Pow(), "relu": Relu(), "matmul": Matmul()}[name]
        value = build(op, value, *([value] if name == "pow" else [weights] if name == "matmul" else []))
        values.append(value)
    graph.set_outputs([("y", value)])
    return graph, values


def names(nodes: set[Node]) -> list[str]:
    return sorted(node.layer for node in nodes)


def test_contractions_stay_and_what_lies_between_host_ops_moves() -> None:
    graph, _ = chain("matmul", "pow", "relu", "pow", "matmul", "pow", "matmul")
    assert names(place_on_host(graph, load_target("cpu-int8"))) == ["pow1", "pow3", "pow5", "relu2"]


def test_inputs_and_outputs_are_at_home_on_both_sides() -> None:
    graph, _ = chain("relu", "pow", "relu")
    assert names(place_on_host(graph, load_target("cpu-int8"))) == ["pow1", "relu0", "relu2"]
    graph, _ = chain("relu", "matmul", "relu")
    assert place_on_host(graph, load_target("cpu-int8")) == set()


def test_a_target_without_host_moves_nothing() -> None:
    graph, _ = chain("relu", "pow", "relu")
    assert place_on_host(graph, load_target("tpu-int8")) == set()


def test_bytes_of_a_sample() -> None:
    assert sample_bytes(TensorType((N, 3, 5), F32)) == 60
    assert sample_bytes(TensorType((SymbolicDim("N", 2), 3), I8)) == 6


def test_islands_are_as_few_as_the_data_flow_allows() -> None:
    """Two branches, one that begins on the host and one on the target: beginning with the host saves an island."""
    graph = Graph("two")
    build = Builder(graph)
    x = graph.add_input("x", TensorType((N, 4), F32))
    hosted = build(Pow(), x, x)
    graph.set_outputs([("y", build(Add(), hosted, build(Relu(), x)))])
    for node in graph.nodes:
        node.on_host = node.op.name == "pow"
    # Float nodes of a target cannot be told from those of the host: give each an integer type.
    held = Affine.per_tensor(I8, 1.0, 0)
    for node in graph.nodes:
        if not node.on_host:
            node.result.type = TensorType((N, 4), held)
    assert [island.on_host for island in split_islands(graph)] == [True, False]


def test_lacking_everything_places_all_on_the_host() -> None:
    descriptor = load_target("cpu-int8").descriptor
    rows = {name: row for name, row in descriptor.ops.items() if name in ("quantize", "dequantize", "requantize")}
    target = Target(descriptor.model_copy(update={"ops": rows}))
    graph, _ = chain("relu", "matmul", "pow")
    assert names(place_on_host(graph, target)) == ["matmul1", "pow2", "relu0"]
