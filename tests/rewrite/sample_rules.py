"""Small programs, and rules made from two functions."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcompiler import plugins
from qcompiler.ir import (
    Affine,
    Builder,
    ConstantArray,
    Graph,
    Node,
    Op,
    Original,
    TensorType,
    Value,
    print_graph,
    scalar_of,
    structural_hash,
    verify,
)
from qcompiler.ir.scalar import F32
from qcompiler.ops.constant import Constant
from qcompiler.rewrite import Match, Rule, sweep

plugins.load()


class Program:
    """A float program in the making. Each node has a layer name and an origin of its own."""

    def __init__(self) -> None:
        self.graph = Graph("sample")
        self.build = Builder(self.graph)
        self.count = 0

    def input(self, *shape: int, name: str = "x", elem: Affine | None = None) -> Value:
        return self.graph.add_input(name, TensorType(shape or (4,), elem or F32), Original(name))

    def constant(self, array: Any) -> Value:
        stored: NDArray[Any] = np.asarray(array, np.float32)
        return self.build(Constant(ConstantArray(stored)), elem=scalar_of(stored.dtype))

    def node(self, op: Op, *operands: Value, elem: Any = None) -> Node:
        self.count += 1
        name = f"{op.name}{self.count}"
        return self.build.create(op, operands, elem=elem, loc=(name,), origin=Original(f"{name}_out"))

    def __call__(self, op: Op, *operands: Value) -> Value:
        return self.node(op, *operands).result

    def finish(self, *outputs: Value) -> Graph:
        self.graph.set_outputs((f"y{i}", value) for i, value in enumerate(outputs))
        verify(self.graph)
        return self.graph


def made_rule(pattern: Callable[..., Any], rewrite: Callable[..., Any], name: str = "sample") -> Rule:
    """A rule that consists of ``pattern(p, *operands)`` and ``rewrite(b, m, *operands)``."""
    members = {"name": name, "pattern": staticmethod(pattern), "rewrite": staticmethod(rewrite)}
    made: Rule = type("Sample", (Rule,), members)()
    return made


Seen = tuple[Match, tuple[Any, ...]]


def recording_rule(pattern: Callable[..., Any], seen: list[Seen], name: str = "recording") -> Rule:
    """A rule that notes each match with the operands that it was given, and declines it."""

    def rewrite(b: Any, m: Match, *operands: Any) -> Any:
        seen.append((m, operands))
        return m.fail("seen")

    keyword = inspect.Parameter.POSITIONAL_OR_KEYWORD
    own = [inspect.Parameter(n, keyword) for n in ("_builder", "_match")]
    taken = list(inspect.signature(pattern).parameters.values())[1:]
    rewrite.__signature__ = inspect.Signature([*own, *taken])  # type: ignore[attr-defined]
    return made_rule(pattern, rewrite, name)


def all_matches(graph: Graph, pattern: Callable[..., Any]) -> list[Seen]:
    """Every match in ``graph``, in program order, with the operands given to ``rewrite``. The program stays."""
    seen: list[Seen] = []
    before = exact_text(graph)
    assert not sweep(graph, [recording_rule(pattern, seen)]).changed
    assert exact_text(graph) == before
    return seen


def operands_of(graph: Graph, pattern: Callable[..., Any]) -> list[tuple[Any, ...]]:
    """The operands given to ``rewrite`` for every match."""
    return [operands for _, operands in all_matches(graph, pattern)]


def exact_text(graph: Graph) -> tuple[str, str]:
    """The program as text, constants included, and its structural hash."""
    verify(graph)
    return print_graph(graph), structural_hash(graph)


def ops(graph: Graph) -> list[str]:
    """Names of the ops in order, constants included."""
    return [node.op.name for node in graph.nodes]


def texts(values: Sequence[Value]) -> list[str]:
    return [v.name or (v.producer.op.name if v.producer else "") for v in values]

