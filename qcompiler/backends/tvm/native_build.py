"""From a legalized program to a library."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from qcompiler.backends.tvm.graph_lowering import lower_program
from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.kernel_cache import KernelCache
from qcompiler.backends.tvm.library_build import LibraryParts, build_shared_library
from qcompiler.backends.tvm.program_source import Interface, write_program
from qcompiler.backends.tvm.selection import machine_of
from qcompiler.backends.tvm.tile_choices import TileChoices
from qcompiler.backends.tvm.toolchain import Toolchain, find_toolchain
from qcompiler.ir import Graph
from qcompiler.pipeline import Progress, silent


def native_parts(
    graph: Graph,
    isa: InstructionSet,
    cache: KernelCache | None = None,
    progress: Progress = silent,
    name: str | None = None,
) -> tuple[LibraryParts, Interface]:
    """A program's C source, constants and compiled kernels, and what it takes and gives.

    Args:
        graph: a legalized program.
        isa: what the kernels may use.
        cache: compiled kernels and measured tiles; the user's by default.
        progress: told how many kernels are compiled.
        name: what the program is called in C; by default as the graph.

    Raises:
        NoLowering: an op has no native form.
    """
    cache = cache or KernelCache()
    program, interface = lower_program(graph, isa, TileChoices(cache))
    interface = interface if name is None else replace(interface, name=name)
    source = write_program(program, interface)
    kernels = {}
    for number, (symbol, kernel) in enumerate(source.kernels.items(), 1):
        kernels[symbol] = cache.object_code(kernel, isa)
        progress("kernels", number, len(source.kernels))
    parts = LibraryParts(interface.name, source.text, source.constants, kernels, source.constants_symbol)
    return parts, interface


def build_native(
    graph: Graph,
    output: Path,
    isa: InstructionSet,
    cache: KernelCache | None = None,
    toolchain: Toolchain | None = None,
    progress: Progress = silent,
) -> None:
    """Write a program's shared library.

    Raises:
        NoLowering: an op has no native form.
        NoCompiler: no C compiler is at hand to link it.
        CompilerFailed: there is one, but it does not work.
    """
    toolchain = toolchain or find_toolchain(machine_of(isa))
    parts, _ = native_parts(graph, isa, cache, progress)
    build_shared_library(parts, output, toolchain)
