"""Exact programs against the simulation in which only the weights are quantized.

    python tests/benchmarks/suite_weights_only.py SUITE [CASE ...] [--target tpu-int16x8] [--samples 512]

With activations of 16 bits, what is lost should be what the weights lose: each output's signal to quantization noise
ratio, taken against the float model, is compared with that of the calibrated float program whose activations are
left as they are. A shortfall of more than 0.5 dB is marked, and makes the exit code 1.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import onnxruntime
from rich.console import Console
from rich.table import Table
from suite import CNNS, load_suite

import qcompiler
from qcompiler.backends.ort import Bypass, FloatSession
from qcompiler.compare import sqnr_db
from qcompiler.target import load_target

LARGEST_SHORTFALL_DB = 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description="programs against the simulation of their weights alone")
    parser.add_argument("suite", type=Path, help="folder that holds suite.py and suite.toml")
    parser.add_argument("cases", nargs="*", default=list(CNNS), help="cases to run (default: all CNNs)")
    parser.add_argument("--target", default="tpu-int16x8", help="target to compile for")
    parser.add_argument("--samples", type=int, default=512, help="samples of the evaluation split")
    options = parser.parse_args()
    suite = load_suite(options.suite)
    passes = load_target(options.target).descriptor.pipeline.split(",")
    until_calibrated = ",".join(passes[: passes.index("calibrate") + 1])
    table = Table(title=f"target {options.target}")
    table.add_column("case")
    for column in ("host nodes", "integer SQNR dB", "weights only dB", "shortfall dB"):
        table.add_column(column, justify="right")
    fell_short = False
    for name in options.cases:
        case = suite.load(name)
        feeds = {case.input: case.eval_x[case.input][: options.samples]}
        program = qcompiler.compile(case.model, target=options.target, data=case.calib, native=False)
        calibrated = qcompiler.compile(
            case.model, target=options.target, data=case.calib, native=False, pipeline=until_calibrated
        )
        session = onnxruntime.InferenceSession(str(case.model), providers=["CPUExecutionProvider"])
        samples = feeds[case.input]
        real = np.concatenate([session.run(None, {case.input: samples[i : i + 1]})[0] for i in range(len(samples))])
        (simulated,) = FloatSession(calibrated.graph, bypass=Bypass(activations=True)).run(feeds)
        integer = sqnr_db(real, program.run(feeds)[program.graph.outputs[0].name])
        weights = sqnr_db(real, simulated)
        short = weights - integer
        fell_short |= short > LARGEST_SHORTFALL_DB
        mark = " !" if short > LARGEST_SHORTFALL_DB else ""
        table.add_row(
            name, str(program.coverage.host_nodes), f"{integer:.2f}", f"{weights:.2f}", f"{short:.2f}{mark}"
        )
        print(f"{name}: integer {integer:.2f} dB, weights only {weights:.2f} dB", flush=True)
    Console(width=100).print(table)
    raise SystemExit(int(fell_short))


if __name__ == "__main__":
    main()
