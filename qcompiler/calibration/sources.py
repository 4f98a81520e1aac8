"""Where samples come from: arrays in memory, ``.npy`` and ``.npz`` files, spooled iterables.

Each source streams one input's samples in order, as often as asked, without holding all of them.
"""

from __future__ import annotations

import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from qcompiler.errors import QCompilerError

Array = NDArray[Any]


class Source(Protocol):
    """The samples of one input: an array of ``shape``, read in slices of the leading axis."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    def stream(self, size: int) -> Iterator[Array]:
        """Slices of ``size`` rows; the last may be shorter."""
        ...


@dataclass(frozen=True)
class ArraySource:
    """An array in memory, or mapped from a file."""

    array: Array

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.array.dtype

    def stream(self, size: int) -> Iterator[Array]:
        for start in range(0, len(self.array), size):
            yield np.ascontiguousarray(self.array[start : start + size])


@dataclass(frozen=True)
class NpzMember:
    """One array of an ``.npz`` file, decompressed as it is read."""

    path: Path
    member: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran_order: bool

    def stream(self, size: int) -> Iterator[Array]:
        try:
            yield from self.decompressed(size)
        except (OSError, zipfile.BadZipFile, zlib.error, ValueError, EOFError) as error:
            raise QCompilerError(f"cannot read {self.path}: {error}", fix="make the file again") from error

    def decompressed(self, size: int) -> Iterator[Array]:
        """Slices of ``size`` rows, read as they are asked for."""
        if self.fortran_order:
            with np.load(self.path) as archive:
                yield from ArraySource(archive[self.member.removesuffix(".npy")]).stream(size)
            return
        row = self.shape[1:]
        row_bytes = int(np.prod(row, dtype=np.int64)) * self.dtype.itemsize
        with zipfile.ZipFile(self.path) as archive, archive.open(self.member) as file:
            _read_header(file)
            for start in range(0, self.shape[0], size):
                count = min(size, self.shape[0] - start)
                data = file.read(count * row_bytes)
                if len(data) != count * row_bytes:
                    raise QCompilerError(f"{self.path}: array {self.member!r} is truncated")
                yield np.frombuffer(data, self.dtype).reshape(count, *row)


@dataclass(frozen=True)
class FileSequence:
    """Samples spread over files: each holds one sample, or several along a leading axis."""

    parts: Sequence[Source]
    is_single_sample: Sequence[bool]

    @property
    def shape(self) -> tuple[int, ...]:
        rows = sum(1 if one else p.shape[0] for p, one in zip(self.parts, self.is_single_sample, strict=True))
        first = self.parts[0].shape
        return (rows, *(first if self.is_single_sample[0] else first[1:]))

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.parts[0].dtype

    def stream(self, size: int) -> Iterator[Array]:
        pending: list[Array] = []
        held = 0
        for part, one in zip(self.parts, self.is_single_sample, strict=True):
            pieces = (np.concatenate(list(part.stream(1 << 20)))[None] for _ in (0,)) if one else part.stream(size)
            for piece in pieces:
                pending.append(piece)
                held += len(piece)
                while held >= size:
                    joined = np.concatenate(pending)
                    yield joined[:size]
                    pending, held = [joined[size:]], held - size
        if held:
            yield np.concatenate(pending)


def npz_members(path: Path) -> dict[str, NpzMember]:
    """The arrays of an ``.npz`` file, by name; only headers are read.

    Raises:
        QCompilerError: not an ``.npz`` file, a damaged one, or one that holds Python objects.
    """
    members = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if name.endswith(".npy"):
                    with archive.open(name) as file:
                        shape, fortran_order, dtype = _read_header(file)
                    members[name.removesuffix(".npy")] = NpzMember(path, name, shape, dtype, fortran_order)
    except (OSError, zipfile.BadZipFile, ValueError, EOFError) as error:
        raise QCompilerError(f"cannot read {path}: {error}", expected="a .npz file written by numpy.savez") from error
    for name, member in members.items():
        if member.dtype.hasobject:
            raise QCompilerError(f"{path}: array {name!r} holds Python objects", expected="plain numbers")
    return members


def npy_source(path: Path) -> ArraySource:
    """An ``.npy`` file, mapped into memory.

    Raises:
        QCompilerError: not an ``.npy`` file, or one that holds Python objects.
    """
    try:
        return ArraySource(np.load(path, mmap_mode="r", allow_pickle=False))
    except (OSError, ValueError, EOFError) as error:
        raise QCompilerError(f"cannot read {path}: {error}", expected="a .npy file written by numpy.save") from error


class Spool:
    """Samples written to a temporary file as they come, so that a one-shot iterator can be read again."""

    def __init__(self, dtype: np.dtype[Any], row: tuple[int, ...]) -> None:
        # Open as long as the spool lives; the system removes it when it is closed.
        self.file: IO[bytes] = tempfile.TemporaryFile(prefix="qcompiler-samples-")  # noqa: SIM115
        self.dtype = dtype
        self.row = row
        self.count = 0

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.count, *self.row)

    def append(self, rows: Array) -> None:
        """Add rows along the leading axis."""
        self.file.write(np.ascontiguousarray(rows).tobytes())
        self.count += len(rows)

    def stream(self, size: int) -> Iterator[Array]:
        row_bytes = int(np.prod(self.row, dtype=np.int64)) * self.dtype.itemsize
        for start in range(0, self.count, size):
            count = min(size, self.count - start)
            self.file.seek(start * row_bytes)
            yield np.frombuffer(self.file.read(count * row_bytes), self.dtype).reshape(count, *self.row)


def _read_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, order and dtype from an ``.npy`` header."""
    version = npy.read_magic(file)
    if version == (1, 0):
        return npy.read_array_header_1_0(file)
    return npy.read_array_header_2_0(file)
