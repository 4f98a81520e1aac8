"""Code for machines other than this one: which there are, and what is made for them."""

from __future__ import annotations

import pickle
import re
import shutil
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from digits_program import digits, run_example

from qcompiler.backends.tvm.ahead_of_time import write_objects, write_static_library
from qcompiler.backends.tvm.element import Stage, Step
from qcompiler.backends.tvm.graph_lowering import lower_program
from qcompiler.backends.tvm.host import host_architecture
from qcompiler.backends.tvm.instruction_set import INSTRUCTION_SETS, InstructionSet
from qcompiler.backends.tvm.kernels.elementwise import elementwise
from qcompiler.backends.tvm.object_code import assembly, symbol_of
from qcompiler.backends.tvm.program_source import write_program
from qcompiler.backends.tvm.selection import (
    architecture_of,
    check_runs_here,
    machine_of,
    runnable_instruction_sets,
    select_instruction_set,
)
from qcompiler.backends.tvm.stages.rounding import float_half_even
from qcompiler.backends.tvm.toolchain import find_toolchain
from qcompiler.errors import QCompilerError
from qcompiler.native_code import build_native_code


def elf_machine(code: bytes) -> tuple[int, int]:
    """Width of addresses and number of the processor, from the header of an object file."""
    assert code.startswith(b"\x7fELF")
    return {1: 32, 2: 64}[code[4]], struct.unpack_from("<H", code, 18)[0]


@pytest.mark.parametrize(
    ("triple", "options", "machine"),
    [
        ("aarch64-linux-gnu", {"cpu": "aarch64-dotprod"}, (64, 183)),
        ("arm64-unknown-linux-gnu", {}, (64, 183)),
        ("riscv64-linux-gnu", {}, (64, 243)),
        ("thumbv8.1m.main-none-eabihf", {"processor": "cortex-m55"}, (32, 40)),
    ],
)
def test_objects_for_other_machines(
    tmp_path: Path, triple: str, options: dict[str, str], machine: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No C compiler is needed."""
    monkeypatch.setenv("PATH", "")
    isa = select_instruction_set(triple=triple, **options)
    write_objects(digits().graph, tmp_path, isa, "digits", threads=False)
    objects = list(tmp_path.glob("kernels/*.o"))
    assert len(objects) >= 5
    assert {elf_machine(path.read_bytes()) for path in objects} == {machine}


def test_the_dot_product_instruction_is_used() -> None:
    isa = select_instruction_set("aarch64-dotprod")
    program, interface = lower_program(digits().graph, isa)
    kernels = write_program(program, interface).kernels.values()
    found = {type(kernel).__name__: assembly(kernel, isa).count("\tsdot\t") for kernel in kernels}
    assert min(found["Convolution"], found["Depthwise"]) > 8, found


def test_rounding_to_64_bits_where_a_long_has_32() -> None:
    """C's lrint gives a long: on such a machine its result lacks the upper half."""

    @dataclass(frozen=True)
    class Rounded(Stage):
        def expression(self, operands: Sequence[Any]) -> Any:
            return float_half_even(operands[0], "int64")

    isa = select_instruction_set(triple="armv7a-linux-gnueabihf", processor="cortex-a9")
    kernel = elementwise((3,), [("float32", (3,), False)], [Step(Rounded(), (0,))], "int64")
    assert set(re.findall(r"\w*lrint\w*", assembly(kernel, isa))) == {"llrintf"}


@pytest.mark.skipif(
    not shutil.which("aarch64-linux-gnu-gcc") or not shutil.which("qemu-aarch64"),
    reason="no compiler and emulator of aarch64 are installed",
)
@pytest.mark.parametrize("cpu", ["aarch64-dotprod", "generic"])
@pytest.mark.parametrize("target", ["cpu-int8", "tpu-int8"])
def test_an_emulated_processor_computes_the_same_bits(tmp_path: Path, cpu: str, target: str) -> None:
    isa = select_instruction_set(cpu, "aarch64-linux-gnu")
    write_static_library(digits(target).graph, tmp_path, isa, "digits")
    toolchain = find_toolchain("aarch64-linux-gnu")
    sources = [tmp_path / "example_digits.c", tmp_path / "libdigits.a"]
    toolchain.link_program(sources, tmp_path / "example", ["-static", "-Wno-psabi"])
    run_example([shutil.which("qemu-aarch64"), tmp_path / "example"], tmp_path, target)


def test_retargeting_leaves_the_instruction_set_as_it_was() -> None:
    isa = INSTRUCTION_SETS.require("generic")
    before = dict(isa.llvm_target)
    other = select_instruction_set(triple="aarch64-linux-gnu")
    assert (isa.llvm_target, machine_of(isa)) == (before, None)
    assert machine_of(other) == "aarch64-linux-gnu"
    assert pickle.loads(pickle.dumps(other)).llvm_target == other.llvm_target
    program, interface = lower_program(digits().graph, isa)
    kernel = next(iter(write_program(program, interface).kernels.values()))
    assert symbol_of(kernel, isa) != symbol_of(kernel, other)
    assert machine_of(INSTRUCTION_SETS.require("aarch64-dotprod")) == (
        None if host_architecture() == "aarch64" else "aarch64-linux-gnu"
    )


@pytest.mark.parametrize(
    ("cpu", "triple", "processor", "message"),
    [
        (None, "armada-linux-gnu", None, "cannot be made for 'armada-linux-gnu'"),
        (None, "", None, "cannot be made for ''"),
        (None, "aarch64_be-linux-gnu", None, "cannot be made for"),
        (None, "avr-none", None, "cannot be made for 'avr-none'"),
        (None, "aarch65-linux-gnu", None, "did you mean 'aarch64'"),
        ("avx512-vnni", "aarch64-linux-gnu", None, "'avx512-vnni' is none of 'aarch64-linux-gnu'"),
        ("aarch64-dotprod", "x86_64-linux-gnu", None, r"(?s)none of .*aarch64.*x86_64"),
        ("aarch64-dotprod", "aarch64-linux-gnu", "cortex-a76", "leave out --processor"),
        (None, "thumbv8.1m.main-none-eabi", "cortex-m56", "did you mean 'cortex-m"),
        (None, None, "cortex-m55", "--triple"),
        ("avx513", "x86_64-linux-gnu", None, "unknown instruction set 'avx513'"),
    ],
)
def test_machines_that_do_not_fit(cpu: str | None, triple: str | None, processor: str | None, message: str) -> None:
    with pytest.raises(QCompilerError, match=message):
        select_instruction_set(cpu, triple, processor)


@pytest.mark.parametrize(
    ("triple", "architecture"),
    [
        ("aarch64-linux-gnu", "aarch64"), ("arm64-apple-macos", "aarch64"), ("amd64-pc-windows", "x86_64"),
        ("i686-linux-gnu", "i386"), ("armv7a-linux-gnueabihf", "arm"), ("thumbv7em-none-eabi", "thumb"),
        ("riscv32-unknown-elf", "riscv32"), ("x86_64", "x86_64"),
    ],
)
def test_triples(triple: str, architecture: str) -> None:
    assert architecture_of(triple) == architecture


def test_what_no_processor_has_run_is_not_run_here() -> None:
    class Untried(InstructionSet):
        name = "untried"
        preference = 1000
        executed = False

    class Lacking(InstructionSet):
        name = "lacking"
        features = ("tentacles", "wings")

    with INSTRUCTION_SETS.temporary():
        INSTRUCTION_SETS.add("untried", Untried())
        assert "untried" not in [isa.name for isa in runnable_instruction_sets()]
        with pytest.raises(QCompilerError, match="untried has never been run on a processor"):
            build_native_code(digits().graph, "untried")
    with pytest.raises(QCompilerError, match=r"cannot run code for lacking\s+found: no tentacles, no wings"):
        check_runs_here(Lacking())
    for isa in runnable_instruction_sets():
        check_runs_here(isa)


@pytest.mark.skipif(host_architecture() == "aarch64", reason="this machine is no other one")
def test_code_for_another_architecture_is_not_built_to_run_here() -> None:
    with pytest.raises(QCompilerError, match=r"cannot run code for aarch64-dotprod(?s:.*)--triple"):
        build_native_code(digits().graph, "aarch64-dotprod")
