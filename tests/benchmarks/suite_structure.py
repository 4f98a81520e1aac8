"""Structural claims on a model suite, each checked exactly.

    python tests/benchmarks/suite_structure.py SUITE [CASE ...]

For every case: the text of the program after every pass reads back to an equal graph; a batch of 7 equals seven
batches of 1; no node is left to the host; and the share of p's activations that can be compared with p' by name.
"""

from __future__ import annotations

import numpy as np
from rich.console import Console
from rich.table import Table
from suite import arguments, load_suite

from qcompiler import plugins
from qcompiler.calibration.data import open_data
from qcompiler.compare import activations, compare
from qcompiler.compilation import read_model
from qcompiler.ir import Graph, clone, parse, print_with_constants
from qcompiler.pipeline import Context, Instrument, Pass, Pipeline
from qcompiler.program import Program
from qcompiler.target import load_target


class ReadBack(Instrument):
    """Checks that the program after each pass reads back from its text, and counts the passes."""

    def __init__(self) -> None:
        self.stages: list[str] = []

    def after_pass(self, index: int, current: Pass, graph: Graph, changed: bool) -> None:
        if parse(*print_with_constants(graph)) != graph:
            raise SystemExit(f"the text after {current.name} reads back to another graph")
        self.stages.append(current.name)


def main() -> None:
    options = arguments("structural claims on a model suite")
    suite = load_suite(options.suite)
    plugins.load()
    target = load_target(options.target)
    table = Table(title=f"target {options.target}")
    table.add_column("case")
    for column in ("stages read back", "batch 7 = 7 x 1", "host nodes", "p's activations", "compared", "held by p'"):
        table.add_column(column, justify="right")
    for name in options.cases:
        case = suite.load(name)
        original = read_model(case.model)
        read_back = ReadBack()
        context = Context(target, open_data(case.calib, original))
        graph = Pipeline.parse(target.descriptor.pipeline).run(clone(original), context, [read_back])
        program = Program(graph)
        samples = {key: value[:7] for key, value in case.calib.items()}
        together = program.run(samples, quantized=True)
        alone = [program.run({k: v[i : i + 1] for k, v in samples.items()}, quantized=True) for i in range(7)]
        equal = all(bool((together[k] == np.concatenate([a[k] for a in alone])).all()) for k in together)
        entries = compare(original, graph, {k: v[:2] for k, v in samples.items()})
        wanted = len(activations(original))
        held = sum(not e.recovered for e in entries)
        table.add_row(
            name, str(len(read_back.stages)), "yes" if equal else "NO", str(program.coverage.host_nodes), str(wanted),
            f"{100 * len(entries) / wanted:.1f} %", f"{100 * held / wanted:.1f} %",
        )
        if not equal:
            raise SystemExit(f"{name}: a batch of 7 differs from seven batches of 1")
    Console(width=130).print(table)


if __name__ == "__main__":
    main()
