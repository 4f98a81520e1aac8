"""Reads the programs that a user names, in any form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qcompiler.ir import Graph, Value


def read_named_program(
    path: Path, batch: int | None = None, shapes: Mapping[str, Sequence[int]] | None = None
) -> tuple[Graph, dict[Value, str]]:
    """A program and the name of each of its values: as the ``.qir`` file has it, or else as it would be printed.

    Args:
        path: a compiled program's folder, an ONNX or a ``.qir`` file.
        batch, shapes: what an ONNX model leaves open.

    Raises:
        QCompilerError: it cannot be read.
    """
    from qcompiler import plugins
    from qcompiler.compilation import read_model
    from qcompiler.ir import read_program_with_names, value_names, verify
    from qcompiler.program import load

    if path.suffix == ".qir" and not path.is_dir():
        plugins.load()
        graph, names = read_program_with_names(path)
        verify(graph)
        return graph, {**value_names(graph), **names}
    graph = load(path).graph if path.is_dir() else read_model(path, batch=batch, shapes=shapes)
    return graph, value_names(graph)
