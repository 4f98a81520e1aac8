"""Programs for C: a static library or its parts, for this machine or another one, without Python."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from qcompiler.analysis.boundary import before_dequantize, behind_quantize
from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.kernel_cache import KernelCache
from qcompiler.backends.tvm.library_build import (
    RUNTIME,
    RUNTIME_SOURCES,
    LibraryParts,
    build_static_library,
    constants_source,
)
from qcompiler.backends.tvm.native_build import native_parts
from qcompiler.backends.tvm.program_source import Interface
from qcompiler.backends.tvm.public_header import example_program, public_header
from qcompiler.backends.tvm.selection import machine_of
from qcompiler.backends.tvm.toolchain import Toolchain, find_toolchain, is_mach_o
from qcompiler.errors import QCompilerError
from qcompiler.ir import Affine, Graph, Value
from qcompiler.pipeline import Progress, silent
from qcompiler.target.host import is_host_node


def write_static_library(
    graph: Graph,
    folder: Path,
    isa: InstructionSet,
    name: str,
    *,
    threads: bool = True,
    toolchain: Toolchain | None = None,
    cache: KernelCache | None = None,
    progress: Progress = silent,
) -> list[Path]:
    """Write ``lib{name}.a``, ``{name}.h``, ``qcompiler_runtime.h`` and ``example_{name}.c``.

    Args:
        graph: a legalized program, all of which the target runs.
        folder: where the files go; it is created. Files of these names are replaced.
        isa: what the kernels may use, and for which machine.
        name: what the program is called in C.
        threads: False for machines without POSIX threads; the program then runs on its caller's.
        toolchain: what compiles and archives; the system's by default.
        cache: compiled kernels; the user's by default.
        progress: told how many kernels are compiled.

    Returns:
        The files.

    Raises:
        NoLowering: an op has no native form.
        NoCompiler: no C compiler for the machine is at hand.
        QCompilerError: the host runs some layers; or the folder cannot be written.
    """
    check_needs_no_host(graph)
    compiler = toolchain or find_toolchain(machine_of(isa))
    parts, interface = native_parts(graph, isa, cache, progress, name)

    def write(staging: Path) -> None:
        build_static_library(parts, staging, _header(graph, interface, isa), compiler, threads=threads)
        _write_text(staging / f"example_{name}.c", example_program(interface))

    return _write_files(folder, write)


def write_objects(
    graph: Graph,
    folder: Path,
    isa: InstructionSet,
    name: str,
    *,
    threads: bool = True,
    cache: KernelCache | None = None,
    progress: Progress = silent,
) -> list[Path]:
    """Write what a static library is made of, for a C compiler that runs elsewhere.

    The kernels' object files, sources of the program, its constants and the runtime, headers, an example, and a
    ``CMakeLists.txt`` that makes a library of them. No compiler is needed here.

    Args:
        graph, folder, isa, name, threads, cache, progress: as in :func:`write_static_library`.

    Returns:
        The files.

    Raises:
        NoLowering: an op has no native form.
        QCompilerError: the host runs some layers; or the folder cannot be written.
    """
    check_needs_no_host(graph)
    parts, interface = native_parts(graph, isa, cache, progress, name)

    def write(staging: Path) -> None:
        (staging / "kernels").mkdir()
        for symbol, code in parts.kernels.items():
            (staging / "kernels" / f"{symbol}.o").write_bytes(code)
        (staging / "constants.bin").write_bytes(parts.constants)
        assembler = constants_source(
            parts.constants_symbol, Path("constants.bin"), mach_o=is_mach_o(machine_of(isa))
        )
        _write_text(staging / "constants.S", assembler)
        _write_text(staging / "program.c", parts.source)
        for source in ("qcompiler_runtime.h", *RUNTIME_SOURCES):
            shutil.copyfile(RUNTIME / source, staging / source)
        _write_text(staging / f"{name}.h", _header(graph, interface, isa))
        _write_text(staging / f"example_{name}.c", example_program(interface))
        _write_text(staging / "CMakeLists.txt", _cmake_lists(parts, threads=threads))

    # Kernels of an earlier build would be taken for some of this one's.
    return _write_files(folder, write, replaced=("kernels/qcompiler_*.o",))


def check_needs_no_host(graph: Graph) -> None:
    """Refuse programs that the target does not run whole.

    Raises:
        QCompilerError: names the layers that the host runs.
    """
    layers = {f"{node.layer or 'added by the compiler'} ({node.op.name})": None for node in graph.nodes
              if is_host_node(node)}
    if layers:
        raise QCompilerError(
            "without Python, nothing runs the layers that the target leaves to the host",
            expected="a program that the target runs whole", found=", ".join(layers),
            fix="compile for a target without fallback, which says what to change in the model; or let Python run the "
            "program from its shared library",
        )


def _header(graph: Graph, interface: Interface, isa: InstructionSet) -> str:
    notes = {v.name: _meaning(v, behind_quantize(v)) for v in graph.inputs}
    notes |= {o.name: _meaning(o.value, before_dequantize(o.value)) for o in graph.outputs}
    return public_header(interface, notes, isa.features)


def _meaning(value: Value, held: Value) -> str:
    """What the numbers of an input or output stand for."""
    elem = held.type.elem
    if not isinstance(elem, Affine) or elem.scale.array.size != 1:
        return ""
    scale, zero_point = str(np.float32(elem.scale.array.item())), int(elem.zero_point.array.item())
    if held is value:
        return f"q stands for {scale} * (q - {zero_point})"
    return f"real numbers, rounded to {scale} * (q - {zero_point}) with q of type {elem.storage.dtype}"


def _cmake_lists(parts: LibraryParts, *, threads: bool) -> str:
    objects = "".join(f"\n  kernels/{symbol}.o" for symbol in parts.kernels)
    defines = "" if threads else " -DQCOMPILER_NO_THREADS"
    if threads:
        linked = f"find_package(Threads REQUIRED)\ntarget_link_libraries({parts.name} PUBLIC Threads::Threads m)"
    else:
        linked = (
            f"target_compile_definitions({parts.name} PRIVATE QCOMPILER_NO_THREADS)\n"
            f"target_link_libraries({parts.name} PUBLIC m)"
        )
    return f"""\
# Written by qcompiler. Without CMake, in this folder:
#   cc -O2 -I.{defines} -c program.c constants.S {' '.join(RUNTIME_SOURCES)}
#   ar rcs lib{parts.name}.a *.o kernels/*.o
cmake_minimum_required(VERSION 3.16)
project({parts.name} LANGUAGES C ASM)
add_library({parts.name} STATIC
  program.c constants.S {' '.join(RUNTIME_SOURCES)}{objects})
set_source_files_properties(constants.S PROPERTIES OBJECT_DEPENDS "${{CMAKE_CURRENT_SOURCE_DIR}}/constants.bin")
# The assembler looks for constants.bin where the compiler looks for headers.
target_include_directories({parts.name} PUBLIC "${{CMAKE_CURRENT_SOURCE_DIR}}")
{linked}
"""


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _write_files(folder: Path, write: Callable[[Path], None], replaced: Sequence[str] = ()) -> list[Path]:
    """Let files be written, then put them into a folder: all, or none where something fails.

    Args:
        folder: where they go; it is created.
        write: writes them into another folder.
        replaced: patterns of older files that go.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".qcompiler-", dir=folder) as name:
            staging = Path(name)
            write(staging)
            made = sorted(path.relative_to(staging) for path in staging.rglob("*") if path.is_file())
            for pattern in replaced:
                for old in folder.glob(pattern):
                    old.unlink()
            for path in made:
                (folder / path).parent.mkdir(exist_ok=True)
                (staging / path).replace(folder / path)
    except OSError as error:
        raise QCompilerError(f"cannot write to {folder}: {error.strerror or error}") from error
    return [folder / path for path in made]
