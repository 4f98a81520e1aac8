"""Compiled kernels on disk, by what decides their code."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import platformdirs

from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.kernel import Kernel
from qcompiler.backends.tvm.object_code import compile_kernel, symbol_of

FOLDER_VARIABLE = "QCOMPILER_CACHE"


def cache_folder() -> Path:
    """Where what may be made again is kept: ``$QCOMPILER_CACHE``, else the system's folder for caches."""
    chosen = os.environ.get(FOLDER_VARIABLE)
    return Path(chosen) if chosen else platformdirs.user_cache_path("qcompiler", appauthor=False)


class KernelCache:
    """Object files of kernels, shared by all programs and processes of a user.

    A kernel's symbol stands for everything that decides its code, so an entry is never out of date. A folder that
    cannot be written makes compiling slower, nothing else.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or cache_folder() / "kernels"
        self.compiled = 0
        self.found = 0

    def object_code(self, kernel: Kernel, isa: InstructionSet) -> bytes:
        """The relocatable object of a kernel, compiled where it is not at hand."""
        path = self.folder / f"{symbol_of(kernel, isa)}.o"
        try:
            code = path.read_bytes()
            if code:
                self.found += 1
                return code
        except OSError:
            pass
        code = compile_kernel(kernel, isa)
        self.compiled += 1
        self._keep(path, code)
        return code

    def _keep(self, path: Path, code: bytes) -> None:
        """Write the file whole or not at all: other processes may read it at any time."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self.folder, delete=False) as file:
                file.write(code)
            os.replace(file.name, path)
        except OSError:
            return
