"""A program as calls of kernels on buffers, and what builds one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.kernel import Argument, Kernel, Role
from qcompiler.backends.tvm.kernels.movement import contiguous_copy
from qcompiler.backends.tvm.tile_choices import TileChoices
from qcompiler.errors import QCompilerError
from qcompiler.ir import BlockFloat, Value
from qcompiler.ir.constant_array import ConstantArray
from qcompiler.ir.dimension import static_shape
from qcompiler.ir.types import block_float_grid
from qcompiler.ops.block_conversion import fixed_grid
from qcompiler.ops.constant import constant_tensor, constant_value

Array = NDArray[Any]

OVER_READ = 64
"""Bytes that kernels may read behind a buffer."""


class Home(Enum):
    """Where a buffer lives."""

    INPUT = "input"
    OUTPUT = "output"
    CONSTANT = "constant"
    WORKSPACE = "workspace"


@dataclass(eq=False)
class Buffer:
    """Numbers side by side in memory.

    Attributes:
        dtype: format of one number.
        elements: how many.
        home: where it lives.
        index: which of its home's buffers it is, in the order in which they were made.
    """

    dtype: str
    elements: int
    home: Home
    index: int

    @property
    def bytes(self) -> int:
        return self.elements * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class View:
    """A buffer from some byte on."""

    buffer: Buffer
    offset: int = 0

    @property
    def item_bytes(self) -> int:
        """Bytes of one number."""
        return np.dtype(self.buffer.dtype).itemsize

    def behind(self, count: int) -> View:
        """The same buffer from ``count`` numbers farther on."""
        return View(self.buffer, self.offset + count * self.item_bytes)


@dataclass(frozen=True)
class Call:
    """One kernel at work.

    Attributes:
        kernel: which.
        views: a view for each argument that is no scratch memory, in order.
        label: the user's layers, or the op where it belongs to none.
    """

    kernel: Kernel
    views: tuple[View, ...]
    label: str


@dataclass
class KernelProgram:
    """Calls in order, for one sample.

    Attributes:
        isa: the instruction set that the kernels are meant for.
        calls: what runs.
        inputs, outputs: buffers that the caller hands in.
        stored: for each output the integers that stand behind it, which the caller may ask for; they outlive the
            last call.
        stored_exponents: for each output the exponents of what is stored; None where it is no block floating point.
        constants: arrays by index.
        workspace: buffers that live between calls.
    """

    isa: InstructionSet
    calls: list[Call] = field(default_factory=list)
    inputs: list[Buffer] = field(default_factory=list)
    outputs: list[Buffer] = field(default_factory=list)
    stored: list[View] = field(default_factory=list)
    stored_exponents: list[View | None] = field(default_factory=list)
    constants: list[Array] = field(default_factory=list)
    workspace: list[Buffer] = field(default_factory=list)


class ProgramBuilder:
    """Takes down calls and finds a place for every value."""

    def __init__(self, isa: InstructionSet, tiles: TileChoices | None = None) -> None:
        """Args:
            isa: what the kernels may use.
            tiles: measured tiles of convolutions; the user's by default.
        """
        self.isa = isa
        self.tiles = tiles or TileChoices()
        self.program = KernelProgram(isa)
        self._views: dict[Value, View] = {}
        self._exponents: dict[Value, View] = {}
        self._constants: dict[ConstantArray, Buffer] = {}
        self._copied: dict[Buffer, View] = {}

    def add_input(self, value: Value) -> None:
        """The caller's numbers for an input of the graph.

        Raises:
            NoLowering: it is block floating point, which has no single array.
        """
        _refuse_blocks(value, "input")
        buffer = self._buffer(value, Home.INPUT, len(self.program.inputs))
        self.program.inputs.append(buffer)
        self._views[value] = View(buffer)

    def add_output(self, value: Value, stored: Value) -> None:
        """Hand a computed value to the caller; where possible the kernel that computes it writes there directly.

        Args:
            value: the output.
            stored: the integers behind it.

        Raises:
            NoLowering: the output itself is block floating point, which has no single array.
        """
        _refuse_blocks(value, "output")
        view = self.view(value)
        buffer = view.buffer
        index = len(self.program.outputs)
        # A part of a larger buffer is no place to compute the whole of it: the caller's memory holds the part alone.
        is_whole = view.offset == 0 and buffer.elements == elements(value)
        if buffer.home is Home.WORKSPACE and is_whole and not self._is_read_beyond(buffer):
            buffer.home, buffer.index = Home.OUTPUT, index
        else:
            buffer = self._buffer(value, Home.OUTPUT, index)
            self.copy(view, View(buffer), "output")
        self.program.outputs.append(buffer)
        self.program.stored.append(View(buffer) if stored is value else self.view(stored))
        self.program.stored_exponents.append(self.exponents(stored) if is_block(stored) else None)

    def finish(self) -> KernelProgram:
        """The program, its workspace numbered."""
        self.program.workspace = [b for b in self.program.workspace if b.home is Home.WORKSPACE]
        for index, buffer in enumerate(self.program.workspace):
            buffer.index = index
        return self.program

    def _is_read_beyond(self, buffer: Buffer) -> bool:
        """Whether a call reads behind the end of a buffer, which is no one's business in the caller's memory."""
        for call in self.program.calls:
            for argument, view in zip(shared_arguments(call.kernel, self.isa), call.views, strict=True):
                if view.buffer is buffer and view.offset + argument.bytes > buffer.bytes:
                    return True
        return False

    def view(self, value: Value) -> View:
        """Where a value that was computed, or is constant, stands."""
        if value not in self._views:
            array = constant_value(value)
            if array is None:
                raise KeyError(f"{value} has not been computed")
            self._views[value] = self.constant(array)
        return self._views[value]

    def place(self, value: Value, view: View) -> None:
        """Let a value stand where another one does, or where it is to be computed."""
        self._views[value] = view

    def result(self, value: Value) -> View:
        """A place for a value that the next call computes."""
        if value not in self._views:
            self._views[value] = self.temporary(str(value.type.storage.dtype), elements(value))
        return self._views[value]

    def exponents(self, value: Value) -> View:
        """Where the exponents of a block floating-point value stand, int32 on the grid of its blocks."""
        if value not in self._exponents:
            tensor = constant_tensor(value)
            known = fixed_grid(value.type) if tensor is None else tensor.exponents
            if known is None:
                raise KeyError(f"the exponents of {value} have not been computed")
            self._exponents[value] = self.constant(known.astype(np.int32))
        return self._exponents[value]

    def place_exponents(self, value: Value, view: View) -> None:
        """Let the exponents of a value stand where others do, or where they are to be computed."""
        self._exponents[value] = view

    def exponents_result(self, value: Value) -> View:
        """A place for the exponents of a value that the next calls compute."""
        if value not in self._exponents:
            self._exponents[value] = self.temporary("int32", exponent_count(value))
        return self._exponents[value]

    def temporary(self, dtype: str, count: int) -> View:
        """Room in the workspace for intermediate numbers."""
        buffer = Buffer(dtype, count, Home.WORKSPACE, len(self.program.workspace))
        self.program.workspace.append(buffer)
        return View(buffer)

    def constant(self, array: Array) -> View:
        """Numbers known now, stored once for all who need them."""
        key = ConstantArray(np.ascontiguousarray(array))
        if key not in self._constants:
            index = len(self.program.constants)
            self._constants[key] = Buffer(str(key.array.dtype), key.array.size, Home.CONSTANT, index)
            self.program.constants.append(key.array)
        return View(self._constants[key])

    def call(self, kernel: Kernel, views: Sequence[View], label: str) -> None:
        """Run a kernel next.

        Args:
            kernel: which.
            views: a view for each argument that is no scratch memory, in order.
            label: the user's layers.

        Raises:
            TypeError, ValueError: a view has another format, or is smaller, than the kernel takes it to be.
        """
        taken = []
        for argument, view in zip(shared_arguments(kernel, self.isa), views, strict=True):
            found = view.buffer.dtype
            if np.dtype(argument.dtype) != np.dtype(found):
                raise TypeError(f"{kernel}: argument {argument.name} takes {argument.dtype}, found {found}")
            reaches = view.offset + argument.bytes
            if reaches > view.buffer.bytes + (0 if argument.role is Role.OUTPUT else OVER_READ):
                raise ValueError(
                    f"{kernel}: argument {argument.name} reaches to byte {reaches} of a buffer of {view.buffer.bytes}"
                )
            if argument.role is not Role.OUTPUT and view.buffer.home is Home.INPUT and reaches > view.buffer.bytes:
                # The caller's memory ends where its numbers end.
                view = View(self._copy_of(view.buffer).buffer, view.offset)
            taken.append(view)
        self.program.calls.append(Call(kernel, tuple(taken), label))

    def call_by_name(self, kernel: Kernel, views: Mapping[str, View], label: str) -> None:
        """Run a kernel next, whose views are given by the names of its arguments."""
        self.call(kernel, [views[a.name] for a in shared_arguments(kernel, self.isa)], label)

    def copy(self, source: View, destination: View, label: str) -> None:
        """Copy a whole buffer."""
        self.call(contiguous_copy(destination.buffer.elements, destination.buffer.dtype), [source, destination], label)

    def _copy_of(self, buffer: Buffer) -> View:
        if buffer not in self._copied:
            self._copied[buffer] = self.temporary(buffer.dtype, buffer.elements)
            self.copy(View(buffer), self._copied[buffer], "input")
        return self._copied[buffer]

    def _buffer(self, value: Value, home: Home, index: int) -> Buffer:
        return Buffer(str(value.type.storage.dtype), elements(value), home, index)


def shared_arguments(kernel: Kernel, isa: InstructionSet) -> list[Argument]:
    """The arguments that are not the worker's own memory."""
    return [a for a in kernel.arguments(isa) if a.role is not Role.SCRATCH]


def elements(value: Value) -> int:
    """Numbers in a value of static shape."""
    return int(np.prod(static_shape(value.type.shape), dtype=np.int64))


def is_block(value: Value) -> bool:
    """Whether a value is block floating point: mantissas, for which ``view`` and ``result`` stand, and exponents."""
    return isinstance(value.type.elem, BlockFloat)


def exponent_count(value: Value) -> int:
    """Exponents of a block floating-point value of static shape."""
    elem = value.type.elem
    assert isinstance(elem, BlockFloat)
    return prod(static_shape(block_float_grid(value.type.shape, elem.blocks)))


def _refuse_blocks(value: Value, what: str) -> None:
    if is_block(value):
        raise NoLowering(
            f"an {what} of native code is block floating point", found=str(value.type),
            fix="convert it within the program, by to_block or from_block",
        )


class NoLowering(QCompilerError):
    """Native code lacks a form of some op."""
