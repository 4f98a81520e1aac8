"""Exporters: other formats that a compiled program can be written in."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from qcompiler.errors import QCompilerError, did_you_mean
from qcompiler.program import Program
from qcompiler.registry import Registry


@dataclass(frozen=True)
class Exporter:
    """A format.

    Attributes:
        name: what ``--format`` takes.
        suffix: the ending of its files, with the dot.
        write: writes a program to a file.
    """

    name: str
    suffix: str
    write: Callable[[Program, Path], None]


EXPORTERS: Registry[str, Exporter] = Registry("exporter")
"""Exporters by name."""

_Function = TypeVar("_Function", bound=Callable[[Program, Path], None])


def exporter(name: str, *, suffix: str) -> Callable[[_Function], _Function]:
    """Register a function as the exporter ``name``.

    The function takes the program and the path of the one file that it writes; the path ends as the user's does. It
    raises ``QCompilerError`` for a program that the format cannot hold.

    Args:
        name: what ``--format`` takes.
        suffix: the ending of its files, such as ".tflite": files that end so are written by it unless the user says
            otherwise.

    Raises:
        QCompilerError: the name is taken, or ``suffix`` does not start with a dot.
    """

    def register(function: _Function) -> _Function:
        if not suffix.startswith("."):
            raise QCompilerError(f"exporter {name!r}: suffix {suffix!r}", expected="one that starts with a dot")
        EXPORTERS.add(name, Exporter(name, suffix, function), module=function.__module__)
        return function

    return register


def find_exporter(path: Path, format: str | None = None) -> Exporter:
    """The exporter for a file: the one called ``format``, else the only one with the file's suffix.

    Raises:
        QCompilerError: there is none (the known ones are named), or there are several.
    """
    known = ", ".join(f"{e.name} ({e.suffix})" for e in EXPORTERS.values())
    if not EXPORTERS:
        raise QCompilerError(
            "no exporter is installed", fix="install a plugin that hands one in; 'qcompiler plugins' lists plugins"
        )
    if format is not None:
        if format not in EXPORTERS:
            raise QCompilerError(
                f"unknown format {format!r}", expected=f"one of {known}", fix=did_you_mean(format, EXPORTERS)
            )
        return EXPORTERS[format]
    fitting = [e for e in EXPORTERS.values() if path.name.endswith(e.suffix)]
    if len(fitting) != 1:
        names = ", ".join(e.name for e in fitting)
        raise QCompilerError(
            f"{path.name!r} is a file of several formats: {names}" if fitting
            else f"no exporter writes files such as {path.name!r}",
            expected=f"one of {known}", fix="say which one with --format",
        )
    return fitting[0]


def export(program: Program, path: str | Path, format: str | None = None) -> None:
    """Write a program in another format, whole or not at all.

    Args:
        program: a compiled program.
        path: the file; one of this name is replaced.
        format: an exporter's name; by default the one that writes files of this suffix.

    Raises:
        QCompilerError: there is no such exporter, it refuses the program or fails, or the file cannot be written.
    """
    path = Path(path)
    chosen = find_exporter(path, format)
    if path.is_dir():
        raise QCompilerError(f"output {str(path)!r} is a folder", expected="the name of a file")
    try:
        staging = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    except OSError as error:
        raise QCompilerError(f"output {str(path)!r} is not writable: {error}") from error
    try:
        part = staging / path.name
        _run(chosen, program, part)
        part.replace(path)
    except OSError as error:
        raise QCompilerError(f"cannot write {str(path)!r}: {error}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _run(chosen: Exporter, program: Program, part: Path) -> None:
    module = EXPORTERS.definitions()[chosen.name].definer
    try:
        chosen.write(program, part)
    except (QCompilerError, OSError):
        raise
    except Exception as error:
        raise QCompilerError(
            f"exporter {chosen.name!r} failed", found=f"{type(error).__name__}: {error}",
            fix=f"report it to the makers of {module}",
        ) from error
    if not part.is_file():
        raise QCompilerError(f"exporter {chosen.name!r} wrote no file", fix=f"report it to the makers of {module}")
