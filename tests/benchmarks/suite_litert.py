"""Compiled suite models against LiteRT's reference kernels, kernel by kernel, bit for bit.

    python tests/benchmarks/suite_litert.py SUITE [CASE ...]

Ends with an error at the first value that differs.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

from suite import arguments, load_suite

import qcompiler

sys.path.insert(0, str(Path(__file__).parent.parent))

from litert.network import compare_with_litert

SAMPLES = 8


def main() -> None:
    options = arguments("compiled programs against LiteRT's reference kernels")
    suite = load_suite(options.suite)
    for name in options.cases:
        case = suite.load(name)
        program = qcompiler.compile(case.model, target=options.target, data=case.calib)
        confirmed: Counter[str] = Counter()
        for i in range(SAMPLES):
            confirmed = compare_with_litert(program.graph, {k: v[i : i + 1] for k, v in case.eval_x.items()})
        kinds = ", ".join(f"{count} {op}" for op, count in confirmed.most_common())
        print(f"{name}: {SAMPLES} samples, all {sum(confirmed.values())} nodes equal: {kinds}", flush=True)


if __name__ == "__main__":
    main()
