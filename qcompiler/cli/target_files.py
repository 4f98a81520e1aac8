"""The files that ``qcompiler targets`` writes: a new descriptor, the JSON Schema."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from qcompiler.errors import QCompilerError

SCHEMA_NAME = "qcompiler-target.schema.json"
"""The file that a new descriptor names as its schema."""


def write_descriptor(name: str, extends: str, output: Path | None, force: bool) -> Path:
    """Write a descriptor that extends another one.

    Args:
        name: of the new target.
        extends: a target, or the path of a ``.toml`` file.
        output: the new file; ``NAME.toml`` by default.
        force: replace a file that is there.

    Returns:
        The file.

    Raises:
        QCompilerError: the name is malformed or taken, there is no such target, the file is there, is the one that is
            extended, or cannot be written. No file is changed.
    """
    from qcompiler.target import TARGETS, check_name, descriptor_template, load_target, read_descriptor

    check_name(name)
    if name in TARGETS:
        raise QCompilerError(f"there is a target {name!r} already", fix="choose another name")
    base = load_target(extends)
    path = output if output is not None else Path(f"{name}.toml")
    if path.suffix != ".toml":
        raise QCompilerError(f"output {str(path)!r} is no descriptor", expected="a file that ends in .toml")
    if extends.endswith(".toml"):
        if path.resolve() == Path(extends).resolve():
            raise QCompilerError(f"{path} cannot extend itself", fix="choose another output")
        extends = Path(os.path.relpath(Path(extends).resolve(), path.resolve().parent)).as_posix()
    write_text(path, descriptor_template(name, base, extends, f"./{SCHEMA_NAME}"), force)
    read_descriptor(path)
    return path


def write_text(path: Path, text: str, force: bool) -> None:
    """Write a file whole or not at all.

    Raises:
        QCompilerError: it is there and ``force`` is not given, or it cannot be written.
    """
    if path.is_dir() or (path.exists() and not force):
        raise QCompilerError(
            f"{path} is there already", fix="choose another output" if path.is_dir() else "--force replaces it"
        )
    try:
        with tempfile.TemporaryDirectory(prefix=f".{path.stem}-", dir=path.parent) as staging:
            part = Path(staging) / path.name
            part.write_text(text, encoding="utf-8")
            part.replace(path)
    except OSError as error:
        # The error itself names the folder that the file is made in.
        raise QCompilerError(f"cannot write {str(path)!r}: {error.strerror or error}") from error
