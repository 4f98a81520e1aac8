"""What watching a compilation costs: time with an instrument over time without, runs interleaved.

    python tests/benchmarks/instrument_cost.py SUITE [CASE] [--images 100] [--repeat 7] [--only dump]

Every round compiles once without instruments and once with each, in one process, in an order that changes from round
to round; ratios of medians are reported, of wall-clock time and of processor time, which a busy machine disturbs less.
"no hash" leaves out the structural hash that the pipeline itself takes after every pass: its ratio says what compiling
would cost without it. Exits with 1 if dumping the program after every pass costs more than 20 % of processor time.
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import numpy as np
from suite import load_suite

import qcompiler
from qcompiler.pipeline import CrashReproducer, DumpIR, Instrument, PrintIR, Timing, VerifyEach

_DUMP_LIMIT = 1.20


def instruments(folder: Path) -> dict[str, Callable[[], list[Instrument]]]:
    """What to measure, by name. Every dump goes to a folder of its own: nothing is there yet."""
    return {
        "none": list,
        "dump": lambda: [DumpIR(tempfile.mkdtemp(dir=folder))],
        "print": lambda: [PrintIR(after=["all"], stream=open(os.devnull, "w"))],
        "verify-each": lambda: [VerifyEach()],
        "time": lambda: [Timing()],
        "crash-reproducer": lambda: [CrashReproducer(folder / "crash")],
        "no hash": list,
    }


@contextmanager
def without_hash() -> Iterator[None]:
    """Let the pipeline believe the passes: its structural hash never changes."""
    with mock.patch("qcompiler.pipeline.pipeline._content_hash", return_value=""):
        yield


def measure(name: str, made: list[Instrument], model: Path, data: Path, target: str) -> tuple[float, float]:
    """Wall-clock and processor seconds of one compilation."""
    gc.collect()
    started, used = time.perf_counter(), time.process_time()
    if name == "no hash":
        with without_hash():
            qcompiler.compile(str(model), target=target, data=str(data))
    else:
        qcompiler.compile(str(model), target=target, data=str(data), instruments=made)
    return time.perf_counter() - started, time.process_time() - used


def main() -> int:
    parser = argparse.ArgumentParser(description="cost of instruments")
    parser.add_argument("suite", type=Path)
    parser.add_argument("case", nargs="?", default="efflite0")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--target", default="tpu-int8")
    parser.add_argument("--only", nargs="+", default=[], help="measure these alone")
    options = parser.parse_args()
    case = load_suite(options.suite).load(options.case)
    images = np.concatenate([case.calib[case.input], case.eval_x[case.input]])
    taken: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data.npz"
        np.savez(data, **{case.input: images[np.arange(options.images) % len(images)]})
        makers = {
            name: make for name, make in instruments(Path(folder)).items()
            if not options.only or name in ("none", *options.only)
        }
        measure("none", [], case.model, data, options.target)
        for round_number in range(options.repeat):
            order = list(makers)
            random.Random(round_number).shuffle(order)
            for name in order:
                seconds = measure(name, makers[name](), case.model, data, options.target)
                taken.setdefault(name, []).append(seconds)
    medians = {name: [statistics.median(column) for column in zip(*rows, strict=True)] for name, rows in taken.items()}
    print(f"{options.case}, {options.images} images, {options.repeat} rounds")
    for name, (wall, processor) in medians.items():
        ratios = wall / medians["none"][0], processor / medians["none"][1]
        print(
            f"{name:17} wall {wall:7.3f} s, ratio {ratios[0]:.3f};  processor {processor:7.3f} s, ratio {ratios[1]:.3f}"
        )
    dump = medians.get("dump", medians["none"])[1] / medians["none"][1]
    return 0 if dump <= _DUMP_LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
