"""Random programs of block floating point in native code against the reference, mantissas and exponents."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from block_writer import BlockWriter
from hypothesis import HealthCheck, Phase, settings
from kernel_harness import NO_LOOKUPS
from native_comparison import assert_native_equals_reference

from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.selection import runnable_instruction_sets
from qcompiler.ir import SymbolicDim, Value, verify

BATCHES = (SymbolicDim("N"), SymbolicDim("N"), SymbolicDim("N", 2), 1, 3)

ISAS = [isa for isa in runnable_instruction_sets() if isa.name not in NO_LOOKUPS]
every_isa = pytest.mark.parametrize("isa", ISAS, ids=lambda isa: isa.name)

Case = Callable[[BlockWriter], Value | Sequence[Value]]


def examples(count: int) -> settings:
    """A test of ``count`` fresh seeds; there is nothing to shrink in a seed."""
    phases = [Phase.explicit, Phase.reuse, Phase.generate]
    checks = list(HealthCheck)
    return settings(phases=phases, max_examples=count, deadline=None, derandomize=False, suppress_health_check=checks)


def check(isa: InstructionSet, cases: Sequence[Case], seed: int, **sizes: Any) -> None:
    """A graph of all cases, each run on other numbers several times."""
    rng = np.random.default_rng(seed)
    w = BlockWriter(rng, BATCHES[int(rng.integers(len(BATCHES)))], **sizes)
    for case in cases:
        w.add_case(case)
    graph = w.finish()
    verify(graph)
    free = any(v.type.carries_batch for v in graph.inputs)
    with tempfile.TemporaryDirectory() as folder:
        assert_native_equals_reference(
            graph, w.feeds, [isa], Path(folder), samples=(1, 3, 1, 3) if free else (1,) * 4, threads=(1, 2)
        )
