"""Programs without Python: static libraries and objects."""

from __future__ import annotations

import dataclasses
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from digits_program import digits, images, run_example
from models import model, samples

import qcompiler
from qcompiler.backends.tvm.ahead_of_time import write_objects, write_static_library
from qcompiler.backends.tvm.library_build import RUNTIME
from qcompiler.backends.tvm.program_source import Interface, TensorDescription
from qcompiler.backends.tvm.public_header import example_program, public_header
from qcompiler.backends.tvm.selection import (
    runnable_instruction_sets,
)
from qcompiler.backends.tvm.toolchain import find_toolchain
from qcompiler.errors import QCompilerError
from qcompiler.target import load_target

FLAGS = ["-O1", "-Wall", "-Wextra", "-Werror"]


@pytest.mark.parametrize("target", ["cpu-int8", "tpu-int8"])
@pytest.mark.parametrize("threads", [True, False], ids=["threads", "alone"])
def test_a_static_library_runs_without_python(tmp_path: Path, target: str, threads: bool) -> None:
    isa = runnable_instruction_sets()[0]
    written = write_static_library(digits(target).graph, tmp_path / "c", isa, "digits", threads=threads)
    names = ["digits.h", "example_digits.c", "libdigits.a", "qcompiler_runtime.h"]
    assert [path.name for path in written] == sorted(p.name for p in (tmp_path / "c").iterdir()) == names
    # An archive holds the names of what its objects need.
    assert (b"pthread_create" in (tmp_path / "c" / "libdigits.a").read_bytes()) == threads
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
    command: list[Any] = [compiler, "-std=c++11", *FLAGS, "-pedantic", "-Wno-unused-function", *sources, "-pthread"]
    subprocess.run([*command, "-lm", "-o", tmp_path / "main"], check=True)
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
        toolchain = find_toolchain()
        local = command.replace("cc ", f"{shlex.join(toolchain.compiler)} ", 1)
        local = local.replace("ar ", f"{shlex.join(toolchain.archiver)} ", 1) if local == command else local
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


def test_names_that_c_cannot_tell_apart(tmp_path: Path) -> None:
    """Parameters and macros of the header are named after inputs and outputs."""
    names = ("a", "A", "a:0", "a.0", "a_1", "int", "\u00fc", "*/")
    inputs = tuple(TensorDescription(name, "int8", (1, i + 1), True) for i, name in enumerate(names))
    outputs = (TensorDescription("a", "float32", (1, 1), True), TensorDescription("A", "float32", (1, 2), True))
    interface = Interface("odd", inputs, outputs, outputs)
    (tmp_path / "odd.h").write_text(public_header(interface, {}), encoding="utf-8")
    (tmp_path / "example.c").write_text(example_program(interface), encoding="utf-8")
    toolchain = find_toolchain()
    toolchain.compile(tmp_path / "example.c", tmp_path / "example.o", [RUNTIME], flags=["-Wall", "-Wextra", "-Werror"])
    sizes = re.findall(r"_BYTES (\d+)", (tmp_path / "odd.h").read_text(encoding="utf-8"))
    assert list(map(int, sizes)) == [*range(1, 9), 4, 8]
