"""Convolution of block floating-point activations with constant weights: what both kinds of accumulators share.

A strip of the input's rows is assembled in scratch memory: mantissas in the format that the dot product takes, and
the exponents of their blocks. A tile of some pixels and some vectors of output channels stays in registers while the
pairs of blocks pass by, in the order (row of the window, column, block of channels). The mantissas of a pair of blocks
give an exact int32 dot product, and subclasses say how it is added.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from tvm import tirx
from tvm.tirx.script import builder as T

from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.kernel import Argument, Role, align_stack, load, loop, named, store
from qcompiler.backends.tvm.kernels.block_dots import Pair, dot_products
from qcompiler.backends.tvm.kernels.block_geometry import BlockGeometry
from qcompiler.backends.tvm.kernels.block_panel import exponent_panel, has_offset, mantissa_panel, strips_of
from qcompiler.backends.tvm.kernels.epilogue import store_part
from qcompiler.backends.tvm.lanes import Expr, element


@dataclass(frozen=True)
class TilePlace:
    """Where a tile's numbers are.

    Attributes:
        mantissas, exponents: where the window of its first pixel begins in the assembled strip.
        vector: its first vector of output channels in packed constants.
        vectors: how many vectors it has.
        result: where the results of its first pixel and first channel begin.
        is_last: whether the last vector of a group is its last one.
    """

    mantissas: Expr
    exponents: Expr
    vector: Expr
    vectors: int
    result: Expr
    is_last: bool


@dataclass(frozen=True)
class BlockConvolution(BlockGeometry):
    """conv2d of one sample, mantissas ``[H, W, C]`` with exponents ``[H, W, groups * tap_blocks]``.

    Buffers: ``x``, ``x_exponents`` (the input), ``weights`` and ``corrections`` (see ``block_weights``; the latter
    only where the dot product takes unsigned activations), those of the subclass, ``mantissas`` and ``exponents``
    (scratch memory). Results must not share memory with an input: tiles may overlap, and are then computed twice.
    """

    taken_exponents: ClassVar[str]
    """What the exponents' panel holds: ``int32`` for exponents, ``float32`` for powers of two."""

    @abstractmethod
    def own_arguments(self, isa: InstructionSet) -> tuple[Argument, ...]:
        """Constants and results of this kind of accumulator."""

    @abstractmethod
    def emit_tile(self, isa: InstructionSet, buffers: Mapping[str, Any], place: TilePlace) -> None:
        """Compute and store a tile."""

    def arguments(self, isa: InstructionSet) -> tuple[Argument, ...]:
        mantissas, exponents = mantissa_panel(self, isa), exponent_panel(self, isa, self.taken_exponents)
        pixels = self.height * self.width
        packed = self.packed_outputs(isa) * self.taps
        corrections = [Argument("corrections", "int32", packed * self.tap_blocks, Role.CONSTANT)]
        return (
            Argument("x", "int8", pixels * self.channels + mantissas.step - 1, Role.INPUT),
            Argument("x_exponents", "int32", pixels * self.pixel_exponents + exponents.step - 1, Role.INPUT),
            Argument("weights", isa.weight, packed * self.tap_terms(isa), Role.CONSTANT),
            *(corrections if has_offset(isa) else []),
            *self.own_arguments(isa),
            Argument("mantissas", isa.activation, mantissas.elements, Role.SCRATCH),
            Argument("exponents", self.taken_exponents, exponents.elements, Role.SCRATCH),
        )

    def emit(self, isa: InstructionSet, buffers: Mapping[str, Any], begin: Expr, end: Expr) -> None:
        align_stack(isa)
        strips, blocks, each = self.strips(isa), self.blocks(isa), self.blocks_each(isa)
        strip_items = self.rows * strips.count
        with loop(begin, end) as item:
            group = named(item // strip_items)
            row = named(item % strip_items // strips.count)
            first_tile = named(item % strips.count * strips.tiles_each)
            # The strip's first pixel; a strip that is one overlapping tile begins earlier.
            pixel = named(tirx.min(first_tile * strips.tile, strips.pixels - strips.tile))
            strips_of(self, isa, buffers, self.taken_exponents, row, pixel)
            with loop(group * each, tirx.min(group * each + each, blocks.count * self.groups)) as number:
                self._emit_block(isa, buffers, number, row, first_tile, pixel)

    def over_pairs(self, isa: InstructionSet, place: TilePlace, body: Callable[[Pair], None]) -> None:
        """Write ``body`` for every pair of blocks, in order."""
        width = place.vectors * isa.lanes
        full, last = self.steps(isa, self.length), self.steps(isa, self.last_terms)
        columns = self.strip_columns(isa)
        tap_weights, weights = self.tap_terms(isa) * width, place.vector * (isa.lanes * self.taps * self.tap_terms(isa))
        constants = place.vector * (isa.lanes * self.taps * self.tap_blocks)
        with loop(0, self.kernel[0]) as y, loop(0, self.kernel[1]) as x:
            pixel = named(y * columns + x * self.dilations[1])
            tap = named(y * self.kernel[1] + x)

            def pair(block: Expr | int, steps: int) -> Pair:
                return Pair(
                    named(place.mantissas + pixel * self.channels + block * self.length),
                    named(place.exponents + pixel * self.pixel_exponents + block),
                    named(weights + tap * tap_weights + block * (full * isa.group * width)),
                    named(constants + (tap * self.tap_blocks + block) * width), steps,
                )

            if self.full_blocks:
                with loop(0, self.full_blocks) as block:
                    body(pair(block, full))
            if last:
                body(pair(self.full_blocks, last))

    def dots(
        self, isa: InstructionSet, buffers: Mapping[str, Any], place: TilePlace, pair: Pair
    ) -> list[list[Expr]]:
        """Exact int32 dot products of a pair of blocks, by pixel and vector."""
        return dot_products(
            isa, buffers, pair, place.vectors, self.strips(isa).tile, self.strides[1] * self.channels
        )

    def store_tile(
        self, isa: InstructionSet, output: Any, place: TilePlace, results: list[list[Expr]]
    ) -> None:
        """Store a tile's results, given by pixel and vector."""
        tail = (self.group_outputs - 1) % isa.lanes + 1
        for pixel, row in enumerate(results):
            for v, value in enumerate(row):
                count = tail if place.is_last and v == len(row) - 1 else isa.lanes
                store_part(output, place.result + pixel * self.outputs + v * isa.lanes, value, 0, count)

    def channel_constants(self, isa: InstructionSet, buffer: Any, place: TilePlace) -> list[Expr]:
        """A tile's constants by output channel, by vector."""
        return [named(load(buffer, (place.vector + v) * isa.lanes, isa.lanes)) for v in range(place.vectors)]

    def pair_constants(self, isa: InstructionSet, buffer: Any, place: TilePlace, pair: Pair) -> list[Expr]:
        """A pair of blocks' constants by output channel, by vector."""
        return [named(load(buffer, pair.constants + v * isa.lanes, isa.lanes)) for v in range(place.vectors)]

    def _emit_block(
        self, isa: InstructionSet, buffers: Mapping[str, Any], number: Expr, row: Expr, first_tile: Expr,
        strip_pixel: Expr,
    ) -> None:
        """A strip's tiles for one block of output channels."""
        strips, blocks = self.strips(isa), self.blocks(isa)
        group, block = (named(number // blocks.count), named(number % blocks.count)) if self.groups > 1 else (0, number)

        def tiles(vectors: int, is_last: bool) -> None:
            before = 0 if vectors > blocks.smaller else blocks.larger_count
            within = named(block * vectors + before)
            first = within * isa.lanes + group * self.group_outputs
            with loop(first_tile, tirx.min(first_tile + strips.tiles_each, strips.tiles)) as tile:
                pixel = named(tirx.min(tile * strips.tile, strips.pixels - strips.tile))
                column = named((pixel - strip_pixel) * self.strides[1])
                self.emit_tile(isa, buffers, TilePlace(
                    named(column * self.channels + group * self.group_channels),
                    named(column * self.pixel_exponents + group * self.tap_blocks),
                    named(group * blocks.vectors + within), vectors,
                    named((row * self.row_pixels + pixel) * self.outputs + first), is_last,
                ))

        # Blocks come in two sizes at most, and the last one may end within a vector.
        has_tail = self.group_outputs % isa.lanes != 0
        kinds: list[tuple[Expr, int, bool]] = []
        if blocks.larger_count:
            kinds.append((block < blocks.larger_count, blocks.smaller + 1, False))
        if has_tail and blocks.count - blocks.larger_count > 1:
            kinds.append((block < blocks.count - 1, blocks.smaller, False))
        _choose(kinds, lambda: tiles(blocks.smaller, has_tail), tiles)


def registers_of(isa: InstructionSet, pixels: int, vectors: int, initial: list[Expr]) -> list[Any]:
    """A local buffer for each pixel of a tile, with a vector of initial numbers for each vector of channels."""
    size, dtype = vectors * isa.lanes, element(initial[0])
    buffers = [T.alloc_buffer((size,), dtype, scope="local") for _ in range(pixels)]
    for buffer in buffers:
        for v, value in enumerate(initial):
            store(buffer, v * isa.lanes, value)
    return buffers


def _choose(
    kinds: list[tuple[Expr, int, bool]], otherwise: Callable[[], None], tiles: Callable[[int, bool], None]
) -> None:
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
