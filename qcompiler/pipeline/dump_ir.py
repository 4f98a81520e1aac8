"""The instrument that writes the program after each pass to a folder."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from qcompiler.errors import QCompilerError
from qcompiler.ir import Graph, write_dump
from qcompiler.pipeline.compiler_pass import Pass
from qcompiler.pipeline.instrument import Instrument

_DUMP_NAME = re.compile(r"\d{3,}_.+\.qir")


class DumpIR(Instrument):
    """Writes ``000_import.qir``, the program before the first pass, and ``NNN_pass.qir`` after each.

    Large constants lie in the subfolder ``constants``, one file for each content, written once. Every dump reads back
    with :func:`qcompiler.ir.read_program`. Each run begins by removing the dumps of the one before, so that the
    programs in a folder belong together; files of other names stay, and so do constants.

    Args:
        folder: where to write; it is made where it does not exist.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.count = 0

    def begin(self, graph: Graph, passes: Sequence[Pass]) -> None:
        """Remove the dumps of an earlier run and write the program before the first pass.

        Raises:
            QCompilerError: the folder cannot be written.
        """
        self.count = 0
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for path in self.folder.iterdir():
                if _DUMP_NAME.fullmatch(path.name) and path.is_file():
                    path.unlink()
        except OSError as error:
            raise self._unwritable(error) from error
        self._write("import", graph)

    def after_pass(self, index: int, current: Pass, graph: Graph, changed: bool) -> None:
        """Write the program after a pass.

        Raises:
            QCompilerError: the folder cannot be written.
        """
        self._write(current.name, graph)

    def _write(self, name: str, graph: Graph) -> None:
        try:
            write_dump(graph, self.folder / f"{self.count:03d}_{name}.qir")
        except OSError as error:
            raise self._unwritable(error) from error
        self.count += 1

    def _unwritable(self, error: OSError) -> QCompilerError:
        return QCompilerError(f"cannot write IR dumps to {self.folder}: {error}")
