"""Programs touch nothing beyond the caller's arrays: pages next to them are out of bounds."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import contraction_cases
import elementwise_cases
import guarded_run
import movement_cases
import numpy as np
import pytest
import reduction_cases
from kernel_harness import isa_fixture
from native_comparison import assert_same_bits, describe, run_reference, write_library
from written_program import N, Written

from qcompiler.backends.tvm.graph_lowering import lower_program
from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.kernel_cache import KernelCache
from qcompiler.backends.tvm.kernel_program import Home, KernelProgram, shared_arguments
from qcompiler.backends.tvm.selection import runnable_instruction_sets
from qcompiler.ir import Value, verify
from qcompiler.ops.pooling import MaxPool2D
from qcompiler.ops.quantization import Clamp, Dequantize
from qcompiler.ops.shape import Transpose

ISAS = runnable_instruction_sets()

isa = isa_fixture()


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> KernelCache:
    """Compiled kernels of all tests here."""
    return KernelCache(tmp_path_factory.mktemp("kernels"))


def check(g: Written, isa: InstructionSet, folder: Path, kernels: KernelCache) -> None:
    """Run a written program on guarded arrays; results equal the reference.

    Raises:
        AssertionError: the process was ended by an access out of bounds, or some bit differs.
    """
    verify(g.w.graph)
    library = write_library(g.w.graph, isa, folder, kernels)
    feeds = g.w.feeds(2)
    named = {f"input_{i}": feeds[v.name] for i, v in enumerate(g.w.graph.inputs)}
    np.savez(folder / "inputs.npz", samples=np.asarray(2), **named)  # type: ignore[arg-type]
    outputs, stored = run_reference(g.w.graph, feeds)
    expected = [*(outputs[o.name] for o in g.w.graph.outputs), *stored]
    for side in guarded_run.SIDES:
        files = [library, folder / "inputs.npz", folder / "outputs.npz"]
        command = [sys.executable, guarded_run.__file__, side, *map(str, files)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, f"{isa.name}, guarded at the {side}: {done.returncode}\n{done.stderr}"
        with np.load(folder / "outputs.npz") as archive:
            for number, wanted in enumerate(expected):
                what = describe(g.w.graph.outputs[number % len(outputs)].value)
                assert_same_bits(archive[f"arr_{number}"], wanted, f"{isa.name}, {side}: {what}")


def reads_beyond(program: KernelProgram, home: Home) -> bool:
    """Whether some kernel reads behind the end of a buffer of this kind."""
    return any(
        view.buffer.home is home and view.offset + argument.bytes > view.buffer.bytes
        for call in program.calls
        for argument, view in zip(shared_arguments(call.kernel, program.isa), call.views, strict=True)
    )


@pytest.mark.parametrize("side", guarded_run.SIDES)
def test_an_access_out_of_bounds_ends_the_process(side: str) -> None:
    """What the other tests rely on."""
    script = (
        "import ctypes, sys, guarded_run\n"
        f"array = guarded_run.guarded_array((9,), 'int8', {side!r})\n"
        "print(int(array.sum()), flush=True)\n"
        f"ctypes.string_at(array.ctypes.data + {9 if side == 'end' else -1}, 1)\n"
    )
    folder = Path(guarded_run.__file__).parent
    done = subprocess.run([sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, check=False)
    assert done.stdout == "0\n", done.stderr
    assert done.returncode in (-signal.SIGSEGV, -signal.SIGBUS)


def write_convolutions_of_inputs(g: Written) -> list[Value]:
    """Convolutions and others that read quantized inputs in place; the kernels take 4 or more channels at once."""
    odd, image, deep, flat = g.input(3, 5, 9), g.input(6, 5, 3), g.input(2, 3, 5), g.input(23)
    return [
        g.conv(odd, 9), g.conv(image, 7), g.conv(odd, 9, groups=9), g.conv(deep, 5), g.make(Clamp(-3, 9), flat),
        g.make(MaxPool2D((2, 2), layout="NHWC"), odd), g.make(Transpose((0, 3, 1, 2)), image),
        g.make(Dequantize(), flat), flat,
    ]


def write_outputs_that_are_read(g: Written) -> list[Value]:
    """Results that other kernels read, some of them beyond the end where nothing forbids it."""
    y = g.conv(g.input(3, 5, 6), 9)
    z = g.conv(y, 7)
    sliced = g.conv(z, 5, groups=1)
    by_channel = g.conv(y, 9, groups=9)
    real = g.make(Dequantize(), z)
    return [y, z, real, sliced, by_channel, g.add(by_channel, y), g.make(Clamp(-9, 9), sliced)]


STRUCTURES = [write_convolutions_of_inputs, write_outputs_that_are_read]


@pytest.mark.parametrize("write", STRUCTURES, ids=lambda f: f.__name__.removeprefix("write_"))
def test_written_programs(
    write: Callable[[Written], list[Value]], isa: InstructionSet, tmp_path: Path, kernels: KernelCache
) -> None:
    g = Written()
    g.w.graph.set_outputs((f"y{i}", v) for i, v in enumerate(write(g)))
    check(g, isa, tmp_path, kernels)


def test_written_programs_hold_kernels_that_read_beyond() -> None:
    """On the widest instruction set: without them, the test above would show nothing."""
    isa = ISAS[0]
    for write in STRUCTURES:
        g = Written()
        g.w.graph.set_outputs((f"y{i}", v) for i, v in enumerate(write(g)))
        program, _ = lower_program(g.w.graph, isa)
        assert reads_beyond(program, Home.WORKSPACE) == (isa.group > 1), write.__name__
        assert not reads_beyond(program, Home.INPUT)
        assert not reads_beyond(program, Home.OUTPUT)


CASES = {
    "contractions": (contraction_cases.CASES, 4), "elementwise": (elementwise_cases.CASES, 5),
    "reductions": (reduction_cases.CASES, 5), "movement": (movement_cases.CASES, 6),
}


@pytest.mark.parametrize("name", CASES)
def test_random_programs(name: str, tmp_path: Path, kernels: KernelCache) -> None:
    """Ops of every kind straight on the caller's arrays, on an instruction set drawn afresh."""
    cases, count = CASES[name]
    g = Written(N)
    for _ in range(count):
        g.w.add_case(g.w.pick(*cases))
    g.w.finish()
    check(g, g.w.pick(*ISAS), tmp_path, kernels)
