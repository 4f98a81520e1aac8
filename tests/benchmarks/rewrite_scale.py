"""Time of the rewriting driver: two rules, one rewrite for every second node, until nothing applies any more.

    python tests/benchmarks/rewrite_scale.py [--nodes 10000 20000 50000] [--repeat 5]

Half of the rewrites merge two reshapes, half turn a clip into a relu. The time of a rewrite should not grow with the
size of the program.
"""

from __future__ import annotations

import argparse
import gc
import math
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from rich.console import Console
from rich.table import Table

from qcompiler import plugins
from qcompiler.ir import Builder, Graph, Original, TensorType, verify
from qcompiler.ir.scalar import F32
from qcompiler.ops.activation import Clip, Sigmoid
from qcompiler.ops.shape import Reshape
from qcompiler.passes.canonicalize_clamp import ClipToRelu
from qcompiler.passes.canonicalize_movement import MergeReshapes
from qcompiler.rewrite import apply


def chain(nodes: int) -> Graph:
    """Blocks of four nodes with two rewrites each."""
    graph = Graph("chain")
    value = graph.add_input("x", TensorType((4, 8), F32), Original("x"))
    build = Builder(graph)
    for block in range(nodes // 4):
        build.loc = (f"block{block}",)
        shape = ((2, 16), (4, 8))[block % 2]
        value = build(Clip(0.0, math.inf), build(Sigmoid(), value), origin=Original(f"act{block}"))
        value = build(Reshape(shape), build(Reshape((32,)), value), origin=Original(f"shape{block}"))
    graph.set_outputs([("y", value)])
    return graph


def rewrite(nodes: int) -> tuple[float, int]:
    """Seconds, and the number of rewrites."""
    plugins.load()
    graph = chain(nodes)
    gc.collect()
    started = time.perf_counter()
    result = apply(graph, [MergeReshapes(), ClipToRelu()])
    seconds = time.perf_counter() - started
    verify(graph)
    return seconds, sum(result.rewrites.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nodes", type=int, nargs="+", default=[10_000, 20_000, 50_000])
    parser.add_argument("--repeat", type=int, default=5)
    arguments = parser.parse_args()
    seconds: dict[int, list[float]] = {nodes: [] for nodes in arguments.nodes}
    rewrites = {}
    # A process for each run: a graph built in the memory that smaller ones left is scattered, and slower to walk.
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as process:
        for _ in range(arguments.repeat):
            for nodes in arguments.nodes:
                elapsed, rewrites[nodes] = process.submit(rewrite, nodes).result()
                seconds[nodes].append(elapsed)
    table = Table("nodes", "rewrites", "seconds (min, median, max)", "microseconds a rewrite")
    for nodes, times in seconds.items():
        median = statistics.median(times)
        table.add_row(
            f"{nodes:,}", f"{rewrites[nodes]:,}", f"{min(times):.2f}, {median:.2f}, {max(times):.2f}",
            f"{1e6 * median / rewrites[nodes]:.1f}",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
