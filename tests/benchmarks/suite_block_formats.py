"""One table of all targets with block floating point: what each model of a suite loses on each of them.

    python tests/benchmarks/suite_block_formats.py SUITE [CASE ...] [--targets NAME ...] [--native]

Every score is of the exact program, on the suite's own evaluation split. With ``--native`` programs run as compiled
code where every op has a native form, which computes the same bits as the reference interpreter and is far faster.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from rich.console import Console
from rich.table import Table
from suite import CNNS, load_suite

import qcompiler
from qcompiler.target import built_in_targets, load_target


def main() -> None:
    block_targets = [name for name in built_in_targets() if load_target(name).has_blocks]
    parser = argparse.ArgumentParser(description="accuracy of block floating point on a model suite")
    parser.add_argument("suite", type=Path, help="folder that holds suite.py and suite.toml")
    parser.add_argument("cases", nargs="*", default=list(CNNS), help="cases to run (default: all CNNs)")
    parser.add_argument("--targets", nargs="+", default=block_targets, choices=block_targets, metavar="NAME")
    parser.add_argument("--native", action="store_true", help="run compiled code where there is some")
    options = parser.parse_args()
    suite = load_suite(options.suite)
    table = Table(title="block floating point")
    for column in ("case", "target", "metric"):
        table.add_column(column)
    for column in ("float", "exact", "drop", "SQNR dB", "agreement", "host nodes", "weights kB", "compile s", "run s"):
        table.add_column(column, justify="right")
    table.add_column("runs as")
    for name in options.cases:
        case = suite.load(name)
        real = float_results(case)
        for target in options.targets:
            row = measure(case, target, real, native=options.native)
            table.add_row(name, target, *row)
            print(name, target, *row, flush=True)
    Console(width=160).print(table)


def float_results(case: Any) -> Any:
    """The float model's results, one sample at a time, as the suite scores it."""
    session = onnxruntime.InferenceSession(str(case.model), providers=["CPUExecutionProvider"])
    inputs = case.eval_x[case.input]
    return np.concatenate([session.run(None, {case.input: inputs[i : i + 1]})[0] for i in range(len(inputs))])


def measure(case: Any, target: str, real: Any, *, native: bool) -> list[str]:
    """The table's row of one model on one target, from the column ``metric`` on."""
    started = time.perf_counter()
    program = qcompiler.compile(case.model, target=target, data=case.calib, native=False)
    how = "reference"
    if native:
        try:
            program.build_native()
            how = "native"
        except qcompiler.QCompilerError as error:
            print(f"no native code: {error}", flush=True)
    compiled = time.perf_counter() - started
    started = time.perf_counter()
    exact = program.run(case.eval_x)[program.graph.outputs[0].name]
    ran = time.perf_counter() - started
    agreement = 100.0 * float(np.mean(real.argmax(1) == exact.argmax(1)))
    score, reference = agreement, 100.0
    if case.metric == "top1":
        score, reference = (100.0 * float(np.mean(y.argmax(1) == case.eval_y)) for y in (exact, real))
    noise = np.square(real.astype(np.float64) - exact).sum()
    sqnr = 10 * np.log10(np.square(real, dtype=np.float64).sum() / noise)
    weights = program.figures["bytes_after"] / 1024
    return [
        case.metric, f"{reference:.2f}", f"{score:.2f}", f"{reference - score:.2f}", f"{sqnr:.1f}", f"{agreement:.2f}",
        str(program.coverage.host_nodes), f"{weights:.0f}", f"{compiled:.1f}", f"{ran:.1f}", how,
    ]


if __name__ == "__main__":
    main()
