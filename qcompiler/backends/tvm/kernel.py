"""Kernels: functions compiled once for every shape and arithmetic that a program needs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder as T

from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.lanes import Expr, element, lanes_of


class Role(Enum):
    """What a kernel does with a buffer."""

    INPUT = "input"
    CONSTANT = "constant"
    OUTPUT = "output"
    SCRATCH = "scratch"


@dataclass(frozen=True)
class Argument:
    """A buffer that a kernel takes.

    Attributes:
        name: its name within the kernel.
        dtype: format of its numbers in memory, such as ``uint8``.
        elements: how many numbers the kernel touches at most, those that it reads beyond the end included.
        role: what the kernel does with it. Scratch memory is the worker's own; its contents are undefined.
    """

    name: str
    dtype: str
    elements: int
    role: Role

    @property
    def bytes(self) -> int:
        return self.elements * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class Kernel(ABC):
    """A function ``void kernel(buffer pointers..., int32 begin, int32 end)``. Subclasses are frozen dataclasses.

    Fields describe the function completely: kernels with equal fields are compiled once, and the cache on disk finds
    them by ``repr``. Numbers that differ from layer to layer (zero points, multipliers, bounds, weights) are
    therefore no fields but constant arguments.
    """

    @abstractmethod
    def arguments(self, isa: InstructionSet) -> tuple[Argument, ...]:
        """The buffers in the order of the function's parameters."""

    @abstractmethod
    def items(self, isa: InstructionSet) -> int:
        """Number of independent pieces of work; a call does those in [begin, end)."""

    @abstractmethod
    def work(self) -> int:
        """Roughly how many elementary operations all items take together; small kernels run on one thread."""

    @abstractmethod
    def emit(self, isa: InstructionSet, buffers: Mapping[str, Any], begin: Expr, end: Expr) -> None:
        """Write the body with TVM's builder; ``buffers`` are flat TIR buffers by name."""

    def prim_func(self, isa: InstructionSet, symbol: str) -> Any:
        """The TIR function, with a plain C interface."""
        with IRBuilder() as builder, T.prim_func(s_tir=True):
            T.func_name(symbol)
            T.func_attr({"tirx.noalias": True, "global_symbol": symbol})
            arguments = self.arguments(isa)
            pointers = [T.arg(a.name, T.ptr(a.dtype)) for a in arguments]
            begin, end = T.arg("begin", T.int32()), T.arg("end", T.int32())
            buffers = {
                a.name: T.decl_buffer((a.elements,), a.dtype, data=pointer)
                for a, pointer in zip(arguments, pointers, strict=True)
            }
            self.emit(isa, buffers, begin, end)
        return builder.get()


def load(buffer: Any, offset: Expr, lanes: int = 1) -> Expr:
    """``lanes`` numbers side by side, from element ``offset`` on."""
    if lanes == 1:
        return buffer[offset]
    return buffer.vload([offset], f"{buffer.dtype}x{lanes}")


def store(buffer: Any, offset: Expr, value: Expr) -> None:
    """Put all lanes of ``value`` side by side, from element ``offset`` on."""
    lanes = lanes_of(value)
    T.buffer_store(buffer, value, [offset if lanes == 1 else tirx.Ramp(offset, 1, lanes)])


@contextmanager
def loop(begin: Expr | int, end: Expr | int) -> Iterator[Expr]:
    """A serial loop over [begin, end)."""
    with T.serial(begin, end) as index:
        yield index


def named(value: Expr) -> Expr:
    """``value`` computed once, here, and used by name from now on."""
    # TVM's simplifier looks through names, again and again for each use: long chains of arithmetic would take it
    # hours. It does not look into memory, which LLVM turns back into registers. Addresses stay names: they are short,
    # and gain from being simplified.
    is_address = str(value.ty) == "int32" or "handle" in str(value.ty)
    return T.Bind(value) if is_address else held(value)


def held(value: Expr) -> Expr:
    """As :func:`named`, for any number that is no address."""
    lanes = lanes_of(value)
    buffer = T.alloc_buffer((lanes,), element(value), scope="local")
    store(buffer, 0, value)
    return load(buffer, 0, lanes)


def align_stack(isa: InstructionSet) -> None:
    """Have LLVM align the stack to vectors.

    It does so for variables alone, not for the vectors that it spills once registers run out; those would straddle
    cache lines. A prefetch is the cheapest use that keeps a variable.
    """
    variable = T.alloc_buffer((1,), f"int32x{isa.lanes}", scope="local")
    write, locality, data = (tirx.const(n, "int32") for n in (0, 3, 1))
    T.evaluate(tirx.call_llvm_intrin("void", "llvm.prefetch", T.address_of(variable[0]), write, locality, data))
