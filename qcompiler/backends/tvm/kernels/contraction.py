"""Convolution of NHWC activations with constant weights; matrix products are convolutions of one pixel's size.

The channels of neighbouring pixels lie side by side, so that a row of the kernel's window is one run of numbers. A
tile of some pixels and some vectors of output channels stays in registers while the window's runs pass by. Where
there are pads, or activations are not stored as the dot product takes them, a strip of the input's rows is first
assembled in scratch memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import tirx
from tvm.tirx.script import builder as T

from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.kernel import Argument, Role, align_stack, load, loop, named, store
from qcompiler.backends.tvm.kernels.contraction_geometry import ConvolutionGeometry, Tile
from qcompiler.backends.tvm.kernels.epilogue import BoundEpilogue, Lanes
from qcompiler.backends.tvm.lanes import Expr, convert, reinterpret, spread, vector

__all__ = ["Convolution", "Tile"]


@dataclass(frozen=True)
class Convolution(ConvolutionGeometry):
    """conv2d for one sample: ``[height, width, channels]`` to ``[output height, output width, outputs]``.

    Buffers: ``x`` (the input, dense), ``weights`` and ``bias`` (see ``contraction_weights``), ``padding`` (the stored
    form of zero, where it ``assembles``), the epilogue's inputs, ``y`` (the output), ``panel`` (scratch memory).
    ``y`` must not share memory with an input: tiles may overlap, and are then computed twice.
    """

    def arguments(self, isa: InstructionSet) -> tuple[Argument, ...]:
        packed = self.packed_outputs(isa)
        assembles = self.assembles(isa)
        elements = self.height * self.width * self.channels
        panel = self.panel(isa)
        over_read = panel.step - 1 if assembles else self.padded_run(isa) - self.run
        rows, columns = self.output_size
        results = rows * columns * self.outputs
        return (
            Argument("x", self.activation, elements + over_read, Role.INPUT),
            Argument("weights", isa.weight, packed * self.terms(isa), Role.CONSTANT),
            Argument("bias", "int32", packed, Role.CONSTANT),
            *([Argument("padding", isa.activation, 1, Role.CONSTANT)] if assembles else []),
            *self.epilogue.arguments(isa, results, packed),
            Argument("y", self.epilogue.stored, results, Role.OUTPUT),
            *([Argument("panel", isa.activation, panel.elements, Role.SCRATCH)] if assembles else []),
        )

    def emit(self, isa: InstructionSet, buffers: Mapping[str, Any], begin: Expr, end: Expr) -> None:
        align_stack(isa)
        strips, blocks, each = self.strips(isa), self.blocks(isa), self.blocks_each(isa)
        epilogue = self.epilogue.bind(isa, buffers)
        strip_items = self.rows * strips.count
        with loop(begin, end) as item:
            group = named(item // strip_items)
            row = named(item % strip_items // strips.count)
            first_tile = named(item % strips.count * strips.tiles_each)
            # The strip's first pixel; a strip that is one overlapping tile begins earlier.
            pixel = named(tirx.min(first_tile * strips.tile, strips.pixels - strips.tile))
            origin = self._origin(isa, buffers, row, pixel)
            with loop(group * each, tirx.min(group * each + each, blocks.count * self.groups)) as number:
                self._block(isa, buffers, epilogue, number, row, first_tile, pixel, origin)

    def _origin(self, isa: InstructionSet, buffers: Mapping[str, Any], row: Expr, pixel: Expr) -> Expr:
        """Where the window of a strip's first pixel begins, after assembling it where that has to be."""
        top, left, _, _ = self.pads
        if not self.assembles(isa):
            return named((row * self.strides[0] * self.width + pixel * self.strides[1]) * self.channels)
        self.panel(isa).assemble(buffers, row * self.strides[0] - top, pixel * self.strides[1] - left)
        return 0

    def _block(
        self, isa: InstructionSet, buffers: Mapping[str, Any], epilogue: BoundEpilogue, number: Expr, row: Expr,
        first_tile: Expr, strip_pixel: Expr, origin: Expr,
    ) -> None:
        """A strip's tiles for one block of output channels."""
        strips, blocks = self.strips(isa), self.blocks(isa)
        group, block = (named(number // blocks.count), named(number % blocks.count)) if self.groups > 1 else (0, number)

        def tiles(vectors: int, is_last: bool) -> None:
            vector_index = named(
                group * blocks.vectors + block * vectors + (0 if vectors > blocks.smaller else blocks.larger_count)
            )
            with loop(first_tile, tirx.min(first_tile + strips.tiles_each, strips.tiles)) as tile:
                pixel = named(tirx.min(tile * strips.tile, strips.pixels - strips.tile))
                start = origin + (pixel - strip_pixel) * (self.strides[1] * self.channels)
                if self.groups > 1:
                    start = start + group * (self.channels // self.groups)
                accumulators = self._accumulate(isa, buffers, vectors, vector_index, named(start))
                first = (vector_index - group * blocks.vectors) * isa.lanes + group * (self.outputs // self.groups)
                self._finish(isa, epilogue, accumulators, is_last, vector_index, named(first),
                             named(row * self.row_pixels + pixel))

        # Blocks come in two sizes at most, and the last one may end within a vector.
        has_tail = (self.outputs // self.groups) % isa.lanes != 0
        kinds: list[tuple[Expr, int, bool]] = []
        if blocks.larger_count:
            kinds.append((block < blocks.larger_count, blocks.smaller + 1, False))
        if has_tail and blocks.count - blocks.larger_count > 1:
            kinds.append((block < blocks.count - 1, blocks.smaller, False))
        _choose(kinds, lambda: tiles(blocks.smaller, has_tail), tiles)

    def _accumulate(
        self, isa: InstructionSet, buffers: Mapping[str, Any], vectors: int, vector_index: Expr, start: Expr
    ) -> list[list[Expr]]:
        """The accumulators of a tile, by pixel and vector."""
        lanes, pixels = isa.lanes, self.strips(isa).tile
        weights_start = named(vector_index * (lanes * self.terms(isa)))
        registers = [T.alloc_buffer((vectors * lanes,), "int32", scope="local") for _ in range(pixels)]
        for v in range(vectors):
            bias = named(load(buffers["bias"], (vector_index + v) * lanes, lanes))
            for register in registers:
                store(register, v * lanes, bias)
        with loop(0, self.window_rows) as y, loop(0, self.runs) as x:
            add_step = self._run(isa, buffers, registers, vectors, weights_start, start, y, x)
            with loop(0, self.padded_run(isa) // isa.group) as k:
                add_step(k)
        return [[load(register, v * lanes, lanes) for v in range(vectors)] for register in registers]

    def _run(
        self, isa: InstructionSet, buffers: Mapping[str, Any], registers: list[Any], vectors: int, weights_start: Expr,
        start: Expr, y: Expr, x: Expr,
    ) -> Callable[[Expr], None]:
        """What adds a step of one of the window's runs to a tile's accumulators: its dot products."""
        lanes = isa.lanes
        source, pitch = (
            (buffers["panel"], self.panel(isa).pitch) if self.assembles(isa)
            else (buffers["x"], self.width * self.channels * self.dilations[0])
        )
        step_weights = lanes * isa.group
        run_weights = vectors * lanes * self.padded_run(isa)
        run_start = named(start + y * pitch + x * (self.dilations[1] * self.channels))
        run_weight = named(weights_start + (y * self.runs + x) * run_weights)

        def add_step(k: Expr) -> None:
            rows = [
                named(load(buffers["weights"], run_weight + k * (vectors * step_weights) + v * step_weights,
                           step_weights))
                for v in range(vectors)
            ]
            for pixel, register in enumerate(registers):
                offset = run_start + k * isa.group + pixel * (self.strides[1] * self.channels)
                activations = named(_broadcast(isa, load(source, offset, isa.group)))
                for v in range(vectors):
                    dot = isa.dot(load(register, v * lanes, lanes), activations, rows[v])
                    store(register, v * lanes, dot)

        return add_step

    def _finish(
        self, isa: InstructionSet, epilogue: BoundEpilogue, accumulators: list[list[Expr]], is_last: bool,
        vector_index: Expr, first_channel: Expr, pixel: Expr,
    ) -> None:
        """From accumulators to stored results."""
        lanes = isa.lanes
        tail = (self.outputs // self.groups - 1) % lanes + 1
        vectors = []
        for i, row in enumerate(accumulators):
            place = named((pixel + i) * self.outputs + first_channel)
            vectors += [
                Lanes(named(value), (vector_index + v) * lanes, place, v * lanes,
                      tail if is_last and v == len(row) - 1 else lanes)
                for v, value in enumerate(row)
            ]
        epilogue.finish(vectors)


def _broadcast(isa: InstructionSet, numbers: Expr) -> Expr:
    """``group`` activations, repeated for every lane."""
    if isa.group == 1:
        return spread(convert(numbers, isa.activation), isa.lanes)
    bits = f"int{8 * np.dtype(isa.activation).itemsize * isa.group}"
    return reinterpret(
        vector(isa.activation, isa.lanes * isa.group), spread(reinterpret(bits, numbers), isa.lanes)
    )


def _choose(kinds: list[tuple[Expr, int, bool]], otherwise: Any, tiles: Any) -> None:
    """The code of the first kind whose condition holds."""
    if not kinds:
        otherwise()
        return
    condition, vectors, is_last = kinds[0]
    with T.If(condition):
        with T.Then():
            tiles(vectors, is_last)
        with T.Else():
            _choose(kinds[1:], otherwise, tiles)
