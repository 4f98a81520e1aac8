"""Arrays in ``.npy`` and ``.npz`` files, for ``qcompiler run``."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from qcompiler.errors import QCompilerError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from qcompiler.ir import Stored

    Array = NDArray[Any]


def read_arrays(path: Path) -> Array | dict[str, Array]:
    """The array of an ``.npy`` file, or the arrays of an ``.npz`` file by name.

    Raises:
        QCompilerError: the file is missing or damaged, is of another kind, or holds Python objects.
    """
    if not path.is_file():
        raise QCompilerError(f"data file {str(path)!r} does not exist", expected="a .npz or .npy file")
    try:
        loaded = np.load(path, allow_pickle=False)
        return loaded if isinstance(loaded, np.ndarray) else {name: loaded[name] for name in loaded.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise QCompilerError(
            f"cannot read data file {str(path)!r}", expected="a .npz or .npy file of plain numbers", found=str(error)
        ) from error


def check_output_file(path: Path) -> None:
    """Refuse a file that cannot be written, before any work is done.

    Raises:
        QCompilerError: its folder does not exist or is not writable, or its name is not that of an ``.npz`` file.
    """
    if path.suffix != ".npz":
        raise QCompilerError(f"output {str(path)!r} is no .npz file", fix=f"name it {path.name}.npz")
    if path.is_dir():
        raise QCompilerError(f"output {str(path)!r} is a folder", expected="the name of a .npz file")
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise QCompilerError(
            f"output {str(path)!r} is not writable", expected="a folder that exists and may be written",
            found=str(path.parent),
        )


def named_arrays(outputs: Mapping[str, Stored]) -> dict[str, Array]:
    """A program's outputs as plain arrays: block floating point as ``NAME.mantissas`` and ``NAME.exponents``.

    Raises:
        QCompilerError: two arrays have one name.
    """
    from qcompiler.ir import BlockArray

    arrays: dict[str, Array] = {}
    for name, stored in outputs.items():
        named = {name: stored}
        if isinstance(stored, BlockArray):
            named = {f"{name}.mantissas": stored.mantissas, f"{name}.exponents": stored.exponents}
        for key, array in named.items():
            if key in arrays:
                raise QCompilerError(
                    f"two arrays of the outputs are called {key!r}", fix="rename an output of the model"
                )
            arrays[key] = np.asanyarray(array)
    return arrays


def write_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write an ``.npz`` file, whole or not at all.

    ``numpy.savez`` takes names as keyword arguments, so that it has no room for an array called "file".

    Raises:
        QCompilerError: it cannot be written.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with zipfile.ZipFile(part, "w") as archive:
            for name, array in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                    np.lib.format.write_array(file, np.asanyarray(array), allow_pickle=False)
        part.replace(path)
    except OSError as error:
        raise QCompilerError(f"cannot write {str(path)!r}: {error}") from error
    finally:
        part.unlink(missing_ok=True)
