"""Scores of compiled programs against their float models.

    python tests/benchmarks/suite_accuracy.py SUITE [CASE ...]

Every score is of the exact integer program, on the suite's own evaluation split.
"""

from __future__ import annotations

import time

import numpy as np
import onnxruntime
from rich.console import Console
from rich.table import Table
from suite import arguments, load_suite

import qcompiler


def main() -> None:
    options = arguments("accuracy of compiled programs on a model suite")
    suite = load_suite(options.suite)
    table = Table(title=f"target {options.target}")
    table.add_column("case")
    table.add_column("metric")
    for column in ("float", "integer", "drop", "SQNR dB", "agreement", "host nodes", "compile s", "run s"):
        table.add_column(column, justify="right")
    for name in options.cases:
        case = suite.load(name)
        started = time.perf_counter()
        program = qcompiler.compile(case.model, target=options.target, data=case.calib)
        compiled = time.perf_counter() - started
        settings = onnxruntime.SessionOptions()
        session = onnxruntime.InferenceSession(str(case.model), settings, providers=["CPUExecutionProvider"])
        output = program.graph.outputs[0].name
        inputs = case.eval_x[case.input]
        started = time.perf_counter()
        integer = program.run(case.eval_x)[output]
        ran = time.perf_counter() - started
        real = np.concatenate([session.run(None, {case.input: inputs[i : i + 1]})[0] for i in range(len(inputs))])
        agreement = 100.0 * float(np.mean(real.argmax(1) == integer.argmax(1)))
        if case.metric == "top1":
            score = 100.0 * float(np.mean(integer.argmax(1) == case.eval_y))
            reference = 100.0 * float(np.mean(real.argmax(1) == case.eval_y))
        else:
            score, reference = agreement, 100.0
        noise = np.square(real.astype(np.float64) - integer).sum()
        sqnr = 10 * np.log10(np.square(real, dtype=np.float64).sum() / noise)
        table.add_row(
            name, case.metric, f"{reference:.2f}", f"{score:.2f}", f"{reference - score:.2f}", f"{sqnr:.1f}",
            f"{agreement:.2f}", str(program.coverage.host_nodes), f"{compiled:.1f}", f"{ran:.1f}",
        )
        print(f"{name}: float {reference:.2f} integer {score:.2f}", flush=True)
    Console(width=130).print(table)


if __name__ == "__main__":
    main()
