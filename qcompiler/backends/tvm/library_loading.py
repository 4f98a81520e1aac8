"""Shared libraries in this process: loaded as they are on disk now, and asked what they hold."""

from __future__ import annotations

import ctypes
import shutil
import tempfile
import threading
from pathlib import Path

from qcompiler.errors import QCompilerError

VERSION = 2
"""QCOMPILER_RUNTIME_VERSION of ``qcompiler_runtime.h``, whose structures stand below."""

ALIGNMENT = 64
"""QCOMPILER_ALIGNMENT of the same."""


class UnusableLibrary(QCompilerError):
    """A shared library that this machine cannot run, or that is none of ours."""


class MissingInstructions(UnusableLibrary):
    """A library that needs instructions which this processor lacks."""


class TensorStructure(ctypes.Structure):
    """``qcompiler_tensor``."""

    _fields_ = [
        ("name", ctypes.c_char_p), ("dtype", ctypes.c_char_p), ("rank", ctypes.c_int32),
        ("shape", ctypes.POINTER(ctypes.c_int64)), ("batched", ctypes.c_int32), ("sample_bytes", ctypes.c_int64),
    ]


_Run = ctypes.CFUNCTYPE(
    ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p
)


class ProgramStructure(ctypes.Structure):
    """``qcompiler_program``."""

    _fields_ = [
        ("name", ctypes.c_char_p), ("instructions", ctypes.c_char_p),
        ("inputs", ctypes.c_int32), ("outputs", ctypes.c_int32),
        ("input", ctypes.POINTER(TensorStructure)), ("output", ctypes.POINTER(TensorStructure)),
        ("workspace_bytes", ctypes.c_int64), ("scratch_bytes", ctypes.c_int64),
        ("steps", ctypes.c_int32), ("step_names", ctypes.POINTER(ctypes.c_char_p)),
        ("run", _Run), ("stored", ctypes.POINTER(TensorStructure)),
        ("stored_exponents", ctypes.POINTER(TensorStructure)),
    ]


_lock = threading.Lock()
_loaded: dict[tuple[int, int], tuple[int, int]] = {}
"""Time and size of the files that the dynamic linker has mapped, by device and inode."""


def load_library(path: Path) -> ctypes.CDLL:
    """The library as it is on disk now.

    The dynamic linker gives back a library that it has loaded before, if its name is the same, or its device and inode
    are. So each load goes by a new name; and a file that was overwritten in place is loaded from a copy.

    Raises:
        UnusableLibrary: the linker refuses it.
    """
    with tempfile.TemporaryDirectory() as folder, _lock:
        fresh = Path(folder) / "lib.so"
        try:
            status = path.stat()
            key, stamp = (status.st_dev, status.st_ino), (status.st_mtime_ns, status.st_size)
            if _loaded.setdefault(key, stamp) == stamp:
                fresh.symlink_to(path.resolve())
            else:
                shutil.copyfile(path, fresh)
            return ctypes.CDLL(str(fresh))
        except OSError as error:
            reason = str(error).replace(f"{fresh}: ", "")
            raise UnusableLibrary(
                f"cannot load {path}", found=reason, fix="build it again, on this machine or for it"
            ) from None


def program_of(library: ctypes.CDLL, path: Path) -> ProgramStructure:
    """The program's description; the library's functions get their types.

    Args:
        library: any shared library.
        path: its file, for errors.

    Raises:
        UnusableLibrary: it is none of ours, or of another version.
    """
    foreign = UnusableLibrary(
        f"{path} is no library of this version of qcompiler", expected=f"runtime version {VERSION}",
        fix="compile the program again",
    )
    try:
        if library.qcompiler_library_version() != VERSION:
            raise foreign
        library.qcompiler_library_program.restype = ctypes.POINTER(ProgramStructure)
        library.qcompiler_missing_instructions.argtypes = [ctypes.c_char_p]
        library.qcompiler_missing_instructions.restype = ctypes.c_char_p
        library.qcompiler_pool_create.argtypes = [ctypes.c_int32]
        library.qcompiler_pool_create.restype = ctypes.c_void_p
        library.qcompiler_pool_destroy.argtypes = [ctypes.c_void_p]
        library.qcompiler_pool_destroy.restype = None
        library.qcompiler_pool_threads.argtypes = [ctypes.c_void_p]
    except AttributeError:
        raise foreign from None
    program: ProgramStructure = library.qcompiler_library_program().contents
    return program
