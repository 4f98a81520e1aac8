"""Shared libraries in this process, called without TVM and without copying numbers."""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcompiler.backends.tvm.library_loading import (
    ALIGNMENT,
    MissingInstructions,
    UnusableLibrary,
    load_library,
    program_of,
)
from qcompiler.errors import QCompilerError, did_you_mean
from qcompiler.ir import BlockArray, Stored

Array = NDArray[Any]

MOST_THREADS = 1024
"""As many as ``set_threads`` of a library's interface to TVM takes."""
_KEPT_POOLS = 2
"""Numbers of threads, the latest, whose threads wait for the next run."""


@dataclass(frozen=True)
class LibraryTensor:
    """An input or output.

    Attributes:
        name: its name in the user's model.
        dtype: format of its numbers.
        shape: for one sample.
        batched: whether axis 0 runs over samples; ``shape[0]`` is then the rows of one.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    batched: bool

    def shape_of(self, samples: int) -> tuple[int, ...]:
        """The shape for a number of samples."""
        return (samples * self.shape[0], *self.shape[1:]) if self.batched else self.shape


class _Pool:
    """A library's threads, which end with the last of those who hold this.

    Attributes:
        address: for the library; None, its null pointer, where the caller works alone.
        threads: how many work, the caller's included.
        idle: workspaces for that many that no call uses.
    """

    def __init__(self, library: ctypes.CDLL, threads: int) -> None:
        self.address: int | None = library.qcompiler_pool_create(threads)
        self.threads = int(library.qcompiler_pool_threads(self.address))
        self.idle: list[Array] = []
        # At the interpreter's exit threads may still run: sleeping ones then end with the process.
        weakref.finalize(self, library.qcompiler_pool_destroy, self.address).atexit = False


class PreparedRun:
    """A program about to run: inputs are read where they stand, and each run writes to the same outputs.

    A run is one call into the library. Change an input's numbers in place to run on others. Not for several threads at
    the same time; prepare a run for each.

    Attributes:
        inputs, outputs: arrays by name.
        threads: how many work; fewer than asked for where the system gives no more.
    """

    def __init__(
        self, library: NativeLibrary, pool: _Pool, inputs: Mapping[str, Array], outputs: Mapping[str, Array],
        workspace: Array, call: Callable[[], int],
    ) -> None:
        """See :meth:`NativeLibrary.prepare`, which makes these."""
        self.inputs = inputs
        self.outputs = outputs
        self._library = library
        self._call = call
        # Handed over by address: kept, as are the library and its threads.
        self._workspace = workspace
        self._pool = pool
        self.threads = pool.threads

    def run(self) -> None:
        """Compute the outputs.

        Raises:
            UnusableLibrary: the library reports a failure.
        """
        status = self._call()
        if status:
            raise UnusableLibrary(f"{self._library.name} stopped with status {status}")


class NativeLibrary:
    """A program in a shared library, loaded into this process. Any number of threads may run it at the same time.

    Attributes:
        name: the program's C name.
        instructions: instruction-set extensions that it needs.
        inputs, outputs: what it takes and gives.
        stored: for each output the integers that stand behind it, of block floating point the mantissas.
        stored_exponents: for each output those of its mantissas, without a name where it has none; or none at all.
        step_names: the user's layers, for each step.
    """

    def __init__(self, path: Path) -> None:
        """Load a library.

        Raises:
            MissingInstructions: the processor lacks some that it needs.
            UnusableLibrary: it is damaged, or built for another machine or another version of qcompiler.
        """
        self._library = load_library(path)
        self._program = program_of(self._library, path)
        self.name = _text(self._program.name)
        self.instructions = tuple(_text(self._program.instructions).split())
        missing = self._library.qcompiler_missing_instructions(self._program.instructions)
        if missing:
            raise MissingInstructions(
                f"{path} needs instructions that this processor lacks", expected=" ".join(self.instructions),
                found=f"no {_text(missing).replace(' ', ', no ')}",
                fix="compile with --cpu generic, or for this machine's processor",
            )
        count = self._program.outputs
        self.inputs = _tensors(self._program.input, self._program.inputs)
        self.outputs = _tensors(self._program.output, count)
        self.stored = _tensors(self._program.stored, count)
        exponents = self._program.stored_exponents
        self.stored_exponents = _tensors(exponents, count if exponents else 0)
        self.step_names = tuple(_text(self._program.step_names[i]) for i in range(self._program.steps))
        self._lock = threading.Lock()
        self._pools: OrderedDict[tuple[int, int], _Pool] = OrderedDict()

    def run(self, feeds: Mapping[str, Array], threads: int = 1) -> dict[str, Array]:
        """Outputs by name.

        Args:
            feeds: an array for each input; contiguous ones are read in place.
            threads: how many run each op at most, the caller's included.

        Raises:
            QCompilerError: an input is missing, unknown, or has another shape or format.
        """
        return self._run(feeds, threads, with_stored=False)[0]

    def run_with_stored(self, feeds: Mapping[str, Array], threads: int = 1) -> tuple[dict[str, Array], list[Stored]]:
        """Outputs by name, and for each output, in order, what stands behind it. See :meth:`run`."""
        return self._run(feeds, threads, with_stored=True)

    def prepare(self, feeds: Mapping[str, Array], threads: int = 1) -> PreparedRun:
        """All that comes before a run, done once for many of them.

        Args:
            feeds: an array for each input. Contiguous ones are read in place by every run, others are copied now.
            threads: how many run each op at most, the caller's included.

        Raises:
            QCompilerError: an input is missing, unknown, or has another shape or format.
        """
        arrays, samples = self._take(feeds)
        outputs = [np.empty(t.shape_of(samples), t.dtype) for t in self.outputs]
        inputs = (ctypes.c_void_p * max(len(arrays), 1))(*(a.ctypes.data for a in arrays))
        places = (ctypes.c_void_p * max(3 * len(outputs), 1))(*(a.ctypes.data for a in outputs))
        pool = self._pool(threads)
        workspace = self._new_workspace(pool.threads)
        return PreparedRun(
            self,
            pool,
            {t.name: a for t, a in zip(self.inputs, arrays, strict=True)},
            {t.name: a for t, a in zip(self.outputs, outputs, strict=True)},
            workspace,
            partial(self._program.run, inputs, places, samples, workspace.ctypes.data, pool.address, None),
        )

    def working_threads(self, threads: int) -> int:
        """How many of the wanted threads there are: fewer where the system gives no more.

        Raises:
            QCompilerError: no program runs on that many.
        """
        return self._pool(threads).threads

    def profile(self, feeds: Mapping[str, Array], threads: int = 1, repeat: int = 20) -> list[tuple[str, float]]:
        """Nanoseconds of each step, in the order in which they run: medians over ``repeat`` runs, after one to warm up.

        Raises:
            QCompilerError: an input is wrong.
        """
        self._run(feeds, threads, with_stored=False)
        measured = np.zeros((repeat, len(self.step_names)), np.uint64)
        for row in measured:
            self._run(feeds, threads, with_stored=False, nanoseconds=row)
        medians = np.median(measured, axis=0) if repeat else np.zeros(len(self.step_names))
        return list(zip(self.step_names, medians.tolist(), strict=True))

    def _run(
        self, feeds: Mapping[str, Array], threads: int, *, with_stored: bool, nanoseconds: Array | None = None
    ) -> tuple[dict[str, Array], list[Stored]]:
        arrays, samples = self._take(feeds)
        outputs = [np.empty(t.shape_of(samples), t.dtype) for t in self.outputs]
        stored, exponents = (
            [np.empty(t.shape_of(samples), t.dtype) for t in tensors] if with_stored else []
            for tensors in (self.stored, self.stored_exponents)
        )
        inputs = (ctypes.c_void_p * max(len(arrays), 1))(*(a.ctypes.data for a in arrays))
        places = (ctypes.c_void_p * max(3 * len(outputs), 1))(
            *(a.ctypes.data for a in [*outputs, *stored, *exponents])
        )
        pool = self._pool(threads)
        workspace = self._take_workspace(pool)
        clock = None if nanoseconds is None else nanoseconds.ctypes.data
        status = self._program.run(inputs, places, samples, workspace.ctypes.data, pool.address, clock)
        with self._lock:
            pool.idle.append(workspace)
        if status:
            raise UnusableLibrary(f"{self.name} stopped with status {status}")
        behind: list[Stored] = list(stored)
        for index, (tensor, own) in enumerate(zip(self.stored_exponents, exponents, strict=False)):
            if tensor.name:
                behind[index] = BlockArray(stored[index], own)
        return {t.name: a for t, a in zip(self.outputs, outputs, strict=True)}, behind

    def _take(self, feeds: Mapping[str, Array]) -> tuple[list[Array], int]:
        """The inputs' arrays in order, contiguous, and how many samples they hold."""
        known = [t.name for t in self.inputs]
        for name in feeds:
            if name not in known:
                raise QCompilerError(
                    f"the program has no input {name!r}", expected=", ".join(map(repr, known)),
                    fix=did_you_mean(name, known),
                )
        arrays, samples, teller = [], None, ""
        for tensor in self.inputs:
            if tensor.name not in feeds:
                raise QCompilerError(f"input {tensor.name!r} is missing", fix="hand in an array for it")
            array = np.asarray(feeds[tensor.name])
            _check(tensor, array)
            if tensor.batched and tensor.shape[0]:
                count = array.shape[0] // tensor.shape[0]
                if samples is not None and count != samples:
                    raise QCompilerError(
                        f"input {tensor.name!r} holds another number of samples than {teller!r}",
                        expected=str(samples), found=str(count), fix="hand in as many of each",
                    )
                samples, teller = count, tensor.name
            arrays.append(np.ascontiguousarray(array).reshape(array.shape))
        return arrays, 1 if samples is None else samples

    def _pool(self, threads: int) -> _Pool:
        """The pool for a number of threads. A forked process has none of its parent's threads."""
        is_count = isinstance(threads, int | np.integer) and not isinstance(threads, bool)
        if not is_count or not 1 <= threads <= MOST_THREADS:
            raise QCompilerError(
                f"a program runs on 1 to {MOST_THREADS} threads", found=repr(threads), fix="such as threads=1"
            )
        key = (os.getpid(), int(threads))
        with self._lock:
            if key not in self._pools:
                self._pools[key] = _Pool(self._library, int(threads))
            self._pools.move_to_end(key)
            if len(self._pools) > _KEPT_POOLS:
                self._pools.popitem(last=False)
            return self._pools[key]

    def _take_workspace(self, pool: _Pool) -> Array:
        """Memory that no other call uses: aligned, not cleared."""
        with self._lock:
            if pool.idle:
                return pool.idle.pop()
        return self._new_workspace(pool.threads)

    def _new_workspace(self, threads: int) -> Array:
        size = self._program.workspace_bytes + threads * self._program.scratch_bytes
        raw = np.empty(size + ALIGNMENT, np.uint8)
        start = -raw.ctypes.data % ALIGNMENT
        return raw[start : start + size]


def _check(tensor: LibraryTensor, array: Array) -> None:
    if array.dtype != tensor.dtype:
        raise QCompilerError(
            f"input {tensor.name!r} has another format", expected=str(tensor.dtype), found=str(array.dtype),
            fix=f"convert it, for instance by array.astype({str(tensor.dtype)!r})",
        )
    expected = list(tensor.shape)
    if tensor.batched and array.ndim == len(expected) and expected[0] and array.shape[0] % expected[0] == 0:
        expected[0] = array.shape[0]
    if list(array.shape) != expected:
        sizes = [str(size) for size in tensor.shape]
        if tensor.batched:
            sizes[0] = "N" if sizes[0] == "1" else f"N * {sizes[0]}"
        raise QCompilerError(
            f"input {tensor.name!r} has another shape", expected=f"({', '.join(sizes)})", found=str(array.shape),
            fix="reshape it",
        )


def _tensors(array: Any, count: int) -> tuple[LibraryTensor, ...]:
    return tuple(
        LibraryTensor(
            _text(t.name), np.dtype(_text(t.dtype)), tuple(t.shape[i] for i in range(t.rank)), bool(t.batched)
        )
        for t in array[:count]
    )


def _text(data: bytes) -> str:
    return data.decode("utf-8")
