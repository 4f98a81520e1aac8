"""Programs on disk: ``.qir`` text, with large constants in a ``.safetensors`` file beside it, 4-bit ones packed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from qcompiler.errors import QCompilerError
from qcompiler.ir.graph import Graph
from qcompiler.ir.lexer import TEXT
from qcompiler.ir.packed_constants import load_constants, packed_formats, save_constants
from qcompiler.ir.parser import parse_with_names
from qcompiler.ir.printer import print_with_constants
from qcompiler.ir.value import Value

CONSTANTS_FOLDER = "constants"
"""Dumps of several stages share their constants in a folder of this name, one file each."""


def write_program(graph: Graph, path: Path) -> None:
    """Write ``path`` (a ``.qir`` file) and its constants beside it."""
    text, constants = print_with_constants(graph)
    path.write_text(text, encoding="utf-8")
    path.with_suffix(".safetensors").write_bytes(save_constants(constants, packed_formats(graph)))


def write_dump(graph: Graph, path: Path) -> None:
    """Write ``path`` and those of its constants that the folder does not hold yet."""
    text, constants = print_with_constants(graph)
    path.write_text(text, encoding="utf-8")
    folder = path.parent / CONSTANTS_FOLDER
    folder.mkdir(exist_ok=True)
    packed = packed_formats(graph)
    for name, array in constants.items():
        file = folder / f"{name}.safetensors"
        if not file.exists():
            file.write_bytes(save_constants({name: array}, {n: s for n, s in packed.items() if n == name}))


def read_program(path: Path) -> Graph:
    """Read what :func:`write_program` or :func:`write_dump` wrote.

    Raises:
        QCompilerError: a file is missing, damaged or malformed.
    """
    return read_program_with_names(path)[0]


def read_program_with_names(path: Path) -> tuple[Graph, dict[Value, str]]:
    """Read what :func:`write_program` or :func:`write_dump` wrote, and the name of each value in the text.

    Raises:
        QCompilerError: a file is missing, damaged or malformed; names it.
    """
    text = read_program_text(path)
    beside = path.with_suffix(".safetensors")
    if beside.exists():
        constants: Mapping[str, np.ndarray[Any, Any]] = load_constants(beside)
    else:
        constants = _ConstantsFolder(path.parent / CONSTANTS_FOLDER)
    with naming_file(path):
        return parse_with_names(text, constants)


def read_program_text(path: Path) -> str:
    """The text of a ``.qir`` file.

    Raises:
        QCompilerError: it cannot be read, or is no text.
    """
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise QCompilerError(f"cannot read program {str(path)!r}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise QCompilerError(f"cannot read program {str(path)!r}: it is no UTF-8 text") from error


@contextmanager
def naming_file(path: Path) -> Iterator[None]:
    """A scope whose errors name the program's file.

    Raises:
        QCompilerError: what was raised inside, with ``path`` before the problem.
    """
    try:
        yield
    except QCompilerError as error:
        problem = error.problem.removeprefix(f"{TEXT}, ")
        raise QCompilerError(
            f"{path}: {problem}", layer=error.layer, expected=error.expected, found=error.found, fix=error.fix
        ) from error


class _ConstantsFolder(dict[str, Any]):
    """Constants by name, read from a folder when first asked for."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or (self.folder / f"{name}.safetensors").exists()

    def __missing__(self, name: str) -> np.ndarray[Any, Any]:
        array = self[name] = load_constants(self.folder / f"{name}.safetensors")[name]
        return array
