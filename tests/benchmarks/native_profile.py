"""Where the baselines' time goes: every layer of a model, its size, and its time in ONNX Runtime and LiteRT.

    python tests/benchmarks/native_profile.py SUITE [CASE] [--threads 1] [--runs 100]

ONNX Runtime's times come from its own profiler, which adds some microseconds to every operator: a line below the tables
shows by how much the profiled run is slower. LiteRT's Python interface has none: each layer is run as a model of one
operator, whose input and output may stay in the cache. All are medians. Layers stand in LiteRT's order; the two lists
are joined by kind, sizes and occurrence.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from native_baselines import Baselines, LiteRT, OnnxRuntime
from native_litert_model import TfliteModel, write_step
from rich.console import Console
from rich.table import Table
from suite import load_suite

_ONNX_OPERATORS = {
    "QLinearConv": "convolution", "QGemm": "convolution", "QLinearAdd": "add", "QLinearGlobalAveragePool": "mean",
    "ReduceMean": "mean", "QLinearAveragePool": "mean",
}
_TFLITE_OPERATORS = {
    "CONV_2D": "convolution", "DEPTHWISE_CONV_2D": "convolution", "FULLY_CONNECTED": "convolution", "ADD": "add",
    "MEAN": "mean",
}


@dataclass
class Layer:
    """One layer.

    Attributes:
        kind: for the reader.
        source, result: shapes.
        step: position among the model's steps.
        family: what both runtimes have in common, if anything.
        onnx_runtime, litert: microseconds; None where a runtime has no such operator of its own.
    """

    kind: str
    source: tuple[int, ...]
    result: tuple[int, ...]
    multiply_accumulates: int
    step: int
    family: str | None
    onnx_runtime: float | None = None
    litert: float | None = None


def layers_of(model: TfliteModel) -> Iterator[Layer]:
    for index, step in enumerate(model.steps):
        code, fields = step.operator.code, step.operator.fields
        source, result = model.tensors[step.inputs[0]].shape, model.tensors[step.output].shape
        kind, work = code.lower(), 0
        if _TFLITE_OPERATORS.get(code) == "convolution":
            weights = model.tensors[step.inputs[1]].shape
            taps = int(np.prod(weights[1:3] if code == "DEPTHWISE_CONV_2D" else weights[1:]))
            work = int(np.prod(result)) * taps
            if code != "FULLY_CONNECTED":
                family = "depthwise" if code == "DEPTHWISE_CONV_2D" else "conv"
                kind = f"{family} {weights[1]}x{weights[2]} s{fields['strideH']}"
        yield Layer(kind, source, result, work, index, _TFLITE_OPERATORS.get(code))


def time_in_litert(model: TfliteModel, layer: Layer, threads: int, runs: int) -> float:
    """Median microseconds of one layer as a model of its own, on random integers."""
    interpreter = Interpreter(model_content=write_step(model, layer.step), num_threads=threads)
    interpreter.allocate_tensors()
    rng = np.random.default_rng(0)
    for details in interpreter.get_input_details():
        if details["dtype"] is np.int8:
            numbers = rng.integers(-128, 128, details["shape"], np.int8)
        else:
            numbers = rng.uniform(-1, 1, details["shape"]).astype(details["dtype"])
        interpreter.set_tensor(details["index"], numbers)
    return median_microseconds(interpreter.invoke, runs)


def time_in_onnx_runtime(
    baselines: Baselines, layers: list[Layer], threads: int, runs: int, folder: Path
) -> tuple[dict[str, float], float, float]:
    """Fill in ONNX Runtime's times.

    Returns:
        Median microseconds of each of its operator kinds, of a run with profiling and of a run without.
    """
    plain = OnnxRuntime(baselines.onnx, baselines.sample, threads)
    undisturbed = median_microseconds(plain.run, runs)
    runtime = OnnxRuntime(baselines.onnx, baselines.sample, threads, folder / "profile")
    for _ in range(runs):
        runtime.run()
    durations: dict[str, list[float]] = defaultdict(list)
    details: dict[str, Any] = {}
    totals = []
    for event in json.loads(runtime.end_profile().read_text()):
        if event["name"] == "model_run":
            totals.append(event["dur"])
        elif event["cat"] == "Node" and event["name"].endswith("_kernel_time"):
            durations[event["name"]].append(event["dur"])
            details[event["name"]] = event["args"]
    waiting: dict[Any, list[Layer]] = defaultdict(list)
    for layer in layers:
        waiting[layer.family, int(np.prod(layer.source)), int(np.prod(layer.result))].append(layer)
    kinds: dict[str, float] = defaultdict(float)
    for name, times in durations.items():
        args, median = details[name], statistics.median(times)
        kinds[args["op_name"]] += median
        sizes = [int(np.prod(next(iter(args[key][0].values())))) for key in ("input_type_shape", "output_type_shape")]
        candidates = waiting[(_ONNX_OPERATORS.get(args["op_name"]), *sizes)]
        if candidates and args["op_name"] in _ONNX_OPERATORS:
            candidates.pop(0).onnx_runtime = median
    return dict(kinds), statistics.median(totals), undisturbed


def median_microseconds(run: Callable[[], None], runs: int) -> float:
    seconds = []
    for _ in range(runs):
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    return 1e6 * statistics.median(seconds)


def cells(work: int, onnx_runtime: float | None, litert: float | None) -> list[str]:
    """Million multiply-accumulates, then each runtime's time and thousand million multiply-accumulates a second."""
    found = [f"{work / 1e6:.2f}"]
    for time_spent in (onnx_runtime, litert):
        found.append("" if time_spent is None else f"{time_spent:.0f}")
        found.append(f"{work / time_spent / 1e3:.0f}" if time_spent and work else "")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="the baselines' time, layer by layer")
    parser.add_argument("suite", type=Path, help="folder that holds suite.py and suite.toml")
    parser.add_argument("case", nargs="?", default="efflite0")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=int, default=100)
    options = parser.parse_args()
    case = load_suite(options.suite).load(options.case)
    with tempfile.TemporaryDirectory() as folder:
        baselines = Baselines(case, Path(folder))
        layers = list(layers_of(baselines.tflite))
        kinds, profiled, undisturbed = time_in_onnx_runtime(
            baselines, layers, options.threads, options.runs, Path(folder)
        )
        for layer in layers:
            layer.litert = time_in_litert(baselines.tflite, layer, options.threads, options.runs)
        whole = LiteRT(baselines.tflite, baselines.sample, options.threads)
        whole_litert = median_microseconds(whole.run, options.runs)
    figures = ("MMAC", "ORT us", "GMAC/s", "LiteRT us", "GMAC/s")
    detailed, summary = Table(title=f"{options.case}, layer by layer"), Table(title=f"{options.case}, by kind")
    for table, headings in ((detailed, ("kind", "input", "output")), (summary, ("kind", "layers"))):
        for heading in headings:
            table.add_column(heading, no_wrap=True)
        for heading in figures:
            table.add_column(heading, justify="right", no_wrap=True)
    groups: dict[str, list[Layer]] = defaultdict(list)
    for layer in layers:
        shapes = ("x".join(map(str, s[1:])) for s in (layer.source, layer.result))
        detailed.add_row(
            layer.kind, *shapes, *cells(layer.multiply_accumulates, layer.onnx_runtime, layer.litert)
        )
        groups[layer.kind].append(layer)
    for kind, members in sorted(groups.items(), key=lambda g: -sum(m.litert or 0 for m in g[1])):
        in_onnx_runtime = sum(m.onnx_runtime or 0 for m in members)
        work, in_litert = (sum(m.multiply_accumulates for m in members), sum(m.litert or 0 for m in members))
        summary.add_row(kind, str(len(members)), *cells(work, in_onnx_runtime or None, in_litert))
    summary.add_section()
    work = sum(m.multiply_accumulates for m in layers)
    summary.add_row("sum", str(len(layers)), *cells(work, sum(kinds.values()), sum(m.litert or 0 for m in layers)))
    summary.add_row("whole model", "", *cells(work, undisturbed, whole_litert))
    console = Console(width=110)
    console.print(detailed, summary)
    console.print("ONNX Runtime, microseconds by operator: " + ", ".join(f"{k} {v:.0f}" for k, v in kinds.items()))
    console.print(f"ONNX Runtime, a run with profiling {profiled:.0f}, without {undisturbed:.0f}")
    console.print("LiteRT, operators outside XNNPACK: " + (", ".join(whole.not_delegated) or "none"))


if __name__ == "__main__":
    main()
