"""Native programs against ONNX Runtime and LiteRT, interleaved in one process.

    python tests/benchmarks/native_speed.py SUITE [CASE ...] [--threads 1 2] [--rounds 15] [--target cpu-int8]

In every round each contender has one turn, in an order that changes from round to round: a pause, in which the threads
of the contender before it stop spinning, some runs to warm up, then timed runs. All times of all turns go into one
median and one minimum. Ratios are those of the faster baseline over ours; above 1 means that ours is faster. Each
output is compared with the float model's, so that no contender is fast by being wrong. ONNX Runtime takes the model's
own input; LiteRT takes it as NHWC, its own layout, and so is spared a transpose that the others do.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from native_baselines import Baselines, Contender, sample_of
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from suite import load_suite

import qcompiler
from qcompiler.benchmark import Times, measure

Array = NDArray[Any]

CASES = ("efflite0", "resnet20", "resnet8", "kws", "vww")


class Ours:
    """Our native program."""

    name = "qcompiler"

    def __init__(self, program: qcompiler.Program, sample: Array, threads: int) -> None:
        """Args:
            program: with native code, without host nodes, with one input.
            sample: batch 1.
            threads: of each op.

        Raises:
            ValueError: some nodes run on the host.
        """
        assert program.native is not None
        ((_, library),) = program.native.islands
        if library is None:
            raise ValueError("the program runs on the host")
        self._prepared = library.prepare({library.inputs[0].name: sample}, threads)

    def run(self) -> None:
        self._prepared.run()

    def output(self) -> Array:
        (result,) = self._prepared.outputs.values()
        return result


def add_rows(
    table: Table, name: str, threads: int, contenders: list[Contender], times: list[Times], expected: Array
) -> None:
    """A row for each contender; the first is ours."""
    baselines = times[1:]
    for contender, entry in zip(contenders, times, strict=True):
        median = minimum = ""
        if entry is times[0]:
            median = f"{min(t.median for t in baselines) / entry.median:.2f}"
            minimum = f"{min(t.minimum for t in baselines) / entry.minimum:.2f}"
        error = contender.output().reshape(expected.shape) - expected
        noise = float(np.square(error).mean() / np.square(expected).mean())
        table.add_row(
            name, str(threads), contender.name, f"{entry.median:.3f}", f"{entry.minimum:.3f}", median, minimum,
            f"{100 * noise**0.5:.1f}",
        )
    table.add_section()


def float_output(case: Any, sample: Array) -> Array:
    session = onnxruntime.InferenceSession(case.model, providers=["CPUExecutionProvider"])
    result: Array = session.run(None, {case.input: sample})[0]
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description="native programs against ONNX Runtime and LiteRT")
    parser.add_argument("suite", type=Path, help="folder that holds suite.py and suite.toml")
    parser.add_argument("cases", nargs="*", default=list(CASES), help="cases to run")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--target", default="cpu-int8", help="target of our program")
    options = parser.parse_args()
    suite = load_suite(options.suite)
    table = Table(title="one inference, batch 1, real numbers in and out")
    for heading in ("model", "threads", "", "median ms", "min ms", "median ratio", "min ratio", "error %"):
        table.add_column(heading, justify="left" if heading in ("model", "") else "right")
    with tempfile.TemporaryDirectory() as folder:
        for name in options.cases:
            case = suite.load(name)
            sample = sample_of(case)
            expected = float_output(case, sample)
            program = qcompiler.compile(case.model, target=options.target, data=case.calib, native=True)
            baselines = Baselines(case, Path(folder))
            for threads in options.threads:
                contenders: list[Contender] = [Ours(program, sample, threads), *baselines.contenders(threads)]
                add_rows(table, name, threads, contenders, measure(contenders, options.rounds), expected)
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
