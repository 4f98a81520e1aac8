"""Native programs of block floating point against cpu-int8, interleaved in one process.

    python tests/benchmarks/block_speed.py SUITE [--case resnet20 ...] [--targets dsp-bfp16 ...] [--threads 1 2]

Every target is a contender, cpu-int8 the first; in every round each has one turn, in an order that changes from round
to round. Ratios are a target's time over that of cpu-int8: below 4 is the goal of dsp-bfp16 on resnet20. A target
whose program has no native form is named, not timed.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from native_baselines import sample_of
from rich.console import Console
from rich.table import Table
from suite import load_suite

import qcompiler
from qcompiler.backends.tvm.kernel_program import NoLowering
from qcompiler.benchmark import Times, measure
from qcompiler.benchmark.contenders import NativeProgram

BASELINE = "cpu-int8"


def main() -> None:
    parser = argparse.ArgumentParser(description="block floating point against cpu-int8, both native")
    parser.add_argument("suite", type=Path, help="folder that holds suite.py and suite.toml")
    parser.add_argument("--case", dest="cases", nargs="+", default=["resnet20"], help="cases to run")
    parser.add_argument("--targets", nargs="+", default=["dsp-bfp16"])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    suite = load_suite(options.suite)
    table = Table(title="one inference, batch 1, real numbers in and out; ratios to cpu-int8")
    for heading in ("model", "threads", "target", "median ms", "min ms", "median ratio", "min ratio"):
        table.add_column(heading, justify="left" if heading in ("model", "target") else "right")
    for name in options.cases:
        case = suite.load(name)
        feeds = {case.input: sample_of(case)}
        programs = native_programs(case, (BASELINE, *options.targets))
        for threads in options.threads:
            contenders = [NativeProgram(p.native, feeds, threads) for p in programs.values() if p.native is not None]
            add_rows(table, name, threads, list(programs), measure(contenders, options.rounds))
    Console(width=110).print(table)


def native_programs(case: Any, targets: Sequence[str]) -> dict[str, qcompiler.Program]:
    """A program with native code for each target that has one."""
    programs = {}
    for target in dict.fromkeys(targets):
        program = qcompiler.compile(case.model, target=target, data=case.calib, native=False)
        try:
            program.build_native()
        except NoLowering as error:
            print(f"{case.name} for {target}: {error}")
            continue
        programs[target] = program
    return programs


def add_rows(table: Table, name: str, threads: int, targets: Sequence[str], times: Sequence[Times]) -> None:
    """A row for each target; the first is the baseline."""
    base = times[0]
    for target, entry in zip(targets, times, strict=True):
        table.add_row(
            name, str(threads), target, f"{entry.median:.3f}", f"{entry.minimum:.3f}",
            f"{entry.median / base.median:.2f}", f"{entry.minimum / base.minimum:.2f}",
        )
    table.add_section()


if __name__ == "__main__":
    main()
