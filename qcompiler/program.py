"""The compiled artifact: run it, save it, load it."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from qcompiler import plugins
from qcompiler.analysis.batching import run_in_batches, takes_samples
from qcompiler.analysis.boundary import before_dequantize, behind_quantize
from qcompiler.analysis.cost import Coverage, measure_coverage
from qcompiler.backends import reference
from qcompiler.errors import QCompilerError
from qcompiler.ir import Affine, BlockFloat, Graph, Stored, Tensor, Value, read_program, write_program
from qcompiler.native_code import NO_NATIVE_CODE, NativeCode, build_native_code
from qcompiler.pipeline import Progress, silent

if TYPE_CHECKING:
    from qcompiler.backends.tvm.instruction_set import InstructionSet
    from qcompiler.backends.tvm.kernel_cache import KernelCache

Array = NDArray[Any]

MANIFEST = "manifest.json"
PROGRAM = "program.qir"
CONSTANTS = "program.safetensors"


@dataclass
class Program:
    """A program for a target, exact to the bit.

    Attributes:
        graph: the program; ``str(program.graph)`` is its ``.qir`` text.
        figures: measurements made at compile time, by name.
        warnings: what the compiler wants its user to know.
        native: compiled code for a processor; None where there is none.
    """

    graph: Graph
    figures: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    native: NativeCode | None = None

    def build_native(
        self,
        cpu: str | InstructionSet | None = None,
        progress: Progress = silent,
        cache: KernelCache | None = None,
        *,
        tune: bool = False,
    ) -> None:
        """Compile the program for a processor; ``run`` uses the code from now on, ``save`` keeps it.

        Args:
            cpu: an instruction set, such as ``"avx512-vnni"``, or one retargeted to another machine; the best one that
                this machine runs by default.
            progress: told how many kernels are compiled.
            cache: compiled kernels and measured tiles; the user's by default.
            tune: measure first which tiles of its convolutions are the fastest here.

        Raises:
            NoLowering: an op has no native form.
            NoCompiler: no C compiler is at hand to link with.
            CompilerFailed: there is one, but it does not work.
        """
        self.native = build_native_code(self.graph, cpu, progress, cache, tune=tune)
        # Written by a compilation that found no compiler; true no longer.
        self.warnings = [w for w in self.warnings if not w.startswith(NO_NATIVE_CODE)]
        if "warnings" in self.figures:
            self.figures["warnings"] = list(self.warnings)

    @overload
    def run(
        self, inputs: Mapping[str, Array] | Array, quantized: Literal[False] = False, backend: str | None = None,
        threads: int = 1,
    ) -> dict[str, Array]: ...

    @overload
    def run(
        self, inputs: Mapping[str, Array] | Array, quantized: bool, backend: str | None = None, threads: int = 1
    ) -> dict[str, Any]: ...

    def run(
        self, inputs: Mapping[str, Array] | Array, quantized: bool = False, backend: str | None = None, threads: int = 1
    ) -> dict[str, Any]:
        """Run any number of samples.

        Args:
            inputs: an array for each input, samples along the first axis; or one array for a program with one input.
            quantized: return what the target stores instead of the real numbers that it stands for: an array of
                integers, or for block floating point a :class:`~qcompiler.ir.BlockArray`, the pair of ``mantissas``
                and ``exponents`` (int32, on the grid of blocks).
            backend: "reference", the numpy interpreter; "native", compiled code; None takes native code where the
                program has some. Both compute the same bits.
            threads: how many run native code.

        Returns:
            Outputs by name, samples along the first axis. Blocks lie within one run of a program with a fixed batch:
            where they span its samples, each run begins with blocks of its own.

        Raises:
            QCompilerError: an input is missing, or of the wrong type or shape, or holds NaN; an unknown backend, or
                native code that the program lacks or this machine cannot run; a number of samples that a fixed batch
                does not allow.
        """
        if backend not in (None, "reference", "native"):
            raise QCompilerError(f"unknown backend {backend!r}", expected="reference or native")
        native = None if backend == "reference" else self.native
        if backend == "native" and native is None:
            raise QCompilerError("the program has no native code", fix="build it: 'qcompiler native DIR'")
        feeds = self._check_inputs(inputs)
        if native is not None and native.runs_any_batch:
            return native.run(feeds, quantized, threads)
        if native is not None:
            return dict(run_in_batches(self.graph, feeds, lambda part: native.run(part, quantized, threads)))
        return dict(run_in_batches(self.graph, feeds, lambda part: self._run_once(part, quantized)))

    def _run_once(self, feeds: Mapping[str, Array], quantized: bool) -> Mapping[str, Stored]:
        if not quantized:
            return reference.run(self.graph, feeds)
        wanted = {o.name: before_dequantize(o.value) for o in self.graph.outputs}
        found: dict[Value, Stored] = dict.fromkeys(wanted.values(), np.zeros(0))

        def observe(value: Value, tensor: Tensor) -> None:
            if value in found:
                found[value] = tensor.stored

        reference.run(self.graph, feeds, observe)
        return {name: found[value] for name, value in wanted.items()}

    def _check_inputs(self, inputs: Mapping[str, Array] | Array) -> dict[str, Array]:
        if isinstance(inputs, np.ndarray):
            if len(self.graph.inputs) != 1:
                names = ", ".join(v.name for v in self.graph.inputs)
                raise QCompilerError("one array for several inputs", fix=f"give a dict of arrays: {names}")
            inputs = {self.graph.inputs[0].name: inputs}
        if not isinstance(inputs, Mapping):
            raise QCompilerError(f"inputs of type {type(inputs).__name__}", expected="an array or a dict of arrays")
        feeds = {}
        for value in self.graph.inputs:
            if value.name not in inputs:
                raise QCompilerError(f"input {value.name!r} is missing", found=", ".join(inputs) or "no inputs")
            array = np.asarray(inputs[value.name])
            if array.dtype != value.type.storage.dtype or not takes_samples(value, array.shape):
                raise QCompilerError(
                    f"input {value.name!r} does not fit", expected=str(value.type),
                    found=f"{array.dtype}{list(array.shape)}",
                )
            if array.dtype.kind == "f" and bool(np.isnan(array).any()):
                raise QCompilerError(f"input {value.name!r} holds NaN", fix="NaN has no integer counterpart")
            feeds[value.name] = array
        unknown = set(inputs) - set(feeds)
        if unknown:
            raise QCompilerError(f"the program has no input {min(unknown)!r}", expected=", ".join(feeds))
        return feeds

    @property
    def coverage(self) -> Coverage:
        """The host's share of nodes and multiplications."""
        return measure_coverage(self.graph)

    def save(self, folder: str | Path) -> None:
        """Write the artifact: program, constants and manifest. An artifact of the same name is replaced whole.

        Raises:
            QCompilerError: the folder cannot be written, or holds something that is no artifact.
        """
        folder = Path(folder)
        check_output_folder(folder)
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            staging = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        except OSError as error:
            raise QCompilerError(f"output folder {folder} is not writable: {error.strerror or error}") from error
        try:
            write_program(self.graph, staging / PROGRAM)
            manifest = {
                "format": 1, "target": self.graph.target, "pipeline": self.graph.pipeline,
                "versions": {name: version(name) for name in ("qcompiler-legalizer", "numpy")},
                "inputs": [_boundary(v.name, v) for v in self.graph.inputs],
                "outputs": [_boundary(o.name, o.value) for o in self.graph.outputs],
                "figures": _strict_json(self.figures),
            }
            files = [PROGRAM, CONSTANTS]
            if self.native is not None:
                manifest["native"] = {"cpu": self.native.cpu, "libraries": [p.name for p in self.native.libraries]}
                for library in self.native.libraries:
                    shutil.copyfile(library, staging / library.name)
                    files.append(library.name)
            manifest["hashes"] = {name: _hash(staging / name) for name in files}
            (staging / MANIFEST).write_text(json.dumps(manifest, indent=2, allow_nan=False) + "\n", encoding="utf-8")
            _replace_artifact(staging, folder)
        except OSError as error:
            raise QCompilerError(f"cannot write {folder}: {error.strerror or error}") from error
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def load(folder: str | Path, native: bool = True) -> Program:
    """Read an artifact that ``Program.save`` wrote.

    Args:
        folder: the artifact.
        native: whether to take its native code along, where it has some.

    Raises:
        QCompilerError: no artifact, or a damaged one; or a plugin, whose ops it may hold, cannot be loaded.
    """
    plugins.load()
    folder = Path(folder)
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        hashes = dict(manifest["hashes"])
        figures = dict(manifest.get("figures", {}))
        code = manifest.get("native") if native else None
        libraries = [_plain_name(name) for name in code["libraries"]] if code else []
        cpu = str(code["cpu"]) if code else ""
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise QCompilerError(
            f"{folder} is no compiled program: {getattr(error, 'strerror', None) or error}",
            expected=f"a folder with {MANIFEST}",
        ) from error
    for name in (PROGRAM, CONSTANTS, *libraries):
        path = folder / name
        if not path.is_file() or _hash(path) != hashes.get(name):
            fix = f"build it again from the program: 'qcompiler native {folder}'"
            raise QCompilerError(
                f"{path} is damaged or missing", fix=fix if name in libraries else "compile the model again"
            )
    program = Program(read_program(folder / PROGRAM), figures, list(figures.get("warnings", [])))
    if code:
        program.native = NativeCode(program.graph, cpu, [folder / name for name in libraries])
        if len(libraries) != program.native.islands_of_target:
            raise QCompilerError(
                f"{folder} holds native code of another program", found=f"{len(libraries)} libraries",
                expected=f"{program.native.islands_of_target}", fix=f"build it again: 'qcompiler native {folder}'",
            )
    return program


def _plain_name(name: object) -> str:
    """The name of a file within the artifact.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(name, str) or Path(name).name != name:
        raise ValueError(f"{name!r} does not name a file of the artifact")
    return name


def check_output_folder(folder: Path) -> None:
    """Refuse a folder into which an artifact cannot be written, before any work is done. Creates nothing.

    Raises:
        QCompilerError: it holds other files, or it cannot be created or written.
    """
    folder = folder.absolute()
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not (folder / MANIFEST).exists())):
        raise QCompilerError(f"{folder} exists and is no compiled program", fix="name another output folder")
    existing = next(p for p in (folder, *folder.parents) if p.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise QCompilerError(f"output folder {folder} is not writable: {error.strerror or error}") from error


def _replace_artifact(staging: Path, folder: Path) -> None:
    """Put a finished artifact in place of an earlier one; extra files such as dumps of the IR stay."""
    if not folder.exists():
        staging.chmod(0o755)
        staging.rename(folder)
        return
    new = {path.name for path in staging.iterdir()}
    outdated = set(_libraries_of(folder)) - new
    # The manifest goes first and comes last: a folder without one is no artifact, so none is ever half-written.
    (folder / MANIFEST).unlink(missing_ok=True)
    for name in outdated:
        (folder / name).unlink(missing_ok=True)
    for name in (*sorted(new - {MANIFEST}), MANIFEST):
        (staging / name).replace(folder / name)


def _libraries_of(folder: Path) -> list[str]:
    """The libraries that an artifact's manifest names; none where it cannot be read."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return [_plain_name(name) for name in manifest["native"]["libraries"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _boundary(name: str, value: Value) -> dict[str, Any]:
    """Type and quantization of an input or output."""
    entry: dict[str, Any] = {"name": name, "type": str(value.type)}
    held = behind_quantize(value) if value.producer is None else before_dequantize(value)
    elem = held.type.elem
    if isinstance(elem, Affine):
        entry["quantized"] = {
            "storage": elem.storage.name, "scale": float(elem.scale.array), "zero_point": int(elem.zero_point.array),
        }
    elif isinstance(elem, BlockFloat):
        entry["quantized"] = {
            "storage": elem.storage.name, "format": asdict(elem.format), "blocks": list(elem.blocks),
            "exponents": None if elem.exponents is None else elem.exponents.array.tolist(),
        }
    return entry


def _strict_json(value: Any) -> Any:
    """``value`` with infinities and NaN, which JSON lacks, as null: the SQNR of an exact result is infinite."""
    if isinstance(value, dict):
        return {key: _strict_json(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
