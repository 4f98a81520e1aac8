"""Shared and static libraries out of a program's C source, its constants and its kernels."""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from qcompiler.backends.tvm.toolchain import Toolchain
from qcompiler.errors import QCompilerError

RUNTIME = Path(__file__).parent / "runtime"
"""The C sources that every library holds."""

RUNTIME_SOURCES = ("qcompiler_pool.c", "qcompiler_processor.c")

_EXPORTS = (
    "__tvm_ffi_*", "__TVMFFI*", "qcompiler_library_*", "qcompiler_pool_*", "qcompiler_parallel",
    "qcompiler_missing_instructions", "qcompiler_clock",
)
"""What a shared library shows. Kernels stay inside."""


@dataclass(frozen=True)
class LibraryParts:
    """What becomes a library.

    Attributes:
        name: the program's C name; its source defines ``{name}_program``.
        source: ``program.c``.
        constants: what stands behind the symbol ``constants_symbol``.
        kernels: object files by name.
        constants_symbol: different for programs that are to be linked into one executable.
    """

    name: str
    source: str
    constants: bytes
    kernels: Mapping[str, bytes]
    constants_symbol: str = "qcompiler_constants"


def build_shared_library(parts: LibraryParts, output: Path, toolchain: Toolchain, *, tvm: bool = True) -> None:
    """Write a shared library that both :class:`NativeLibrary` and TVM's runtime load.

    Args:
        parts: what it holds.
        output: the file; an existing one is replaced, and processes that run it keep the old one.
        toolchain: what compiles and links.
        tvm: whether TVM's runtime can call it. That takes TVM's headers, not its library.

    Raises:
        CompilerFailed: the compiler or linker refused.
        QCompilerError: TVM's headers are not installed.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        objects = _compile_parts(parts, folder, toolchain, {})
        program = {"QCOMPILER_PROGRAM": f"{parts.name}_program"}
        for source, includes in [("library_entry.c", []), *([("tvm_entry.c", tvm_headers())] if tvm else [])]:
            objects.append(folder / f"{source}.o")
            toolchain.compile(RUNTIME / source, objects[-1], [RUNTIME, *includes], program)
        toolchain.link_shared(objects, output, _EXPORTS)


def build_static_library(
    parts: LibraryParts, folder: Path, header: str, toolchain: Toolchain, *, threads: bool = True
) -> None:
    """Write ``lib{name}.a``, its header ``{name}.h``, and ``qcompiler_runtime.h``, which that includes.

    Args:
        parts: what it holds.
        folder: where the files go; it is created.
        header: text of the program's own header.
        toolchain: what compiles and archives.
        threads: False for machines without POSIX threads; the program then runs on its caller's.

    Raises:
        CompilerFailed: the compiler refused.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        objects = _compile_parts(parts, Path(name), toolchain, {} if threads else {"QCOMPILER_NO_THREADS": "1"})
        toolchain.archive(objects, folder / f"lib{parts.name}.a")
    (folder / f"{parts.name}.h").write_text(header, encoding="utf-8")
    shutil.copyfile(RUNTIME / "qcompiler_runtime.h", folder / "qcompiler_runtime.h")


def constants_source(symbol: str, data: Path, *, mach_o: bool) -> str:
    """Assembler source that embeds a file, read-only, aligned to 64 bytes, visible within one library alone.

    Args:
        symbol: the name of its first byte.
        data: the file; a relative path is looked up in the folders of headers.
        mach_o: whether for Apple's systems.
    """
    path = str(data).replace("\\", "\\\\").replace('"', '\\"')
    if mach_o:
        return f"""\
.section __TEXT,__const
.private_extern _{symbol}
.globl _{symbol}
.balign 64
_{symbol}:
.incbin "{path}"
"""
    # %progbits: on ARM, @ begins a comment. The last section says that no executable stack is needed.
    return f"""\
.section .rodata.{symbol},"a",%progbits
.hidden {symbol}
.globl {symbol}
.type {symbol}, %object
.balign 64
{symbol}:
.incbin "{path}"
.size {symbol}, . - {symbol}
.section .note.GNU-stack,"",%progbits
"""


def tvm_headers() -> list[Path]:
    """Folders with the headers of TVM's C interface, found without importing TVM.

    Raises:
        QCompilerError: they are not installed.
    """
    found = importlib.util.find_spec("tvm_ffi")
    if found is None or not found.submodule_search_locations:
        raise QCompilerError("TVM's headers are missing", fix="pip install apache-tvm-ffi")
    package = Path(found.submodule_search_locations[0])
    return [package / "include", package / "3rdparty" / "dlpack" / "include"]


def _compile_parts(
    parts: LibraryParts, folder: Path, toolchain: Toolchain, defines: Mapping[str, str]
) -> list[Path]:
    """Object files of the program, its constants, its kernels and the runtime."""
    source = folder / "program.c"
    source.write_text(parts.source, encoding="utf-8")
    data = folder / "constants.bin"
    data.write_bytes(parts.constants)
    assembler = folder / "constants.S"
    assembler.write_text(
        constants_source(parts.constants_symbol, data, mach_o=toolchain.is_mach_o), encoding="utf-8"
    )
    objects = []
    for path in (source, assembler, *(RUNTIME / name for name in RUNTIME_SOURCES)):
        objects.append(folder / f"{path.name}.o")
        toolchain.compile(path, objects[-1], [RUNTIME], defines)
    for name, code in parts.kernels.items():
        objects.append(folder / f"{name}.o")
        objects[-1].write_bytes(code)
    return objects
