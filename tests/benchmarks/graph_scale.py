"""Time of text, verifier and clean-up passes on large synthetic graphs.

    python tests/benchmarks/graph_scale.py [--nodes 10000 50000] [--repeat 3]

The graph is a chain with branches: residual additions, repeated subexpressions, dead ends and shapes that cancel.
Times per node should not grow with the size.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.table import Table

from qcompiler import plugins
from qcompiler.ir import Builder, Graph, Original, SymbolicDim, TensorType, clone, parse, print_with_constants, verify
from qcompiler.ir.scalar import F32
from qcompiler.ops.activation import Clip, Relu, Sigmoid, Tanh
from qcompiler.ops.binary import Add, Mul
from qcompiler.ops.shape import Reshape, Transpose
from qcompiler.pipeline import PASSES, Context


def chain_with_branches(nodes: int) -> Graph:
    """A graph of about ``nodes`` nodes, ten to a block."""
    graph = Graph("chain")
    value = graph.add_input("x", TensorType((SymbolicDim("N"), 4, 8), F32), Original("x"))
    build = Builder(graph)
    for block in range(nodes // 10):
        build.loc = (f"block{block}",)
        left = build(Sigmoid(), value, origin=Original(f"left{block}"))
        right = build(Tanh(), build(Transpose((0, 2, 1)), build(Transpose((0, 2, 1)), value)))
        product = build(Mul(), left, right)
        again = build(Sigmoid(), value)
        build(Relu(), again)
        shaped = build(Reshape((SymbolicDim("N"), 4, 8)), product)
        total = build(Add(), shaped, again)
        value = build(Clip(0.0, 6.0), total, origin=Original(f"block{block}"))
    graph.set_outputs([("y", value)])
    return graph


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    # What an earlier, larger graph left behind is not this step's to collect.
    gc.collect()
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


def measure(nodes: int) -> dict[str, float]:
    graph = chain_with_branches(nodes)
    seconds = {}
    seconds["print"], (text, constants) = timed(lambda: print_with_constants(graph))
    seconds["parse"], again = timed(lambda: parse(text, constants))
    seconds["structural hash"], equal = timed(lambda: again == graph)
    if not equal:
        raise SystemExit("the text reads back to another graph")
    seconds["verify"], _ = timed(lambda: verify(graph))
    copy = clone(graph)
    for name in ("canonicalize", "cse", "dce"):
        seconds[name], _ = timed(lambda name=name: PASSES[name]().run(copy, Context()))  # type: ignore[misc]
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description="text, verifier and passes on large graphs")
    parser.add_argument("--nodes", type=int, nargs="+", default=[10_000, 50_000])
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    plugins.load()
    runs: dict[int, list[dict[str, float]]] = {n: [] for n in options.nodes}
    for _ in range(options.repeat):
        for nodes in options.nodes:
            runs[nodes].append(measure(nodes))
    table = Table(title="median seconds (microseconds a node)")
    table.add_column("step")
    for nodes in options.nodes:
        table.add_column(f"{nodes} nodes", justify="right")
    table.add_column("growth a node", justify="right")
    for step in runs[options.nodes[0]][0]:
        medians = [statistics.median(r[step] for r in runs[n]) for n in options.nodes]
        per_node = [m / n for m, n in zip(medians, options.nodes, strict=True)]
        cells = [f"{m:.3f} ({1e6 * p:.1f})" for m, p in zip(medians, per_node, strict=True)]
        table.add_row(step, *cells, f"{per_node[-1] / per_node[0]:.2f}")
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
