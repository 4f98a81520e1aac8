"""Fresh random networks through the whole compiler: native code equals the reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from random_programs import TARGETS, check_random_program

from qcompiler.backends.tvm.kernel_cache import KernelCache
from qcompiler.backends.tvm.selection import runnable_instruction_sets

ISAS = runnable_instruction_sets()


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> KernelCache:
    """Compiled kernels of all networks here."""
    return KernelCache(tmp_path_factory.mktemp("kernels"))


@pytest.mark.parametrize("number", range(25))
def test_native_equals_reference(number: int, tmp_path: Path, kernels: KernelCache) -> None:
    seed = int(np.random.SeedSequence().generate_state(1)[0])
    target, isa = TARGETS[number % 2], ISAS[number // 2 % len(ISAS)]
    print(f"python tests/benchmarks/native_random_programs.py --first {seed} --count 1 --target {target} "
          f"--cpu {isa.name}")
    check_random_program(seed, target, isa, tmp_path, kernels)
