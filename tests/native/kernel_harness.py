"""Kernels on their own: compiled, linked and called on numpy arrays."""

from __future__ import annotations

import atexit
import ctypes
import importlib
import pkgutil
import shutil
import tempfile
from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from qcompiler.backends.tvm import instruction_sets
from qcompiler.backends.tvm.host import host_architecture, host_features
from qcompiler.backends.tvm.instruction_set import INSTRUCTION_SETS, InstructionSet
from qcompiler.backends.tvm.kernel import Argument, Kernel, Role
from qcompiler.backends.tvm.object_code import compile_kernel, symbol_of
from qcompiler.backends.tvm.toolchain import find_toolchain

_toolchain = cache(find_toolchain)

Array = NDArray[Any]

GUARD = 64
"""Bytes behind every buffer. Kernels may read them, but not write them."""


def run_kernel(
    kernel: Kernel, isa: InstructionSet, arrays: dict[str, Array], begin: int = 0, end: int | None = None
) -> None:
    """Call a kernel in place, on copies of ``arrays`` that are followed by guard bytes.

    Args:
        kernel: which.
        isa: what to compile it for.
        arrays: a flat or shaped array for every argument that is no scratch memory, by name. Outputs are updated.
        begin, end: the items of work; by default all.

    Raises:
        AssertionError: the kernel wrote behind a buffer, or to something that is no output.
    """
    buffers = {}
    for argument in kernel.arguments(isa):
        array = arrays.get(argument.name)
        if array is None:
            assert argument.role is Role.SCRATCH, f"argument {argument.name} is missing"
            array = np.zeros(argument.elements, argument.dtype)
        assert array.dtype == np.dtype(argument.dtype), f"{argument.name}: {array.dtype} for {argument.dtype}"
        buffers[argument.name] = _Guarded(argument, np.ascontiguousarray(array))
    function = _function(kernel, isa)
    function(*(b.pointer for b in buffers.values()), begin, kernel.items(isa) if end is None else end)
    for name, buffer in buffers.items():
        buffer.check()
        if buffer.argument.role is Role.OUTPUT:
            arrays[name][...] = buffer.array.reshape(arrays[name].shape)


class _Guarded:
    """A copy of an array, 64-byte aligned, with guard bytes behind it."""

    def __init__(self, argument: Argument, array: Array) -> None:
        # Scratch memory is zeroed here but may hold anything elsewhere, so it starts out as garbage.
        self.argument, self.before = argument, array.copy()
        pattern = np.random.default_rng(array.nbytes).integers(0, 256, array.nbytes + 2 * GUARD, np.uint8)
        start = -pattern.ctypes.data % GUARD
        self.memory = pattern
        self.array = pattern[start : start + array.nbytes].view(array.dtype)
        self.behind = pattern[start + array.nbytes :]
        if argument.role is not Role.SCRATCH:
            self.array[...] = array.reshape(-1)
        over_read = argument.elements * array.dtype.itemsize - array.nbytes
        assert over_read <= GUARD, f"{argument.name} reads {over_read} bytes behind its end"
        self.guard_before = self.behind.copy()
        self.pointer = ctypes.c_void_p(self.array.ctypes.data)

    def check(self) -> None:
        name = self.argument.name
        assert (self.behind == self.guard_before).all(), f"wrote behind the end of {name}"
        if self.argument.role in (Role.INPUT, Role.CONSTANT):
            assert self.array.tobytes() == self.before.tobytes(), f"wrote to {name}, which is no output"


@cache
def _function(kernel: Kernel, isa: InstructionSet) -> Any:
    symbol = symbol_of(kernel, isa)
    code, library = (_libraries() / f"{symbol}.{suffix}" for suffix in ("o", "so"))
    code.write_bytes(compile_kernel(kernel, isa))
    _toolchain().link_shared([code], library)
    function = ctypes.CDLL(str(library))[symbol]
    function.restype = None
    arguments = kernel.arguments(isa)
    function.argtypes = [ctypes.c_void_p] * len(arguments) + [ctypes.c_int32] * 2
    return function


@cache
def _libraries() -> Path:
    """Where libraries stay while this process runs: the loader takes a file in a freed place for the one before it."""
    folder = Path(tempfile.mkdtemp(prefix="kernels-"))
    atexit.register(shutil.rmtree, folder)
    return folder


NO_LOOKUPS = ("avx512-vbmi",)
"""Sets that only add to what table lookups use: other kernels are written in the same way for a set that is tested."""

NO_PRODUCTS = (*NO_LOOKUPS, "sse2")
"""As above, with those that only add to what sums of products use."""


def isa_parameters(but: Collection[str] = ()) -> list[Any]:
    """Parameters of a test: every instruction set that is ever executed; those that this processor lacks are skipped.

    Sets that the project cannot execute are run all the same where a processor has them.

    Args:
        but: names of sets that are left out.
    """
    for module in pkgutil.iter_modules(instruction_sets.__path__, f"{instruction_sets.__name__}."):
        importlib.import_module(module.name)
    parameters = []
    for isa in INSTRUCTION_SETS.values():
        missing = missing_features(isa)
        if (isa.executed or not missing) and isa.name not in but:
            marks = [pytest.mark.skip(reason=f"this processor lacks {missing}")] if missing else []
            parameters.append(pytest.param(isa, id=isa.name, marks=marks))
    return parameters


def isa_fixture(but: Collection[str] = ()) -> Any:
    """A fixture that is each of :func:`isa_parameters` in turn; its name is that of the variable it is assigned to."""

    @pytest.fixture(params=isa_parameters(but))
    def fixture(request: pytest.FixtureRequest) -> InstructionSet:
        found: InstructionSet = request.param
        return found

    return fixture


def missing_features(isa: InstructionSet) -> str:
    """What this processor lacks to run an instruction set's code; empty where nothing is missing."""
    if isa.architecture not in ("", host_architecture()):
        return isa.architecture
    return ", ".join(sorted(set(isa.features) - host_features()))
