"""Programs without Python: static libraries and objects, for this machine and for others."""

from __future__ import annotations

import dataclasses
import importlib
import pickle
import shutil
import struct
import subprocess
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from models import model, samples

import qcompiler
from qcompiler.backends.tvm import code_sources
from qcompiler.backends.tvm.ahead_of_time import write_objects, write_static_library
from qcompiler.backends.tvm.element import Step
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
from qcompiler.backends.tvm.toolchain import find_toolchain
from qcompiler.errors import QCompilerError
from qcompiler.native_code import build_native_code
from qcompiler.program import Program
from qcompiler.target import load_target

FLAGS = ["-O1", "-Wall", "-Wextra", "-Werror"]


@cache
def digits(target: str = "cpu-int8", brightest: float = 1) -> Program:
    """The bundled classifier of handwritten digits, calibrated for images up to a brightness."""
    demo = resources.files("qcompiler.demo")
    with np.load(str(demo / "mnist.npz")) as archive:
        calibration = archive["calibration"][:32].astype(np.float32) / 255 * np.float32(brightest)
    return qcompiler.compile(str(demo / "mnist_dscnn.onnx"), target=target, data={"x": calibration}, native=False)


def images(count: int) -> Any:
    """Numbers that saturate at both ends, too."""
    return np.random.default_rng().uniform(-0.2, 1.2, (count, 1, 28, 28)).astype(np.float32)


def run_example(command: list[Any], folder: Path, target: str = "cpu-int8") -> None:
    """The example program computes what the reference does, in an environment without variables."""
    for image in images(3):
        image.tofile(folder / "x.bin")
        subprocess.run([*command, folder / "x.bin", folder / "y.bin"], check=True, env={})
        expected = digits(target).run({"x": image[None]}, backend="reference")["y"]
        assert (folder / "y.bin").read_bytes() == expected.tobytes()


@pytest.mark.parametrize("target", ["cpu-int8", "tpu-int8"])
@pytest.mark.parametrize("threads", [True, False], ids=["threads", "alone"])
def test_a_static_library_runs_without_python(tmp_path: Path, target: str, threads: bool) -> None:
    isa = runnable_instruction_sets()[0]
    written = write_static_library(digits(target).graph, tmp_path / "c", isa, "digits", threads=threads)
    names = ["digits.h", "example_digits.c", "libdigits.a", "qcompiler_runtime.h"]
    assert [path.name for path in written] == sorted(p.name for p in (tmp_path / "c").iterdir()) == names
    listing = subprocess.run(["nm", "-u", tmp_path / "c" / "libdigits.a"], capture_output=True, text=True, check=True)
    assert ("pthread_create" in listing.stdout) == threads
    compiler = find_toolchain().compiler
    sources = [tmp_path / "c" / "example_digits.c", tmp_path / "c" / "libdigits.a"]
    subprocess.run([*compiler, *FLAGS, *sources, "-pthread", "-lm", "-o", tmp_path / "example"], check=True)
    run_example([tmp_path / "example"], tmp_path, target)


def test_two_programs_in_one_executable(tmp_path: Path) -> None:
    """One after the other, and at the same time in workspaces of their own."""
    isa = runnable_instruction_sets()[0]
    programs = {"first": digits("cpu-int8"), "second": digits("tpu-int8", 0.5)}
    for name, program in programs.items():
        write_static_library(program.graph, tmp_path, isa, name)
    (tmp_path / "main.c").write_text("""
        #include <stdio.h>
        #include "first.h"
        #include "second.h"
        static _Alignas(64) char room[2][1 << 20];
        static float x[784], y[4][10];
        int main(void) {
            if (fread(x, 4, 784, stdin) != 784) return 2;
            qcompiler_pool *pool = qcompiler_pool_create(2);
            if (first_workspace_bytes(pool) > 1 << 20 || second_workspace_bytes(pool) > 1 << 20) return 3;
            if (first_run(x, y[0], 1, room[0], pool) || second_run(x, y[1], 1, room[1], pool)) return 1;
            if (second_run(x, y[2], 1, room[0], NULL) || first_run(x, y[3], 1, room[0], NULL)) return 1;
            qcompiler_pool_destroy(pool);
            return fwrite(y, 4, 40, stdout) == 40 ? 0 : 4;
        }""")
    sources = [tmp_path / name for name in ("main.c", "libfirst.a", "libsecond.a")]
    find_toolchain().link_program(sources, tmp_path / "main", FLAGS)
    image = images(1)
    printed = subprocess.run([tmp_path / "main"], input=image.tobytes(), capture_output=True, check=True, env={}).stdout
    first, second = (program.run({"x": image}, backend="reference")["y"] for program in programs.values())
    assert printed == b"".join(y.tobytes() for y in (first, second, second, first))
    assert not np.array_equal(first, second)


def test_the_header_serves_cxx(tmp_path: Path) -> None:
    compiler = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("no C++ compiler is installed")
    write_static_library(digits().graph, tmp_path, runnable_instruction_sets()[0], "digits")
    (tmp_path / "main.cpp").write_text("""
        #include <vector>
        #include "digits.h"
        #include "digits.h"
        int main() {
            std::vector<float> x(784), y(10);
            std::vector<char> memory(digits_workspace_bytes(nullptr) + QCOMPILER_ALIGNMENT);
            auto place = reinterpret_cast<uintptr_t>(memory.data()) + QCOMPILER_ALIGNMENT;
            void *workspace = reinterpret_cast<void *>(place - place % QCOMPILER_ALIGNMENT);
            if (digits_missing_instructions() != nullptr) return 2;
            return digits_run(x.data(), y.data(), 1, workspace, nullptr);
        }""")
    sources = [tmp_path / "main.cpp", tmp_path / "libdigits.a"]
    command = [compiler, "-std=c++11", *FLAGS, "-pedantic", "-Wno-unused-function", *sources, "-pthread", "-lm"]
    subprocess.run([*command, "-o", tmp_path / "main"], check=True)
    subprocess.run([tmp_path / "main"], check=True, env={})


@pytest.mark.parametrize("threads", [True, False], ids=["threads", "alone"])
def test_objects_become_a_library_elsewhere(tmp_path: Path, threads: bool) -> None:
    """By the commands that stand in the files themselves, in a folder that was moved."""
    isa = runnable_instruction_sets()[0]
    (tmp_path / "first" / "kernels").mkdir(parents=True)
    (tmp_path / "first" / "kernels" / "qcompiler_left_over.o").write_bytes(b"of an earlier build")
    (tmp_path / "first" / "notes.txt").write_text("mine")
    written = write_objects(digits().graph, tmp_path / "first", isa, "digits", threads=threads)
    present = {p for p in (tmp_path / "first").rglob("*") if p.is_file()}
    assert present == {*written, tmp_path / "first" / "notes.txt"}
    folder = (tmp_path / "first").rename(tmp_path / "moved here")
    lists = (folder / "CMakeLists.txt").read_text()
    assert all(f"kernels/{path.name}" in lists for path in folder.glob("kernels/*.o"))
    commands = [line[4:] for line in lists.splitlines() if line.startswith("#   ")]
    assert len(commands) == 2
    for command in commands:
        local = command.replace("cc ", f"{find_toolchain().compiler[0]} ", 1)
        subprocess.run(["bash", "-c", local], cwd=folder, check=True)
    linked = ["example_digits.c", "libdigits.a", "-pthread", "-lm", "-o", "../example"]
    subprocess.run([*find_toolchain().compiler, *linked], cwd=folder, check=True)
    run_example([tmp_path / "example"], tmp_path)


def test_a_failed_build_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    isa = runnable_instruction_sets()[0]
    with pytest.raises(QCompilerError, match="cannot write to"):
        write_objects(digits().graph, tmp_path / "file", isa, "digits")
    (tmp_path / "taken" / "program.c").mkdir(parents=True)
    with pytest.raises(QCompilerError, match="cannot write to"):
        write_objects(digits().graph, tmp_path / "taken", isa, "digits")
    assert not list((tmp_path / "taken").glob(".qcompiler-*"))


def test_layers_of_the_host_are_refused_by_name(tmp_path: Path) -> None:
    full = load_target("cpu-int8")
    rows = {k: v for k, v in full.descriptor.ops.items() if k != "max_pool2d"}
    poorer = dataclasses.replace(full, descriptor=full.descriptor.model_copy(update={"ops": rows}))
    data = samples("pooling_net", 16)
    program = qcompiler.compile(model("pooling_net"), target=poorer, data=data, native=False)
    hosted = [node["layer"] for node in program.figures["host"]]
    assert hosted
    for write in (write_static_library, write_objects):
        with pytest.raises(QCompilerError, match=rf"(?s)host.*found: {hosted[0]} \(max_pool2d\).*shared library"):
            write(program.graph, tmp_path / "c", runnable_instruction_sets()[0], "pooling")
    assert not (tmp_path / "c").exists()


# Other machines


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


# The cache


def test_kernels_are_compiled_anew_when_a_plugin_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel's symbol stands for the sources of the stages that it holds, and of what these import beside them."""
    monkeypatch.syspath_prepend(tmp_path)
    isa = INSTRUCTION_SETS.require("generic")
    package = tmp_path / "plugin_of_a_test"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "numbers.py").write_text("ADDED = 1")
    (package / "stage.py").write_text(
        "from dataclasses import dataclass\n"
        "from qcompiler.backends.tvm.element import Stage\n"
        "from .numbers import ADDED\n"
        "@dataclass(frozen=True)\n"
        "class Adding(Stage):\n"
        "    def expression(self, operands):\n"
        "        return operands[0] + ADDED\n"
    )

    def symbol() -> str:
        code_sources._digest.cache_clear()
        stage = importlib.import_module("plugin_of_a_test.stage").Adding()
        return symbol_of(elementwise((8,), [("int32", (8,), False)], [Step(stage, (0,))], "int32"), isa)

    before = symbol()
    assert symbol() == before
    (package / "numbers.py").write_text("ADDED = 2")
    assert symbol() != before
