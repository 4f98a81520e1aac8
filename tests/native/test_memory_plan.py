"""Where buffers lie: apart while they live, and little more than the least that any plan takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from native_comparison import assert_native_equals_reference
from random_networks import random_inputs, random_network
from random_programs import random_program

from qcompiler.backends.tvm import memory_plan
from qcompiler.backends.tvm.graph_lowering import lower_program
from qcompiler.backends.tvm.kernel_program import OVER_READ, Buffer, Call, Home, KernelProgram, View
from qcompiler.backends.tvm.kernels.movement import contiguous_copy
from qcompiler.backends.tvm.memory_plan import ALIGNMENT, MemoryPlan, plan_memory
from qcompiler.backends.tvm.selection import runnable_instruction_sets
from qcompiler.program import Program

ISA = runnable_instruction_sets()[0]


def lifetimes(program: KernelProgram) -> dict[int, tuple[int, int]]:
    """The first and last call that touches each workspace buffer, found call by call."""
    found: dict[int, tuple[int, int]] = {}
    touched = [[v.buffer for v in call.views] for call in program.calls]
    for number, buffers in enumerate([*touched, [v.buffer for v in program.stored]]):
        for buffer in buffers:
            if buffer.home is Home.WORKSPACE:
                found[buffer.index] = (found.get(buffer.index, (number, 0))[0], number)
    return found


def aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def largest_cut(program: KernelProgram) -> int:
    """Bytes that live at the same time at most: no plan takes less."""
    lives = lifetimes(program)
    return max(
        (sum(aligned(program.workspace[i].bytes) for i, (first, last) in lives.items() if first <= number <= last)
         for number in range(len(program.calls) + 1)),
        default=0,
    )


def check_plan(program: KernelProgram, plan: MemoryPlan) -> None:
    """No two buffers that live at the same time overlap, and all lie within the workspace."""
    lives = lifetimes(program)
    places = [(i, plan.offsets[i], plan.offsets[i] + program.workspace[i].bytes) for i in lives]
    for index, (i, low, high) in enumerate(places):
        assert low % ALIGNMENT == 0
        assert high + OVER_READ <= plan.size
        for j, other_low, other_high in places[:index]:
            if lives[i][0] <= lives[j][1] and lives[j][0] <= lives[i][1] and low < high and other_low < other_high:
                assert high <= other_low or other_high <= low, f"buffers {i} and {j} overlap"


@st.composite
def kernel_programs(draw: st.DrawFn) -> KernelProgram:
    """Copies between buffers of random sizes, some of them never touched, some kept to the end."""
    program = KernelProgram(ISA)
    sizes = draw(st.lists(st.integers(0, 500) | st.sampled_from([64, 128, 4096]), min_size=1, max_size=12))
    program.workspace = [Buffer("int8", size, Home.WORKSPACE, i) for i, size in enumerate(sizes)]
    for _ in range(draw(st.integers(0, 15))):
        a, b = (draw(st.sampled_from(program.workspace)) for _ in range(2))
        program.calls.append(Call(contiguous_copy(1, "int8"), (View(a), View(b)), "copy"))
    program.stored = [View(draw(st.sampled_from(program.workspace))) for _ in range(draw(st.integers(0, 2)))]
    return program


@given(kernel_programs())
def test_buffers_that_live_at_the_same_time_never_overlap(program: KernelProgram) -> None:
    plan = plan_memory(program)
    check_plan(program, plan)
    assert plan.size - OVER_READ >= largest_cut(program)
    assert plan.size - OVER_READ <= sum(aligned(b.bytes) for b in program.workspace)


def test_a_chain_takes_its_largest_pair() -> None:
    program = KernelProgram(ISA)
    program.workspace = [Buffer("int8", size, Home.WORKSPACE, i) for i, size in enumerate([640, 64, 1280, 128, 320])]
    program.calls = [
        Call(contiguous_copy(1, "int8"), (View(a), View(b)), "copy")
        for a, b in zip(program.workspace, program.workspace[1:], strict=False)
    ]
    plan = plan_memory(program)
    check_plan(program, plan)
    assert plan.size == 1280 + 128 + OVER_READ


@pytest.fixture(scope="module")
def programs() -> list[Program]:
    """Fresh random networks."""
    seeds = np.random.SeedSequence().generate_state(12)
    print("seeds", *seeds)
    return [random_program(int(seed), ("tpu-int8", "cpu-int8")[i % 2]) for i, seed in enumerate(seeds)]


def test_plans_of_random_networks(programs: list[Program]) -> None:
    total = least = 0
    for program in programs:
        kernels, _ = lower_program(program.graph, ISA)
        plan = plan_memory(kernels)
        check_plan(kernels, plan)
        cut = largest_cut(kernels)
        assert plan.size - OVER_READ <= 1.5 * cut + ALIGNMENT
        total, least = total + plan.size - OVER_READ, least + cut
    assert total <= 1.1 * least


def test_a_plan_that_overlaps_gives_other_results(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What the comparisons of whole programs would say of a wrong plan."""
    seed = next(s for s in range(100) if _workspace(s) > 4)
    program = random_program(seed, "tpu-int8")
    model = random_network(seed)
    right = memory_plan._lifetimes

    def shorter(kernels: KernelProgram) -> Any:
        first, last = right(kernels)
        return first, np.minimum(last, first)

    feeds = random_inputs(model, 1, seed)
    assert_native_equals_reference(program.graph, lambda _: feeds, [ISA], tmp_path, samples=(1,))
    monkeypatch.setattr(memory_plan, "_lifetimes", shorter)
    with pytest.raises(AssertionError):
        assert_native_equals_reference(program.graph, lambda _: feeds, [ISA], tmp_path, samples=(1,))


def _workspace(seed: int) -> int:
    return len(lower_program(random_program(seed, "tpu-int8").graph, ISA)[0].workspace)
