"""Compiled kernels on disk, by what decides their code."""

from __future__ import annotations

import hashlib
import os
import tempfile
from contextlib import suppress
from pathlib import Path

import platformdirs

from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.kernel import Kernel
from qcompiler.backends.tvm.object_code import compile_kernel, symbol_of

FOLDER_VARIABLE = "QCOMPILER_CACHE"

_DIGEST_BYTES = hashlib.sha256().digest_size


def cache_folder() -> Path | None:
    """Where what may be made again is kept: ``$QCOMPILER_CACHE``, else the system's folder for caches.

    None for a user without a home folder, for whom nothing is kept.
    """
    chosen = os.environ.get(FOLDER_VARIABLE)
    if chosen:
        return Path(chosen)
    try:
        return platformdirs.user_cache_path("qcompiler", appauthor=False)
    except RuntimeError:
        return None


def write_whole(path: Path, content: bytes) -> bool:
    """Write a file whole or not at all, as other processes may read it at any time; folders are created.

    Returns:
        Whether it was written. Nothing is left behind where it was not.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent)
    except OSError:
        return False
    staging = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        staging.replace(path)
    except OSError:
        return False
    finally:
        with suppress(OSError):
            staging.unlink(missing_ok=True)
    return True


class KernelCache:
    """Object files of kernels, shared by all programs and processes of a user, in the folder ``kernels``.

    A kernel's symbol stands for everything that decides its code, so an entry is never out of date. A folder that
    cannot be written, or a damaged entry, makes compiling slower, nothing else.

    Attributes:
        folder: of the cache, which holds the measured tiles, too; None where nothing is kept.
        compiled: how many kernels were compiled.
        found: how many were at hand.
    """

    def __init__(self, folder: Path | None = None) -> None:
        """Args:
            folder: of the cache; the user's by default.
        """
        self.folder = folder or cache_folder()
        self.compiled = 0
        self.found = 0

    def object_code(self, kernel: Kernel, isa: InstructionSet) -> bytes:
        """The relocatable object of a kernel, compiled where it is not at hand."""
        path = None if self.folder is None else self.folder / "kernels" / f"{symbol_of(kernel, isa)}.kernel"
        code = None if path is None else _read(path)
        if code is not None:
            self.found += 1
            return code
        code = compile_kernel(kernel, isa)
        self.compiled += 1
        if path is not None:
            write_whole(path, hashlib.sha256(code).digest() + code)
        return code


def _read(path: Path) -> bytes | None:
    """The object behind its SHA-256; None for a missing or damaged entry."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    digest, code = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    return code if hashlib.sha256(code).digest() == digest else None
