"""Convolutions of int16 activations whose sums are kept in two halves.

A sum of products of 16 bits leaves int32 only after some terms. Before it may, what lies above its low 16 bits is added
to a second accumulator, the carries, and taken out of the first. That costs two instructions for each accumulator, once
for a chunk of terms, in place of a second product for each term. A chunk ends where, with one more term, the magnitudes
of some output's weights would add up to more than ``LARGEST_CHUNK``: with ``abs(x) <= 2**15`` and less than ``2**16``
left over from the chunk before, no sum within a chunk leaves int32, whatever the activations are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm.tirx.script import builder as T

from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.kernel import Argument, Role, load, loop, named, store
from qcompiler.backends.tvm.kernels.contraction import Convolution
from qcompiler.backends.tvm.kernels.epilogue import BoundEpilogue
from qcompiler.backends.tvm.lanes import Expr, literal, literal_like, reinterpret, vector

CARRIED_BITS = 16
"""Place of the carries' last bit."""

LARGEST_CHUNK = (1 << 16) - 2
"""What the magnitudes of an output's weights in a chunk may add up to."""


@dataclass(frozen=True)
class CarryConvolution(Convolution):
    """A ``Convolution`` of 16-bit numbers whose results are ``y[1] * 2**16 + y[0]``, ``y[0]`` from 0 to ``2**16 - 1``.

    Arguments: those of ``Convolution``, whose ``y`` is ``[2, output height, output width, outputs]``; ``chunk_counts``
    and ``chunks``: see :func:`chunk_constants`. The epilogue stores int32 as it is.
    """

    def arguments(self, isa: InstructionSet) -> tuple[Argument, ...]:
        found: list[Argument] = []
        for argument in super().arguments(isa):
            if argument.name == "y":
                runs, steps = self._runs_and_steps(isa)
                found.append(Argument("chunk_starts", "int32", runs + 1, Role.CONSTANT))
                found.append(Argument("chunks", "int32", 2 * runs * steps, Role.CONSTANT))
                argument = replace(argument, elements=2 * argument.elements)
            found.append(argument)
        return tuple(found)

    def _runs_and_steps(self, isa: InstructionSet) -> tuple[int, int]:
        return self.window_rows * self.runs, self.padded_run(isa) // isa.group

    def _accumulate(
        self, isa: InstructionSet, buffers: Mapping[str, Any], vectors: int, vector_index: Expr, start: Expr
    ) -> list[list[Expr]]:
        """Low halves of a tile by pixel and vector, then the carries."""
        lanes, pixels = isa.lanes, self.strips(isa).tile
        weights_start = named(vector_index * (lanes * self.terms(isa)))
        nothing = literal(0, "int32", lanes)
        low, carries = (
            [T.alloc_buffer((vectors * lanes,), "int32", scope="local") for _ in range(pixels)] for _ in range(2)
        )
        for register in (*low, *carries):
            for v in range(vectors):
                store(register, v * lanes, nothing)
        with loop(0, self.window_rows) as y, loop(0, self.runs) as x:
            run = named(y * self.runs + x)
            add_step = self._run(isa, buffers, low, vectors, weights_start, start, y, x)
            bounds = named(load(buffers["chunk_starts"], run)), named(load(buffers["chunk_starts"], run + 1))
            with loop(*bounds) as chunk:
                first, last = (named(load(buffers["chunks"], chunk * 2 + side)) for side in range(2))
                with loop(first, last) as k:
                    add_step(k)
                for sums, highs in zip(low, carries, strict=True):
                    for v in range(vectors):
                        _carry(isa, sums, highs, v * lanes)
        return [[load(register, v * lanes, lanes) for v in range(vectors)] for register in (*low, *carries)]

    def _finish(
        self, isa: InstructionSet, epilogue: BoundEpilogue, accumulators: list[list[Expr]], is_last: bool,
        vector_index: Expr, first_channel: Expr, pixel: Expr,
    ) -> None:
        rows, columns = self.output_size
        half = len(accumulators) // 2
        for part, place in ((accumulators[:half], pixel), (accumulators[half:], named(pixel + rows * columns))):
            super()._finish(isa, epilogue, part, is_last, vector_index, first_channel, place)


def _carry(isa: InstructionSet, sums: Any, highs: Any, offset: int) -> None:
    """Move what lies above the low 16 bits."""
    lanes = isa.lanes
    total = named(load(sums, offset, lanes))
    if isa.group == 2:
        # The product adds up two halves: none of the lower one, and the upper one.
        upper = literal(1 << 16, "int32", lanes)
        halves, ones = (reinterpret(vector("int16", 2 * lanes), n) for n in (total, upper))
        store(highs, offset, isa.dot(load(highs, offset, lanes), halves, ones))
    else:
        store(highs, offset, load(highs, offset, lanes) + (total >> literal_like(16, total)))
    store(sums, offset, total & literal_like((1 << 16) - 1, total))


def chunk_constants(
    kernel: Convolution, isa: InstructionSet, weights: NDArray[np.int16]
) -> dict[str, NDArray[np.int32]] | None:
    """Where chunks begin and end.

    Args:
        kernel: the convolution.
        isa: what multiplies 16-bit numbers.
        weights: ``[outputs, kernel height, kernel width, channels / groups]``.

    Returns:
        ``chunk_starts`` ``[runs + 1]``, the first chunk of each run of the window; ``chunks``, the first step of each
        chunk and the one behind its last, counted within its run, filled up with zeros. None where a single step
        exceeds a chunk.
    """
    runs, steps = kernel.window_rows * kernel.runs, kernel.padded_run(isa) // isa.group
    magnitudes = np.zeros((kernel.outputs, runs, steps * isa.group), np.int64)
    magnitudes[..., : kernel.run] = np.abs(weights.astype(np.int64)).reshape(kernel.outputs, runs, kernel.run)
    by_step = magnitudes.reshape(kernel.outputs, runs, steps, isa.group).sum(axis=3)
    if by_step.max(initial=0) > LARGEST_CHUNK:
        return None
    starts, chunks = [0], np.zeros((runs * steps, 2), np.int32)
    count = 0
    for run in range(runs):
        first, total = 0, np.zeros(kernel.outputs, np.int64)
        for step in range(steps):
            total = total + by_step[:, run, step]
            if total.max() > LARGEST_CHUNK:
                chunks[count] = first, step
                count, first, total = count + 1, step, by_step[:, run, step]
        chunks[count] = first, steps
        count += 1
        starts.append(count)
    return {"chunk_starts": np.array(starts, np.int32), "chunks": chunks.reshape(-1)}
