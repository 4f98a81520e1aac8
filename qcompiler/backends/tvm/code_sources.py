"""Which source files decide what code a kernel becomes: a change to any other keeps compiled kernels valid."""

from __future__ import annotations

import ast
import hashlib
import inspect
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path

from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.kernel import Kernel

_ROOT = Path(__file__).parents[3]
"""Where the package lies that this module belongs to."""

_FOLLOWED = ("qcompiler.backends.tvm", "qcompiler.numerics")
"""Imports of other packages bring in the graph and its types, which a kernel's code does not depend on."""

_COMPILER = "qcompiler.backends.tvm.object_code"


def source_digest(kernel: Kernel, isa: InstructionSet) -> str:
    """A hash of :func:`source_files`.

    Args:
        kernel: which.
        isa: what it is compiled for.
    """
    return _digest(source_files(kernel, isa))


def source_files(kernel: Kernel, isa: InstructionSet) -> frozenset[Path]:
    """The files of a kernel's class, of all that it holds, of the instruction set, and what they import.

    Of packages other than this one, such as plugins, all files count.
    """
    return _reached(frozenset(_definitions(kernel)) | {type(isa)})


@cache
def _digest(files: frozenset[Path]) -> str:
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(path.read_bytes())
    return digest.hexdigest()


@cache
def _reached(definitions: frozenset[type]) -> frozenset[Path]:
    files: set[Path] = set()
    waiting = _files_of(_COMPILER).union(*map(_sources, definitions))
    while waiting:
        path = waiting.pop()
        if path not in files:
            files.add(path)
            waiting |= _imported(path)
    return frozenset(files)


def _definitions(part: object) -> set[type]:
    """The classes of a kernel, or a part of one, and of all that it holds."""
    if isinstance(part, tuple):
        return set().union(*map(_definitions, part))
    if not is_dataclass(part) or isinstance(part, type):
        return set()
    return {type(part)}.union(*(_definitions(getattr(part, field.name)) for field in fields(part)))


def _sources(definition: type) -> set[Path]:
    """The file of a class of ours; all files of the outermost package that another class belongs to."""
    path = Path(inspect.getfile(definition))
    names = definition.__module__.split(".")
    if names[0] == "qcompiler":
        return {path}
    depth = len(names) - (path.name != "__init__.py")
    # A file that was loaded by its path has no name.
    if not depth or not all(map(str.isidentifier, names)):
        return {path}
    return set(path.parents[depth - 1].rglob("*.py"))


@cache
def _imported(path: Path) -> frozenset[Path]:
    """The files of the followed packages that a file imports, wherever in it."""
    found: set[Path] = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        for name in _imported_names(node):
            if any(name == package or name.startswith(f"{package}.") for package in _FOLLOWED):
                found |= _files_of(name)
    return frozenset(found)


def _imported_names(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        yield node.module
        # What is imported from a package may be one of its modules.
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _files_of(module: str) -> set[Path]:
    """The file of a module; none where the name is something else."""
    path = _ROOT.joinpath(*module.split("."))
    return {found for found in (path.with_suffix(".py"), path / "__init__.py") if found.exists()}
