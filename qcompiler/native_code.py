"""Native code of a program: one shared library for each island of the target, run one after the other."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from qcompiler.analysis.boundary import before_dequantize
from qcompiler.analysis.islands import Island, crossing_names, split_islands
from qcompiler.backends import reference
from qcompiler.errors import QCompilerError
from qcompiler.ir import Fact, Graph, Node, Op, Stored, Tensor, Value
from qcompiler.ops.block_conversion import ToBlock
from qcompiler.ops.constant import constant_value
from qcompiler.ops.fused import Fused
from qcompiler.ops.quantization import NO_INTEGER_FOR_NAN, Quantize
from qcompiler.pipeline import Progress, silent

if TYPE_CHECKING:
    from qcompiler.backends.tvm.instruction_set import InstructionSet
    from qcompiler.backends.tvm.kernel_cache import KernelCache
    from qcompiler.backends.tvm.native_library import NativeLibrary

Array = NDArray[Any]

NO_NATIVE_CODE = "no native code, the reference interpreter runs the program"
"""How the warning of a program begins that could not be compiled natively."""


@dataclass
class NativeCode:
    """Compiled islands of a program.

    Attributes:
        graph: the program.
        cpu: the instruction set that the code is for.
        libraries: a shared library for each island of the target, in order.
        folder: keeps the libraries until the program is saved.
    """

    graph: Graph
    cpu: str
    libraries: Sequence[Path]
    folder: tempfile.TemporaryDirectory[str] | None = field(default=None, repr=False)

    @cached_property
    def parts(self) -> list[Island]:
        """The program's islands, in the order in which they run."""
        return split_islands(self.graph)

    @property
    def islands_of_target(self) -> int:
        """How many libraries the program needs."""
        return sum(not island.on_host for island in self.parts)

    @cached_property
    def runs_any_batch(self) -> bool:
        """Whether one run takes any number of samples, in memory that does not grow with it."""
        return len(self.parts) == 1 and any(v.type.carries_batch for v in self.graph.inputs)

    @cached_property
    def islands(self) -> list[tuple[Island, NativeLibrary | None]]:
        """The program's islands with their loaded libraries; those of the host have none.

        Raises:
            QCompilerError: a library cannot be loaded, or needs instructions that this machine lacks.
        """
        from qcompiler.backends.tvm.native_library import NativeLibrary

        paths = iter(self.libraries)
        return [(i, None if i.on_host else NativeLibrary(next(paths))) for i in self.parts]

    def run(self, feeds: Mapping[str, Array], quantized: bool, threads: int) -> dict[str, Any]:
        """Outputs by name; nodes on the host run in the reference interpreter, which is their only implementation.

        Args:
            feeds: stored numbers of each input.
            quantized: what the target stores, in place of outputs that are dequantized: integers, or mantissas and
                exponents.
            threads: how many run each kernel.

        Raises:
            QCompilerError: an infinity or NaN is to become block floating point, or NaN an integer.
        """
        known = dict(feeds)
        stored: dict[str, Stored] = {}
        for island, library in self.islands:
            taken = {v.name: known[v.name] for v in island.graph.inputs}
            if library is not None:
                _refuse_undefined(island.graph, taken)
            if library is None:
                known |= reference.run(island.graph, taken, _keep_stored(island.graph, stored) if quantized else None)
            elif quantized:
                outputs, integers = library.run_with_stored(taken, threads)
                known |= outputs
                stored |= dict(zip(outputs, integers, strict=True))
            else:
                known |= library.run(taken, threads)
        return {
            output: constant if constant is not None else (stored if name in stored else known)[name]
            for output, name, constant in self._outputs
        }

    @cached_property
    def _outputs(self) -> list[tuple[str, str, Array | None]]:
        """Each output's name, what islands call its value, and the numbers themselves where they are constant."""
        names = crossing_names(self.graph)
        return [(o.name, names[o.value], constant_value(o.value)) for o in self.graph.outputs]


def _refuse_undefined(graph: Graph, feeds: Mapping[str, Array]) -> None:
    """Refuse numbers that the target's formats cannot hold, as the reference does: kernels look for no such numbers.

    Raises:
        QCompilerError: an infinity or NaN is to become block floating point, or NaN an integer.
    """
    for value in graph.inputs:
        array = feeds[value.name]
        if array.dtype.kind != "f" or np.isfinite(array).all():
            continue
        if _conversion(value, ToBlock) is not None:
            raise QCompilerError(
                f"input {value.name!r}: block floating point has no infinity and no NaN",
                found=str(array[~np.isfinite(array)].flat[0]),
            )
        quantize = _conversion(value, Quantize) if np.isnan(array).any() else None
        if quantize is not None:
            raise QCompilerError(f"quantize: {NO_INTEGER_FOR_NAN}", layer=quantize.layer)


def _conversion(value: Value, kind: type[Op]) -> Node | None:
    """The first op of a kind that takes real numbers as they are, or once they have been moved; None without one."""
    for user, index in value.uses:
        if isinstance(user.op, kind):
            return user
        followed: Sequence[Value] = user.results if Fact.VALUE_PRESERVING in user.op.facts else ()
        if isinstance(user.op, Fused):
            followed = [user.op.body.inputs[index]]
        for other in followed:
            found = _conversion(other, kind)
            if found is not None:
                return found
    return None


def _keep_stored(graph: Graph, stored: dict[str, Stored]) -> reference.Observe:
    wanted = {before_dequantize(o.value): o.name for o in graph.outputs}

    def observe(value: Value, tensor: Tensor) -> None:
        if value in wanted:
            stored[wanted[value]] = tensor.stored

    return observe


def check_instruction_set(cpu: str) -> None:
    """Refuse an instruction set whose code this machine cannot run.

    Raises:
        QCompilerError: it cannot, or there is none of that name.
    """
    from qcompiler.backends.tvm.selection import check_runs_here, select_instruction_set

    check_runs_here(select_instruction_set(cpu))


def build_native_code(
    graph: Graph,
    cpu: str | InstructionSet | None = None,
    progress: Progress = silent,
    cache: KernelCache | None = None,
    *,
    tune: bool = False,
) -> NativeCode:
    """Compile a program for a processor.

    Args:
        graph: a legalized program.
        cpu: an instruction set, by name or, to build for another machine, retargeted to it; the best one that this
            machine runs by default.
        progress: told how many kernels are compiled.
        cache: compiled kernels and measured tiles; the user's by default.
        tune: measure first which tiles of its convolutions are the fastest here.

    Raises:
        NoLowering: an op has no native form.
        NoCompiler: no C compiler is at hand to link with.
        CompilerFailed: there is one, but it does not work.
        QCompilerError: there is no such instruction set; or nobody named another machine and this one cannot run the
            code; or tiles are to be measured for another machine.
    """
    from qcompiler.backends.tvm.instruction_set import InstructionSet
    from qcompiler.backends.tvm.native_build import build_native
    from qcompiler.backends.tvm.selection import check_runs_here, select_instruction_set
    from qcompiler.backends.tvm.tile_tuning import tune_tiles

    isa = cpu if isinstance(cpu, InstructionSet) else select_instruction_set(cpu)
    if not isa.is_retargeted:
        check_runs_here(isa)
    if tune:
        tune_tiles(graph, isa, cache=cache, progress=progress)
    folder = tempfile.TemporaryDirectory(prefix="qcompiler-native-")
    libraries: list[Path] = []
    code = NativeCode(graph, isa.name, libraries, folder)
    for island in code.parts:
        if island.on_host:
            continue
        libraries.append(Path(folder.name) / f"lib{len(libraries) or ''}.so")
        build_native(island.graph, libraries[-1], isa, cache, progress=progress)
    return code
