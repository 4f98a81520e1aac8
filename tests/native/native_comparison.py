"""Whole programs in native code against the reference interpreter, bit for bit."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcompiler.analysis.boundary import before_dequantize
from qcompiler.analysis.islands import split_islands
from qcompiler.backends import reference
from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.kernel_cache import KernelCache
from qcompiler.backends.tvm.library_build import RUNTIME, build_shared_library
from qcompiler.backends.tvm.native_build import native_parts
from qcompiler.backends.tvm.native_library import NativeLibrary
from qcompiler.backends.tvm.toolchain import Toolchain, find_toolchain
from qcompiler.ir import BlockArray, Graph, Stored, Tensor, Value
from qcompiler.native_code import NativeCode
from qcompiler.program import Program

Array = NDArray[Any]
Feeds = Mapping[str, Array]


def run_reference(graph: Graph, feeds: Feeds) -> tuple[dict[str, Array], list[Stored]]:
    """Outputs by name, and for each output, in order, what stands behind it."""
    wanted = {before_dequantize(o.value) for o in graph.outputs}
    stored: dict[Value, Stored] = {}

    def observe(value: Value, tensor: Tensor) -> None:
        if value in wanted:
            stored[value] = tensor.stored

    outputs = reference.run(graph, feeds, observe)
    return outputs, [stored[before_dequantize(o.value)] for o in graph.outputs]


@cache
def quick_toolchain() -> Toolchain:
    """The compiler at hand, which compiles the sources that every library holds only once."""
    found = find_toolchain()
    return _CompilesOnce(found.compiler, found.archiver, found.triple, found.flags, found.environment)


class _CompilesOnce(Toolchain):
    def compile(
        self, source: Path, output: Path, includes: Sequence[Path] = (), defines: Mapping[str, str] | None = None,
        flags: Sequence[str] = (),
    ) -> None:
        if source.parent != RUNTIME or defines:
            super().compile(source, output, includes, defines, flags)
            return
        kept = _kept_objects() / f"{source.name}.o"
        if not kept.exists():
            super().compile(source, kept, includes, defines, flags)
        shutil.copyfile(kept, output)


@cache
def _kept_objects() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="qcompiler-runtime-"))
    atexit.register(shutil.rmtree, folder)
    return folder


def write_library(graph: Graph, isa: InstructionSet, folder: Path, kernels: KernelCache) -> Path:
    """A program in a library of its own below ``folder``: the loader takes two of one path for the same."""
    path = folder / f"lib{next(_numbers)}.so"
    parts, _ = native_parts(graph, isa, kernels)
    # TVM's entry costs more to compile than most kernels; it has tests of its own.
    build_shared_library(parts, path, quick_toolchain(), tvm=False)
    return path


_numbers = count()


def build_library(graph: Graph, isa: InstructionSet, folder: Path, kernels: KernelCache | None = None) -> NativeLibrary:
    """A program's library, loaded."""
    return NativeLibrary(write_library(graph, isa, folder, kernels or KernelCache(folder / "kernels")))


def build_code(graph: Graph, isa: InstructionSet, folder: Path, kernels: KernelCache) -> NativeCode:
    """A program's native code: a library for each island of the target."""
    islands = [island.graph for island in split_islands(graph) if not island.on_host]
    return NativeCode(graph, isa.name, [write_library(island, isa, folder, kernels) for island in islands])


def assert_program_runs_the_same(program: Program, feeds: Feeds, threads: int) -> None:
    """Run a program that has native code in both backends, for real numbers and for stored integers.

    Raises:
        AssertionError: some bit differs.
    """
    for quantized in (False, True):
        expected = program.run(feeds, quantized, "reference")
        found = program.run(feeds, quantized, "native", threads)
        assert list(found) == list(expected)
        for output in program.graph.outputs:
            what = f"{'stored ' * quantized}{describe(output.value)}"
            assert_same_bits(found[output.name], expected[output.name], what)


def assert_native_equals_reference(
    graph: Graph,
    feeds_of: Callable[[int], Feeds],
    isas: Sequence[InstructionSet],
    folder: Path,
    *,
    samples: Sequence[int] = (1, 3),
    threads: Sequence[int] = (1, 2),
    kernels: KernelCache | None = None,
) -> None:
    """Run a program both ways.

    Args:
        graph: the program.
        feeds_of: inputs for a number of samples.
        isas: what native code is built for.
        folder: where libraries go.
        samples: how many samples the runs take.
        threads: how many threads run native code.
        kernels: compiled kernels.

    Raises:
        AssertionError: some bit differs; names instruction set, threads, samples and output.
    """
    runs = [(number, feeds, run_reference(graph, feeds)) for number, feeds in ((n, feeds_of(n)) for n in samples)]
    for isa in isas:
        library = build_library(graph, isa, folder, kernels)
        for number, feeds, (outputs, stored) in runs:
            for workers in threads:
                where = f"{isa.name}, {workers} threads, {number} samples"
                found, found_stored = library.run_with_stored(feeds, workers)
                assert list(found) == [o.name for o in graph.outputs]
                for output, expected, integers in zip(graph.outputs, stored, found_stored, strict=True):
                    assert_same_bits(found[output.name], outputs[output.name], f"{where}: {describe(output.value)}")
                    assert_same_bits(integers, expected, f"{where}: stored {describe(output.value)}")


def assert_same_bits(found: Stored, expected: Stored, what: str) -> None:
    """Same dtype, shape and bytes: zeros of different sign are different. Of block floating point, both arrays."""
    if isinstance(expected, BlockArray) or isinstance(found, BlockArray):
        assert isinstance(found, BlockArray), f"{what}: {type(found).__name__}"
        assert isinstance(expected, BlockArray), what
        assert_same_bits(found.exponents, expected.exponents, f"{what}: exponents")
        assert_same_bits(found.mantissas, expected.mantissas, f"{what}: mantissas")
        return
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape), f"{what}: {found.dtype}{found.shape}"
    if found.tobytes() != expected.tobytes():
        different = np.argwhere(found != expected)
        at = tuple(int(i) for i in different[0]) if len(different) else ()
        raise AssertionError(
            f"{what}: {len(different)} of {found.size} differ, at {at} {found[at]} for {expected[at]}"
        )


def describe(value: Value, depth: int = 5) -> str:
    """The chain of ops behind a value, newest first, for messages."""
    if value.producer is None:
        return f"{value.name}: {value.type}"
    chain = [f"{value.producer.op}: {value.type}"]
    if depth:
        chain += [f"({describe(v, depth - 1)})" for v in value.producer.operands if v.producer is None or
                  value.producer.op.name != "constant"]
    return " <- ".join(chain)
