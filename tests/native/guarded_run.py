"""Runs a native program on memory that ends where its numbers end: any access beyond it ends the process.

Usage: ``guarded_run.py SIDE LIBRARY INPUTS OUTPUTS``. ``SIDE`` is ``end``, where what follows an array is out of
bounds, or ``start``, where what precedes it is. ``INPUTS`` holds an array for each input, in order, and ``OUTPUTS``
receives one for each output and then for each output's stored integers, both as ``.npz``.
"""

from __future__ import annotations

import ctypes
import math
import mmap
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcompiler.backends.tvm.library_loading import ALIGNMENT
from qcompiler.backends.tvm.native_library import NativeLibrary

Array = NDArray[Any]

SIDES = ("start", "end")

_PROT_NONE = 0


def guarded_array(shape: tuple[int, ...], dtype: Any, side: str) -> Array:
    """An array of zeros between two pages that no one may touch, adjoining the one at its ``side``."""
    dtype = np.dtype(dtype)
    count = math.prod(shape)
    size = count * dtype.itemsize
    pages = max(1, -(-size // mmap.PAGESIZE))
    memory = mmap.mmap(-1, (pages + 2) * mmap.PAGESIZE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    protect: Callable[..., int] = ctypes.CDLL(None, use_errno=True).mprotect
    for page in (0, pages + 1):
        at = ctypes.c_void_p(address + page * mmap.PAGESIZE)
        if protect(at, ctypes.c_size_t(mmap.PAGESIZE), _PROT_NONE):
            raise OSError(ctypes.get_errno(), "mprotect failed")
    behind = (pages + 1) * mmap.PAGESIZE
    offset = behind - size if side == "end" else mmap.PAGESIZE
    return np.frombuffer(memory, dtype, count, offset).reshape(shape)


def run_guarded(library: NativeLibrary, feeds: list[Array], samples: int, side: str) -> list[Array]:
    """Outputs, what stands behind them, and its exponents, on one thread; the workspace is guarded as well."""

    def places(arrays: list[Array | None]) -> Any:
        return (ctypes.c_void_p * max(len(arrays), 1))(*(None if a is None else a.ctypes.data for a in arrays))

    inputs = [guarded_array(a.shape, a.dtype, side) for a in feeds]
    for array, numbers in zip(inputs, feeds, strict=True):
        array[...] = numbers
    results = [guarded_array(t.shape_of(samples), t.dtype, side) for t in (*library.outputs, *library.stored)]
    exponents = [
        guarded_array(t.shape_of(samples), t.dtype, side) if t.name else None for t in library.stored_exponents
    ] or [None] * len(library.outputs)
    program = library._program
    size = -(-(program.workspace_bytes + program.scratch_bytes) // ALIGNMENT) * ALIGNMENT
    workspace = guarded_array((size,), np.uint8, side)
    status = program.run(places([*inputs]), places([*results, *exponents]), samples, workspace.ctypes.data, None, None)
    assert status == 0
    for array, numbers in zip(inputs, feeds, strict=True):
        assert array.tobytes() == numbers.tobytes(), "the program wrote to an input"
    return [*results, *(e for e in exponents if e is not None)]


def main(side: str, library: str, inputs: str, outputs: str) -> None:
    """See the module."""
    with np.load(inputs) as archive:
        samples = int(archive["samples"])
        feeds = [archive[f"input_{i}"] for i in range(len(archive.files) - 1)]
    results = run_guarded(NativeLibrary(Path(library)), feeds, samples, side)
    np.savez(outputs, *results)


if __name__ == "__main__":
    main(*sys.argv[1:])
