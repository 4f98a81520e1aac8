"""Native code of a model suite: equal to the reference on real samples, on every instruction set that runs here.

    python tests/benchmarks/suite_native.py SUITE [CASE ...] [--target tpu-int8] [--cpu CPU] [--samples 64]

For every case: the program runs at one and two threads on each instruction set, and lib.so runs through TVM's runtime
in a process that cannot import qcompiler. Compile times are with an empty folder of kernels and with a full one. The
workspace is compared with the most bytes that live at once. A case that the suite does not describe is a model in its
folder ``models``, run on smooth random numbers.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from suite import CNNS, load_suite

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS), str(TESTS / "native")]

from native_comparison import assert_same_bits, run_reference  # noqa: E402
from test_memory_plan import check_plan, largest_cut  # noqa: E402
from test_tvm_entry import run_alone  # noqa: E402

from qcompiler.backends.tvm.graph_lowering import lower_program  # noqa: E402
from qcompiler.backends.tvm.instruction_set import InstructionSet  # noqa: E402
from qcompiler.backends.tvm.kernel_cache import KernelCache  # noqa: E402
from qcompiler.backends.tvm.memory_plan import plan_memory  # noqa: E402
from qcompiler.backends.tvm.selection import runnable_instruction_sets, select_instruction_set  # noqa: E402
from qcompiler.compilation import compile, read_model  # noqa: E402
from qcompiler.native_code import build_native_code  # noqa: E402
from qcompiler.program import Program  # noqa: E402

Array = NDArray[Any]
Feeds = dict[str, Array]

SHAPES = {"ppocr_cls": {"x": (-1, 3, 48, 192)}}
"""Sizes of inputs that a model leaves open."""

THROUGH_TVM = """
import tvm
library = tvm.runtime.load_module(sys.argv[1])
data = np.load(sys.argv[2])
inputs = [data[f"x{i}"].copy() for i in range(sum(name.startswith("x") for name in data.files))]
expected = [data[f"y{i}"] for i in range(len(data.files) - len(inputs))]
for threads in (1, 2):
    library["set_threads"](threads)
    outputs = [np.zeros_like(y) for y in expected]
    library["run"](*inputs, *outputs)
    assert all(found.tobytes() == y.tobytes() for found, y in zip(outputs, expected))
print("equal")
"""


def main() -> None:
    parser = argparse.ArgumentParser(description="native code of a model suite against the reference")
    parser.add_argument("suite", type=Path, help="folder that holds suite.py, suite.toml and models/")
    parser.add_argument("cases", nargs="*", default=list(CNNS), help="cases to run (default: all CNNs)")
    parser.add_argument("--target", default="tpu-int8", help="target to compile for")
    parser.add_argument("--cpu", help="use this instruction set only")
    parser.add_argument("--samples", type=int, default=64, help="samples to compare on")
    options = parser.parse_args()
    suite = load_suite(options.suite)
    isas = [select_instruction_set(options.cpu)] if options.cpu else runnable_instruction_sets()
    table = Table(title=f"target {options.target}, {options.samples} samples")
    table.add_column("case")
    for column in ("host nodes", "CPU", "equal", "through TVM", "cold", "warm", "workspace", "least"):
        table.add_column(column, justify="right")
    for name in options.cases:
        model, calibration, samples = case_data(suite, options.suite, name, options.samples)
        program = compile(
            model, target=options.target, data=calibration, shapes=SHAPES.get(name), native=False
        )
        if program.coverage.host_nodes:
            table.add_row(name, str(program.coverage.host_nodes))
            continue
        expected, stored = run_in_parts(program, samples)
        for isa in isas:
            table.add_row(name, "0", isa.name, *measure(program, isa, samples, expected, stored))
    Console(width=130).print(table)


def case_data(suite: Any, folder: Path, name: str, count: int) -> tuple[Path, Feeds, Feeds]:
    """Model, calibration data and samples of a case."""
    try:
        case = suite.load(name)
        return case.model, case.calib, {key: value[:count] for key, value in case.eval_x.items()}
    except KeyError:
        model = folder / "models" / f"{name}.onnx"
    inputs = read_model(model, shapes=SHAPES.get(name)).inputs
    shapes = {v.name: [d for d in v.type.shape[1:] if isinstance(d, int)] for v in inputs}
    drawn = [
        {key: np.cumsum(rng.normal(0, 0.1, (n, *shape)), -1).astype(np.float32) for key, shape in shapes.items()}
        for n, rng in ((32, np.random.default_rng(0)), (count, np.random.default_rng(1)))
    ]
    return model, drawn[0], drawn[1]


def run_in_parts(program: Program, samples: Feeds) -> tuple[Feeds, Feeds]:
    """Outputs of the reference and the integers behind them, by name; a few samples at a time."""
    count = len(next(iter(samples.values())))
    parts = [
        run_reference(program.graph, {key: value[start : start + 4] for key, value in samples.items()})
        for start in range(0, count, 4)
    ]
    names = [output.name for output in program.graph.outputs]
    return (
        {name: np.concatenate([outputs[name] for outputs, _ in parts]) for name in names},
        {name: np.concatenate([stored[i] for _, stored in parts]) for i, name in enumerate(names)},
    )


def measure(program: Program, isa: InstructionSet, samples: Feeds, expected: Feeds, stored: Feeds) -> list[str]:
    """The columns behind the instruction set; a difference ends the program."""
    with tempfile.TemporaryDirectory() as folder:
        seconds = []
        for _ in range(2):
            start = time.perf_counter()
            program.native = build_native_code(program.graph, isa.name, cache=KernelCache(Path(folder)))
            seconds.append(time.perf_counter() - start)
        for threads in (1, 2):
            found = program.run(samples, backend="native", threads=threads)
            integers = program.run(samples, quantized=True, backend="native", threads=threads)
            for key in expected:
                assert_same_bits(found[key], expected[key], f"{isa.name}, {threads} threads, {key}")
                assert_same_bits(integers[key], stored[key], f"{isa.name}, {threads} threads, stored {key}")
        inputs = [samples[v.name] for v in program.graph.inputs]
        arrays = {f"x{i}": x for i, x in enumerate(inputs)} | {f"y{i}": y for i, y in enumerate(expected.values())}
        np.savez(Path(folder) / "data.npz", allow_pickle=False, **arrays)
        assert program.native is not None
        through_tvm = run_alone(THROUGH_TVM, program.native.libraries[0], Path(folder) / "data.npz").strip()
        kernels, _ = lower_program(program.graph, isa)
        plan = plan_memory(kernels)
        check_plan(kernels, plan)
        sizes = [f"{size / 1024:.0f} KiB" for size in (plan.size, largest_cut(kernels))]
    return ["yes", through_tvm, f"{seconds[0]:.1f} s", f"{seconds[1]:.1f} s", *sizes]


if __name__ == "__main__":
    main()
