"""Reads the programs that a user names, in any form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from qcompiler.errors import QCompilerError

if TYPE_CHECKING:
    from qcompiler.ir import Graph, Value


def read_named_program(
    path: Path, batch: int | None = None, shapes: Mapping[str, Sequence[int]] | None = None
) -> tuple[Graph, dict[Value, str]]:
    """A program and the name of each of its values: as the ``.qir`` file has it, or else as it would be printed.

    Args:
        path: the folder of a compiled program or of a crash reproducer, an ONNX or a ``.qir`` file.
        batch, shapes: what an ONNX model leaves open.

    Raises:
        QCompilerError: it cannot be read; names it.
    """
    from qcompiler import plugins
    from qcompiler.compilation import read_model
    from qcompiler.ir import read_program_with_names, value_names, verify
    from qcompiler.ir.storage import naming_file

    if path.suffix == ".qir" and not path.is_dir():
        plugins.load()
        graph, names = read_program_with_names(path)
        with naming_file(path):
            verify(graph)
        return graph, {**value_names(graph), **names}
    graph = _read_folder(path) if path.is_dir() else read_model(path, batch=batch, shapes=shapes)
    return graph, value_names(graph)


def _read_folder(folder: Path) -> Graph:
    from qcompiler import plugins
    from qcompiler.pipeline.crash_reproducer import MANIFEST as REPRODUCER
    from qcompiler.pipeline.crash_reproducer import is_reproducer, read_reproducer
    from qcompiler.program import MANIFEST, load

    if is_reproducer(folder):
        plugins.load()
        return read_reproducer(folder).graph
    if not (folder / MANIFEST).is_file():
        raise QCompilerError(
            f"{folder} is no compiled program and no crash reproducer",
            expected=f"the folder of a compiled program, with {MANIFEST}, or of a crash reproducer, with {REPRODUCER}",
            fix="give such a folder, an ONNX model or a .qir file",
        )
    return load(folder).graph
