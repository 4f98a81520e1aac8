"""Contractions with weights in groups: native code equals the reference interpreter on every instruction set."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from grouped_cases import CASES
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from native_comparison import assert_native_equals_reference
from op_writer import OpWriter

from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.selection import runnable_instruction_sets
from qcompiler.ir import SymbolicDim, verify


@pytest.mark.parametrize("isa", runnable_instruction_sets(), ids=lambda isa: isa.name)
@settings(
    phases=[Phase.explicit, Phase.reuse, Phase.generate], max_examples=2, deadline=None, derandomize=False,
    suppress_health_check=list(HealthCheck),
)
@given(seed=st.integers(0, (1 << 32) - 1))
def test_contractions(isa: InstructionSet, seed: int) -> None:
    w = OpWriter(np.random.default_rng(seed), SymbolicDim("N"))
    for case in CASES:
        w.add_case(case)
    graph = w.finish()
    verify(graph)
    with tempfile.TemporaryDirectory() as folder:
        assert_native_equals_reference(graph, w.feeds, [isa], Path(folder), samples=(1, 3))
