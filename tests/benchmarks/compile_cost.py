"""Time and memory of a compilation, next to ONNX Runtime running the float model on the same images.

    python tests/benchmarks/compile_cost.py SUITE [CASE] [--images 100 400] [--repeat 3]

Every measurement is a process of its own; compilations and float runs alternate. The calibration images lie in an
``.npz`` file on disk, as a user's would. Peak memory is the largest resident set (VmHWM; Linux only).
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from suite import load_suite


def compile_once(model: str, data: str, target: str) -> None:
    import qcompiler

    started = time.perf_counter()
    qcompiler.compile(model, target=target, data=data)
    report(time.perf_counter() - started)


def run_float(model: str, data: str) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    with np.load(data) as archive:
        images = archive[name]
    started = time.perf_counter()
    for i in range(len(images)):
        session.run(None, {name: images[i : i + 1]})
    report(time.perf_counter() - started)


def report(seconds: float) -> None:
    # getrusage would count the parent's memory at the time of the fork; VmHWM starts anew with the program.
    status = Path("/proc/self/status").read_text()
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    print(json.dumps({"seconds": seconds, "peak_mb": peak / 1024}))


def measure(mode: str, model: Path, data: Path, target: str) -> tuple[float, float]:
    command = [sys.executable, __file__, "--worker", mode, str(model), str(data), target]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    figures = json.loads(output.splitlines()[-1])
    return figures["seconds"], figures["peak_mb"]


def main() -> None:
    parser = argparse.ArgumentParser(description="time and memory of a compilation")
    parser.add_argument("suite", type=Path)
    parser.add_argument("case", nargs="?", default="efflite0")
    parser.add_argument("--images", type=int, nargs="+", default=[100, 400])
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--target", default="tpu-int8")
    options = parser.parse_args()
    case = load_suite(options.suite).load(options.case)
    images = np.concatenate([case.calib[case.input], case.eval_x[case.input]])
    with tempfile.TemporaryDirectory() as folder:
        for count in options.images:
            data = Path(folder) / f"{count}.npz"
            np.savez(data, **{case.input: images[np.arange(count) % len(images)]})
            compiled, real = [], []
            for _ in range(options.repeat):
                real.append(measure("float", case.model, data, options.target))
                compiled.append(measure("compile", case.model, data, options.target))
            seconds = statistics.median(s for s, _ in compiled)
            float_seconds = statistics.median(s for s, _ in real)
            print(
                f"{options.case}, {count} images: compile {seconds:.2f} s, float run {float_seconds:.2f} s, "
                f"limit 3 x float + 10 s = {3 * float_seconds + 10:.2f} s, "
                f"peak memory {max(p for _, p in compiled):.0f} MB"
            )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        mode, model, data, target = sys.argv[2:6]
        compile_once(model, data, target) if mode == "compile" else run_float(model, data)
    else:
        main()
