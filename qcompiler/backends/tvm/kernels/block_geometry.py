"""How contractions of block floating point are cut into blocks of terms, tiles of results, and items of work."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.kernel import Kernel
from qcompiler.backends.tvm.kernels.contraction_geometry import Blocks, Strips, Tile
from qcompiler.backends.tvm.kernels.window_geometry import window_counts, window_extent

_ITEM_PRODUCTS = 1 << 18
"""Products of an item, roughly: a few microseconds."""
_STRIP_BYTES = 1 << 15
"""What a strip may take, so that it stays in the first two levels of the cache."""
_CACHED_WEIGHTS = 1 << 18
"""Half of a small second-level cache."""


@dataclass(frozen=True)
class BlockGeometry(Kernel):
    """What a convolution of block floating point computes, and how it is cut up.

    A block is up to ``length`` neighbouring channels of one group: those of an input's pixel share an exponent, and
    so do those of one output channel's weights at one tap of the window. A tap has ``tap_blocks`` blocks, of which
    the last may be shorter.

    Attributes:
        height, width, channels: the input.
        outputs: output channels.
        kernel, strides, dilations: along height and width.
        pads: top, left, bottom, right.
        groups: divides channels and outputs.
        length: terms of a block, at least 1.
        tile: what stays in registers; limited to what there is.
    """

    height: int
    width: int
    channels: int
    outputs: int
    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    pads: tuple[int, int, int, int]
    groups: int
    length: int
    tile: Tile

    def items(self, isa: InstructionSet) -> int:
        return self.block_groups(isa) * self.rows * self.strips(isa).count

    def work(self) -> int:
        rows, columns = self.output_size
        return rows * columns * self.outputs * self.taps * (self.group_channels + 16 * self.tap_blocks)

    @property
    def output_size(self) -> tuple[int, int]:
        """Height and width of the output."""
        return window_counts((self.height, self.width), self.kernel, self.strides, self.dilations, self.pads)

    @property
    def taps(self) -> int:
        """Pixels of a window."""
        return self.kernel[0] * self.kernel[1]

    @property
    def group_channels(self) -> int:
        """Input channels of a group."""
        return self.channels // self.groups

    @property
    def group_outputs(self) -> int:
        """Output channels of a group."""
        return self.outputs // self.groups

    @property
    def tap_blocks(self) -> int:
        """Blocks of terms at one tap."""
        return -(-self.group_channels // self.length)

    @property
    def full_blocks(self) -> int:
        """Blocks of terms at one tap that have ``length`` terms."""
        return self.group_channels // self.length

    @property
    def last_terms(self) -> int:
        """Terms of the shorter block at the end of a tap; 0 where there is none."""
        return self.group_channels % self.length

    @property
    def pixel_exponents(self) -> int:
        """Exponents of one pixel of the input."""
        return self.groups * self.tap_blocks

    @property
    def is_flat(self) -> bool:
        """Whether all output pixels form one long row: the output's pixels are the input's."""
        return self.kernel == (1, 1) and self.strides == (1, 1) and not any(self.pads)

    @property
    def rows(self) -> int:
        """Rows of output pixels that tiles are cut from."""
        return 1 if self.is_flat else self.output_size[0]

    @property
    def row_pixels(self) -> int:
        """Output pixels of a row."""
        height, width = self.output_size
        return height * width if self.is_flat else width

    def steps(self, isa: InstructionSet, terms: int) -> int:
        """Dot products that some terms take."""
        return -(-terms // isa.group)

    def tap_terms(self, isa: InstructionSet) -> int:
        """Packed weights of one output channel at one tap: each block in whole dot products."""
        steps = self.full_blocks * self.steps(isa, self.length) + self.steps(isa, self.last_terms)
        return steps * isa.group

    def blocks(self, isa: InstructionSet) -> Blocks:
        """The output channels of one group, in vectors."""
        return Blocks(-(-self.group_outputs // isa.lanes), self.tile.vectors)

    def packed_outputs(self, isa: InstructionSet) -> int:
        """Numbers by output channel as constants hold them: each group in whole vectors."""
        return self.groups * self.blocks(isa).vectors * isa.lanes

    def strips(self, isa: InstructionSet) -> Strips:
        """How a row of output pixels is cut."""
        tile = min(self.tile.pixels, self.row_pixels)
        products = tile * self.blocks_each(isa) * self.blocks(isa).smaller * isa.lanes * self.taps * self.group_channels
        step = tile * self.strides[1] * self.kernel[0]
        touched = step * (self.channels * np.dtype(isa.activation).itemsize + self.pixel_exponents * 4)
        return Strips(self.row_pixels, tile, max(1, min(_ITEM_PRODUCTS // products, _STRIP_BYTES // touched)))

    def strip_columns(self, isa: InstructionSet) -> int:
        """Columns of the input below the longest strip."""
        reach = window_extent(self.kernel, self.dilations)[1]
        return (self.strips(isa).strip_pixels - 1) * self.strides[1] + reach

    def blocks_each(self, isa: InstructionSet) -> int:
        """Blocks of output channels of an item: they share an assembled strip and have weights that stay cached."""
        count = self.blocks(isa).count * self.groups
        numbers = self.packed_outputs(isa) * self.tap_terms(isa) * self.taps
        return min(count, max(1, _CACHED_WEIGHTS * count // (numbers * np.dtype(isa.weight).itemsize)))

    def block_groups(self, isa: InstructionSet) -> int:
        """Items that one strip is in."""
        return -(-self.blocks(isa).count * self.groups // self.blocks_each(isa))


def choose_block_tile(row_pixels: int) -> Tile:
    """A tile that serves all shapes: the numbers of a pair of blocks and of its dots stay in registers.

    Args:
        row_pixels: of the convolution; tiles of a row should come out even.
    """
    if row_pixels == 1:
        return Tile(1, 4)
    return Tile(-(-row_pixels // -(-row_pixels // 4)), 2)
