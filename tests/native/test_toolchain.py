"""The C compiler: found, hidden, failing, and building for other machines; static libraries and embedded constants."""

from __future__ import annotations

import importlib.util
import os
import platform
import subprocess
from collections.abc import Callable
from pathlib import Path

import handwritten_program as tiny
import numpy as np
import pytest

from qcompiler.backends.tvm import toolchain as toolchain_module
from qcompiler.backends.tvm.library_build import (
    RUNTIME,
    build_shared_library,
    build_static_library,
    constants_source,
)
from qcompiler.backends.tvm.native_library import NativeLibrary
from qcompiler.backends.tvm.public_header import example_program, public_header
from qcompiler.backends.tvm.toolchain import CompilerFailed, NoCompiler, Toolchain, find_toolchain, zig_target

HAS_ZIG = importlib.util.find_spec("ziglang") is not None
needs_zig = pytest.mark.skipif(not HAS_ZIG, reason="the ziglang wheel is not installed")


def zig(triple: str | None = None) -> Toolchain:
    """The wheel's compiler, as where no other is installed."""
    return find_toolchain(triple, {**os.environ, "PATH": "", "CC": ""})


TOOLCHAINS = [pytest.param(find_toolchain, id="system"), pytest.param(zig, id="zig", marks=needs_zig)]


def test_no_compiler_is_an_error_that_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolchain_module, "_has_ziglang", lambda: False)
    with pytest.raises(NoCompiler, match=r"(?s)no C compiler was found.*apt install gcc.*pip install ziglang"):
        find_toolchain(environment={"PATH": ""})
    with pytest.raises(NoCompiler, match=r"(?s)riscv64-linux-gnu.*pip install ziglang"):
        find_toolchain("riscv64-linux-gnu", {"PATH": ""})
    with pytest.raises(NoCompiler, match="CC names 'no-such-compiler'"):
        find_toolchain(environment={"PATH": os.environ["PATH"], "CC": "no-such-compiler -O1"})


def test_the_wheel_steps_in_where_no_compiler_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolchain_module, "_has_ziglang", lambda: True)
    found = find_toolchain(environment={"PATH": ""})
    assert found.compiler[1:] == ("-m", "ziglang", "cc")
    assert found.flags[0] == "-target"
    other = find_toolchain("riscv64-unknown-linux-gnu", {"PATH": ""})
    assert other.flags[:2] == ("-target", "riscv64-linux-gnu")


def test_the_system_compiler_comes_first_and_cc_before_it(tmp_path: Path) -> None:
    for name in ("gcc", "clang", "ar", "arm-none-eabi-gcc", "arm-none-eabi-ar"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    path = {"PATH": str(tmp_path)}
    assert find_toolchain(environment=path).compiler == (str(tmp_path / "gcc"),)
    named = find_toolchain("arm-none-eabi", {**path, "CC": "arm-none-eabi-gcc -mcpu=cortex-m4"})
    assert named.compiler == (str(tmp_path / "arm-none-eabi-gcc"), "-mcpu=cortex-m4")
    assert named.archiver == (str(tmp_path / "arm-none-eabi-ar"),)
    assert named.flags == ()
    clang = find_toolchain("riscv64-linux-gnu", {**path, "CC": "clang"})
    assert clang.flags == ("--target=riscv64-linux-gnu",)
    (tmp_path / "cc").write_text("#!/bin/sh\n")
    (tmp_path / "cc").chmod(0o755)
    assert find_toolchain(environment=path).compiler == (str(tmp_path / "cc"),)


@pytest.mark.parametrize(
    ("triple", "target"),
    [
        ("aarch64-linux-gnu", "aarch64-linux-gnu"), ("aarch64-unknown-linux-gnu", "aarch64-linux-gnu"),
        ("x86_64-pc-linux-musl", "x86_64-linux-musl"), ("arm64-apple-darwin22.1.0", "aarch64-macos"),
        ("x86_64-apple-macosx13.0", "x86_64-macos"), ("thumbv7em-none-eabi", "thumbv7em-freestanding-eabi"),
    ],
)
def test_names_of_machines(triple: str, target: str) -> None:
    assert zig_target(triple) == target


def test_this_machine_by_name_needs_no_cross_compiler() -> None:
    library = "gnu" if platform.libc_ver()[0] == "glibc" else "musl"
    assert find_toolchain(f"{platform.machine()}-unknown-linux-{library}").triple is None


def test_errors_of_the_compiler_are_shown(tmp_path: Path) -> None:
    source = tmp_path / "wrong.c"
    source.write_text("int broken = ;")
    found = find_toolchain()
    with pytest.raises(CompilerFailed, match=r"(?s)failed.*-c .*wrong\.c.*wrong\.c:1"):
        found.compile(source, tmp_path / "wrong.o")
    assert not list(tmp_path.glob("wrong.o*"))
    source.write_text("int missing(void); int f(void) { return missing(); }")
    found.compile(source, tmp_path / "f.o")
    with pytest.raises(CompilerFailed, match="missing"):
        found.link_shared([tmp_path / "f.o"], tmp_path / "f.so")
    with pytest.raises(CompilerFailed, match="absent"):
        found.archive([tmp_path / "absent.o"], tmp_path / "lib.a")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["f.o", "wrong.c"]


def test_a_compiler_that_cannot_start_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NoCompiler, match="cannot start"):
        Toolchain((str(tmp_path / "gone"),), ("ar",)).compile(tmp_path / "x.c", tmp_path / "x.o")


@pytest.mark.parametrize("find", TOOLCHAINS)
def test_shared_libraries_run_and_show_only_their_interface(tmp_path: Path, find: Callable[[], Toolchain]) -> None:
    toolchain = find()
    build_shared_library(tiny.parts(toolchain), tmp_path / "lib.so", toolchain)
    feeds = tiny.feeds(3)
    library = NativeLibrary(tmp_path / "lib.so")
    np.testing.assert_array_equal(library.run(feeds, threads=2)["y"], tiny.expected(feeds)[0])
    command = ["nm", "-D", "--defined-only", str(tmp_path / "lib.so")]
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert {line.split()[-1].split("@")[0] for line in listing.splitlines()} == {
        "__tvm_ffi_run", "__tvm_ffi_set_threads", "__TVMFFIErrorSetRaisedFromCStr", "qcompiler_library_program",
        "qcompiler_library_version", "qcompiler_pool_create", "qcompiler_pool_destroy", "qcompiler_pool_threads",
        "qcompiler_parallel", "qcompiler_missing_instructions", "qcompiler_clock",
    }


@pytest.mark.parametrize("find", TOOLCHAINS)
def test_equal_parts_give_equal_libraries(tmp_path: Path, find: Callable[[], Toolchain]) -> None:
    toolchain = find()
    parts = tiny.parts(toolchain)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        build_shared_library(parts, tmp_path / name / "lib.so", toolchain)
        build_static_library(parts, tmp_path / name, "", toolchain)
    for name in ("lib.so", "libtiny.a"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def header(name: str = "tiny") -> str:
    interface = type(tiny.INTERFACE)(name, tiny.INTERFACE.inputs, tiny.INTERFACE.outputs, tiny.INTERFACE.stored)
    return public_header(interface, {"x:0": "scale 0.5, zero point -3 */ int x;"}, ["sse2"])


@pytest.mark.parametrize("find", TOOLCHAINS)
@pytest.mark.parametrize("threads", [True, False], ids=["threads", "alone"])
def test_the_example_runs_a_static_library(tmp_path: Path, find: Callable[[], Toolchain], threads: bool) -> None:
    toolchain = find()
    build_static_library(tiny.parts(toolchain), tmp_path, header(), toolchain, threads=threads)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["libtiny.a", "qcompiler_runtime.h", "tiny.h"]
    example = tmp_path / "example.c"
    example.write_text(example_program(tiny.INTERFACE))
    toolchain.link_program([example, tmp_path / "libtiny.a"], tmp_path / "example", ["-Werror", "-Wextra"])
    feeds = tiny.feeds(1)
    feeds["x:0"].tofile(tmp_path / "x.bin")
    feeds["offset"].tofile(tmp_path / "offset.bin")
    files = [tmp_path / name for name in ("x.bin", "offset.bin", "y.bin")]
    subprocess.run([tmp_path / "example", *files], check=True)
    np.testing.assert_array_equal(
        np.fromfile(files[2], np.float32).reshape(tiny.ROWS, tiny.COLUMNS), tiny.expected(feeds)[0]
    )
    usage = subprocess.run([tmp_path / "example"], capture_output=True, text=True, check=False)
    assert usage.returncode == 2
    assert "INPUT_X_0 INPUT_OFFSET OUTPUT_Y" in usage.stderr
    short = subprocess.run([tmp_path / "example", files[1], *files[1:]], capture_output=True, text=True, check=False)
    assert short.returncode == 0, "a longer file is read as far as it is needed"
    absent = subprocess.run([tmp_path / "example", "no", *files[1:]], capture_output=True, text=True, check=False)
    assert (absent.returncode, absent.stderr) == (1, "no: cannot read 120 bytes\n")


def test_two_static_libraries_in_one_program(tmp_path: Path) -> None:
    """They share a kernel and the runtime, but not their constants."""
    toolchain = find_toolchain()
    for seed, name in enumerate(("first", "second")):
        parts = tiny.parts(toolchain, name=name, seed=seed, constants_symbol=f"{name}_constants")
        build_static_library(parts, tmp_path, header(name), toolchain)
    main = tmp_path / "main.c"
    main.write_text("""
        #include <stdio.h>
        #include "first.h"
        #include "second.h"
        static _Alignas(64) char workspace[1 << 16];
        int main(void) {
            int8_t x[120];
            int32_t offset[40] = {0};
            float y[240];
            for (int i = 0; i < 120; i++) x[i] = (int8_t)i;
            if (first_workspace_bytes(0) > (int64_t)sizeof workspace) return 1;
            if (first_run(x, offset, y, 1, workspace, 0) || second_run(x, offset, y + 120, 1, workspace, 0)) return 1;
            for (int i = 0; i < 240; i++) printf("%.1f\\n", y[i]);
        }""")
    archives = [tmp_path / "libfirst.a", tmp_path / "libsecond.a"]
    toolchain.link_program([main, *archives], tmp_path / "main")
    printed = subprocess.run([tmp_path / "main"], capture_output=True, text=True, check=True).stdout
    x = np.arange(120, dtype=np.int8).reshape(3, 40)
    feeds: dict[str, tiny.Array] = {"x:0": x, "offset": np.zeros(40, np.int32)}
    wanted = [tiny.expected(feeds, seed)[0].ravel() for seed in (0, 1)]
    assert [float(line) for line in printed.splitlines()] == np.concatenate(wanted).tolist()


@pytest.mark.parametrize("language", ["c", "c++"])
def test_the_header_is_plain_c_and_cxx(tmp_path: Path, language: str) -> None:
    compiler = [*find_toolchain().compiler, "-x", language, "-fsyntax-only"]
    if language == "c++" and subprocess.run([*compiler, "/dev/null"], capture_output=True, check=False).returncode:
        pytest.skip("no C++ compiler is installed")
    (tmp_path / "tiny.h").write_text(header())
    source = tmp_path / "twice"
    source.write_text('#include "tiny.h"\n#include "tiny.h"\n')
    standard = {"c": "c11", "c++": "c++11"}[language]
    flags = [f"-std={standard}", "-Wall", "-Wextra", "-pedantic", "-Werror", "-Wno-unused-function"]
    subprocess.run([*compiler, *flags, f"-I{RUNTIME}", str(source)], check=True)


def test_the_header_describes_inputs_and_outputs() -> None:
    text = header()
    assert " *   input_x_0: 'x:0', int8 (N * 3, 40); scale 0.5, zero point -3 * / int x;\n" in text
    assert " *   input_offset: 'offset', int32 (40)\n" in text
    assert "#define TINY_INPUT_X_0_BYTES 120 " in text
    assert "const int8_t *input_x_0, const int32_t *input_offset, float *output_y, int64_t samples" in text


def test_constants_are_read_only_aligned_and_hidden(tmp_path: Path) -> None:
    data = np.random.default_rng(3).integers(0, 256, 1001, np.uint8).tobytes()
    odd = tmp_path / 'a "quoted" folder'
    odd.mkdir()
    (odd / "constants.bin").write_bytes(data)
    (tmp_path / "c.S").write_text(constants_source("numbers", odd / "constants.bin", mach_o=False))
    toolchain = find_toolchain()
    toolchain.compile(tmp_path / "c.S", tmp_path / "c.o")
    described = subprocess.run(["readelf", "-SsW", tmp_path / "c.o"], capture_output=True, text=True, check=True).stdout
    section = next(line.split("]")[1].split() for line in described.splitlines() if ".rodata.numbers" in line)
    assert section[6:] == ["A", "0", "0", "64"], "allocated, not writable, 64 bytes aligned"
    symbol = next(line.split() for line in described.splitlines() if line.endswith(" numbers"))
    assert symbol[2:6] == ["1001", "OBJECT", "GLOBAL", "HIDDEN"]
    assert data in (tmp_path / "c.o").read_bytes()


@needs_zig
@pytest.mark.parametrize(
    ("triple", "machine"),
    [("aarch64-linux-gnu", b"\x7fELF"), ("arm64-apple-macos", b"\xcf\xfa\xed\xfe")],
)
def test_builds_for_other_machines(tmp_path: Path, triple: str, machine: bytes) -> None:
    """Built, and never run."""
    toolchain = find_toolchain(triple)
    parts = tiny.parts(toolchain)
    build_shared_library(parts, tmp_path / "lib.so", toolchain)
    assert (tmp_path / "lib.so").read_bytes().startswith(machine)
    build_static_library(parts, tmp_path, header(), toolchain)
    assert (tmp_path / "libtiny.a").read_bytes().startswith(b"!<arch>\n")
    (tmp_path / "example.c").write_text(example_program(tiny.INTERFACE))
    toolchain.link_program([tmp_path / "example.c", tmp_path / "libtiny.a"], tmp_path / "example")
    assert (tmp_path / "example").read_bytes().startswith(machine)
