"""Random networks compiled for both targets: native code equals the reference.

    python tests/benchmarks/native_random_programs.py [--count 500] [--first SEED] [--target T] [--cpu CPU]

Targets and instruction sets take turns where none is given. Prints each failure with its seed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS), str(TESTS / "native")]

from random_programs import TARGETS, check_random_program  # noqa: E402

from qcompiler.backends.tvm.kernel_cache import KernelCache  # noqa: E402
from qcompiler.backends.tvm.selection import runnable_instruction_sets, select_instruction_set  # noqa: E402
from qcompiler.errors import QCompilerError  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description="native code against the reference on random networks")
    parser.add_argument("--count", type=int, default=500, help="how many networks")
    parser.add_argument("--first", type=int, default=0, help="seed of the first one")
    parser.add_argument("--target", choices=TARGETS, help="compile for this target only")
    parser.add_argument("--cpu", help="use this instruction set only")
    options = parser.parse_args()
    isas = [select_instruction_set(options.cpu)] if options.cpu else runnable_instruction_sets()
    found: Counter[str] = Counter()
    start = time.perf_counter()
    kernels = KernelCache()
    for number in range(options.count):
        seed = options.first + number
        target = options.target or TARGETS[number % 2]
        isa = isas[number // 2 % len(isas)]
        with tempfile.TemporaryDirectory() as folder:
            try:
                program = check_random_program(seed, target, isa, Path(folder), kernels)
            except (AssertionError, QCompilerError) as error:
                found["failed"] += 1
                print(f"seed {seed}, {target}, {isa.name}: {error}", flush=True)
                continue
        found[f"{target} {isa.name}"] += 1
        found["nodes"] += sum(1 for _ in program.graph.nodes)
        found["with host nodes"] += program.coverage.host_nodes > 0
        if number % 20 == 19:
            print(f"{number + 1} networks, {time.perf_counter() - start:.0f} s", flush=True)
    seconds = time.perf_counter() - start
    for name, count in sorted(found.items()):
        print(f"{count:6} {name}")
    print(f"{options.count} networks in {seconds:.0f} s, {kernels.compiled} kernels compiled")
    raise SystemExit(bool(found["failed"]))


if __name__ == "__main__":
    main()
