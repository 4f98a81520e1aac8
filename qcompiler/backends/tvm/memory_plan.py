"""Where the buffers of the workspace lie: those that live at the same time never overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qcompiler.backends.tvm.kernel_program import OVER_READ, Buffer, Home, KernelProgram, View

ALIGNMENT = 64


@dataclass(frozen=True)
class MemoryPlan:
    """Offsets in bytes.

    Attributes:
        offsets: of each buffer of the workspace, in the order of ``KernelProgram.workspace``.
        size: bytes of the workspace.
    """

    offsets: tuple[int, ...]
    size: int


def plan_memory(program: KernelProgram) -> MemoryPlan:
    """Place every workspace buffer, the largest first, at the lowest offset that is free while it lives.

    The order by size is the greedy one of Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net
    Inference" (2020), section 5.2.
    """
    first, last = _lifetimes(program)
    sizes = np.array([aligned(b.bytes) for b in program.workspace], np.int64)
    offsets = np.zeros(len(sizes), np.int64)
    placed = np.zeros(len(sizes), bool)
    for index in np.argsort(-sizes, kind="stable"):
        neighbours = placed & (first <= last[index]) & (last >= first[index])
        offsets[index] = _lowest_gap(offsets[neighbours], sizes[neighbours], int(sizes[index]))
        placed[index] = True
    end = int((offsets + sizes).max(initial=0))
    return MemoryPlan(tuple(int(o) for o in offsets), end + OVER_READ)


def _lifetimes(program: KernelProgram) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The first and the last call that touches each buffer; one that none touches lives nowhere."""
    count = len(program.workspace)
    first = np.full(count, len(program.calls), np.int64)
    last = np.full(count, -1, np.int64)
    for number, call in enumerate(program.calls):
        for buffer in _workspace(call.views):
            first[buffer.index] = min(first[buffer.index], number)
            last[buffer.index] = number
    for buffer in _workspace([*program.stored, *(v for v in program.stored_exponents if v is not None)]):
        last[buffer.index] = len(program.calls)
    return first, last


def _workspace(views: Sequence[View]) -> list[Buffer]:
    return [v.buffer for v in views if v.buffer.home is Home.WORKSPACE]


def _lowest_gap(offsets: NDArray[np.int64], sizes: NDArray[np.int64], size: int) -> int:
    order = np.argsort(offsets, kind="stable")
    end = 0
    for offset, length in zip(offsets[order], sizes[order], strict=True):
        if offset - end >= size:
            break
        end = max(end, int(offset + length))
    return end


def aligned(size: int) -> int:
    """``size`` bytes, rounded up to whole units of alignment."""
    return -(-size // ALIGNMENT) * ALIGNMENT
