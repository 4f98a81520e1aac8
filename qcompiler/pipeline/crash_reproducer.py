"""The instrument that keeps what is needed to see a pass fail again."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from qcompiler.errors import QCompilerError
from qcompiler.ir import Graph, clone, read_program, write_program
from qcompiler.pipeline.compiler_pass import CalibrationSource, Context, Pass
from qcompiler.pipeline.instrument import Instrument
from qcompiler.pipeline.pipeline import Pipeline
from qcompiler.target import Descriptor, Target

MANIFEST = "reproducer.json"
_PROGRAM = "program.qir"
_TARGET = "target.json"
_DATA = "data.safetensors"
_DATA_BYTES = 64 << 20


class CrashReproducer(Instrument):
    """When a pass fails, writes a folder from which ``qcompiler opt FOLDER`` fails the same way.

    It holds the program before the failing pass, the passes that were still to run, the target's descriptor, and the
    calibration data where one of those passes needs them. The program is cloned before each pass that follows a
    change; types and arrays are shared, so that this costs little. The folder appears whole or not at all; an earlier
    reproducer of that name is replaced.

    Args:
        folder: where to write; it must not hold anything else.
        data_bytes: the first samples of the calibration data are kept, up to this many bytes, and at least one. A
            failure that later samples cause does not come again.
        refusals: write it for errors that a pass raises on purpose, too (:class:`QCompilerError`).

    Attributes:
        written: the folder, once it is written.
    """

    def __init__(self, folder: str | Path, *, data_bytes: int = _DATA_BYTES, refusals: bool = True) -> None:
        self.folder = Path(folder)
        self.data_bytes = data_bytes
        self.refusals = refusals
        self.written: Path | None = None
        self._context = Context()
        self._passes: Sequence[Pass] = ()
        self._kept: Graph | None = None

    def attach(self, context: Context) -> None:
        """Refuse a folder that cannot be written, before any pass runs.

        Raises:
            QCompilerError: it holds something else than a reproducer, or it cannot be made.
        """
        self._context = context
        self.written = None
        folder = self.folder.absolute()
        if folder.exists() and not _is_replaceable(folder):
            raise QCompilerError(f"{self.folder} exists and is no reproducer", fix="name another folder")
        existing = next(p for p in folder.parents if p.exists())
        if not existing.is_dir() or not os.access(existing, os.W_OK):
            raise QCompilerError(f"reproducer {self.folder} is not writable", found=f"{existing} may not be written")

    def begin(self, graph: Graph, passes: Sequence[Pass]) -> None:
        self._passes = passes
        self._kept = None

    def before_pass(self, index: int, current: Pass, graph: Graph) -> None:
        if self._kept is None:
            self._kept = clone(graph)
        self._kept.pipeline = graph.pipeline

    def after_pass(self, index: int, current: Pass, graph: Graph, changed: bool) -> None:
        if changed:
            self._kept = None

    def failed(self, index: int, current: Pass, graph: Graph, error: Exception) -> None:
        """Write the reproducer.

        Raises:
            QCompilerError: it cannot be written.
        """
        if self._kept is None or (isinstance(error, QCompilerError) and not self.refusals):
            return
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            staging = Path(tempfile.mkdtemp(prefix=f".{self.folder.name}-", dir=self.folder.parent))
        except OSError as problem:
            raise QCompilerError(f"cannot write reproducer {self.folder}: {problem.strerror or problem}") from problem
        try:
            self._write(staging, Pipeline(tuple(self._passes[index:])), self._kept, error)
            if self.folder.exists():
                shutil.rmtree(self.folder)
            staging.chmod(0o755)
            staging.rename(self.folder)
        except OSError as problem:
            raise QCompilerError(f"cannot write reproducer {self.folder}: {problem.strerror or problem}") from problem
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        self.written = self.folder

    def _write(self, folder: Path, remaining: Pipeline, graph: Graph, error: Exception) -> None:
        write_program(graph, folder / _PROGRAM)
        manifest: dict[str, Any] = {
            "format": 1, "pipeline": str(remaining), "failed": remaining.passes[0].name,
            "error": f"{type(error).__name__}: {error}", "traceback": traceback.format_exception(error),
            "versions": {name: version(name) for name in ("qcompiler-legalizer", "numpy")},
        }
        target, data = self._context.target, self._context.data
        if target is not None:
            manifest["target"] = target.name
            text = target.descriptor.model_dump_json(by_alias=True, exclude_unset=True, indent=2)
            (folder / _TARGET).write_text(text + "\n", encoding="utf-8")
        if data is not None and any(p.needs_data for p in remaining.passes):
            arrays, refused = _first_samples(data, self.data_bytes)
            save_file(arrays, folder / _DATA)
            manifest["samples"] = {"kept": _sample_count(arrays), "given": len(data), "refused": refused}
        (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class Reproducer:
    """What a reproducer holds.

    Attributes:
        graph: the program before the failing pass.
        pipeline: text of the passes that were still to run, the failing one first.
        target: the target; None where there was none.
        data: calibration data by input name; None where no pass needs any.
    """

    graph: Graph
    pipeline: str
    target: Target | None
    data: Mapping[str, NDArray[Any]] | None


def is_reproducer(folder: Path) -> bool:
    """Whether ``folder`` is what :class:`CrashReproducer` writes."""
    return (folder / MANIFEST).is_file()


def read_reproducer(folder: str | Path) -> Reproducer:
    """Read what :class:`CrashReproducer` wrote.

    Raises:
        QCompilerError: a file is missing, damaged or malformed.
    """
    folder = Path(folder)
    try:
        pipeline = str(json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["pipeline"])
        target = None
        if (folder / _TARGET).exists():
            descriptor = Descriptor.model_validate_json((folder / _TARGET).read_text(encoding="utf-8"))
            target = Target(descriptor, str(folder / _TARGET))
        data = (load_file(folder / _DATA) or None) if (folder / _DATA).exists() else None
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise QCompilerError(f"{folder} is no reproducer: {reason}", expected=f"a folder with {MANIFEST}") from error
    return Reproducer(read_program(folder / _PROGRAM), pipeline, target, data)


def _is_replaceable(folder: Path) -> bool:
    return folder.is_dir() and (is_reproducer(folder) or not any(folder.iterdir()))


def _first_samples(data: CalibrationSource, limit: int) -> tuple[dict[str, NDArray[Any]], str | None]:
    """As many samples as fit into ``limit`` bytes, at least one run of the program; those before one that is refused.

    Also why a sample is refused, if one is.
    """
    parts: dict[str, list[NDArray[Any]]] = {}
    size, refused = 0, None
    try:
        for feeds in data.batches(1):
            size += sum(np.asarray(array).nbytes for array in feeds.values())
            if parts and size > limit:
                break
            for name, array in feeds.items():
                parts.setdefault(name, []).append(np.array(array))
    except QCompilerError as error:
        refused = str(error)
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}, refused


def _sample_count(arrays: Mapping[str, NDArray[Any]]) -> int:
    return min((len(array) for array in arrays.values()), default=0)
