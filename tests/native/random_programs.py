"""Random float networks, compiled by a target's own pipeline and run both ways."""

from __future__ import annotations

from pathlib import Path

from native_comparison import assert_program_runs_the_same, build_code
from random_networks import random_inputs, random_network

from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.kernel_cache import KernelCache
from qcompiler.compilation import compile
from qcompiler.program import Program

TARGETS = ("tpu-int8", "cpu-int8")


def random_program(seed: int, target: str) -> Program:
    """A random network for a target, calibrated on 8 random samples."""
    model = random_network(seed)
    return compile(model, target=target, data=random_inputs(model, 8, seed), native=False)


def check_random_program(seed: int, target: str, isa: InstructionSet, folder: Path, kernels: KernelCache) -> Program:
    """Compare native code with the reference on usual and on extreme inputs.

    Raises:
        AssertionError: some bit differs.
    """
    program = random_program(seed, target)
    program.native = build_code(program.graph, isa, folder, kernels)
    model = random_network(seed)
    for number, (samples, extreme) in enumerate([(3, False), (2, True), (2, True), (1, True)]):
        feeds = random_inputs(model, samples, seed + 1 + number, extreme)
        assert_program_runs_the_same(program, feeds, threads=1 + number % 2)
    return program
