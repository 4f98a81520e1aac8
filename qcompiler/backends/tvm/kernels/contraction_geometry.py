"""How a convolution is cut into blocks of output channels, tiles of pixels, and items of work."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.kernel import Kernel
from qcompiler.backends.tvm.kernels.contraction_panel import Panel
from qcompiler.backends.tvm.kernels.epilogue import Epilogue
from qcompiler.backends.tvm.kernels.window_geometry import window_counts, window_extent

_ITEM_PRODUCTS = 1 << 19
"""Products of an item, roughly: a few microseconds."""
_FIRST_LEVEL_BYTES = 1 << 14
"""Half of a small first-level cache."""
_SECOND_LEVEL_BYTES = 1 << 18
"""Half of a small second-level cache."""


@dataclass(frozen=True)
class Tile:
    """What stays in registers.

    Attributes:
        pixels: neighbouring output pixels, at least 1.
        vectors: vectors of output channels, at least 1.
    """

    pixels: int
    vectors: int


@dataclass(frozen=True)
class Blocks:
    """Vectors of output channels, shared out evenly to blocks.

    Attributes:
        vectors: how many vectors there are.
        limit: vectors in a block at most.
    """

    vectors: int
    limit: int

    @property
    def count(self) -> int:
        return -(-self.vectors // self.limit)

    @property
    def smaller(self) -> int:
        """Vectors in the last blocks; the first ones may have one more."""
        return self.vectors // self.count

    @property
    def larger_count(self) -> int:
        """How many blocks have one vector more than the others."""
        return self.vectors % self.count


@dataclass(frozen=True)
class Strips:
    """A row of output pixels, cut into strips of some tiles each. The last tile may overlap the one before.

    Attributes:
        pixels: length of the row.
        tile: pixels in a tile, at most ``pixels``.
        tiles_each: tiles in a strip.
    """

    pixels: int
    tile: int
    tiles_each: int

    @property
    def tiles(self) -> int:
        return -(-self.pixels // self.tile)

    @property
    def count(self) -> int:
        return -(-self.tiles // self.tiles_each)

    @property
    def strip_pixels(self) -> int:
        """Pixels of the longest strip."""
        return min(self.pixels, self.tile * self.tiles_each)


@dataclass(frozen=True)
class ConvolutionGeometry(Kernel):
    """What a convolution computes, and how it is cut up; see ``Convolution``.

    Attributes:
        height, width, channels: the input.
        outputs: output channels.
        kernel, strides, dilations: along height and width.
        pads: top, left, bottom, right.
        groups: divides channels and outputs.
        activation: format of the input in memory: ``uint8``, ``int8``, or ``int16`` where products are of 16 bits.
        epilogue: what happens to finished accumulators.
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
    activation: str
    epilogue: Epilogue
    tile: Tile

    def items(self, isa: InstructionSet) -> int:
        return self.block_groups(isa) * self.rows * self.strips(isa).count

    def work(self) -> int:
        rows, columns = self.output_size
        return rows * columns * self.outputs * self.kernel[0] * self.kernel[1] * (self.channels // self.groups)

    @property
    def output_size(self) -> tuple[int, int]:
        """Height and width of the output."""
        return window_counts((self.height, self.width), self.kernel, self.strides, self.dilations, self.pads)

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

    @property
    def window_rows(self) -> int:
        """Rows of a window."""
        return self.kernel[0]

    @property
    def runs(self) -> int:
        """Runs of numbers side by side in a row of a window."""
        return 1 if self.dilations[1] == 1 and self.groups == 1 else self.kernel[1]

    @property
    def run(self) -> int:
        """Numbers in a run."""
        return self.channels // self.groups * (self.kernel[1] if self.runs == 1 else 1)

    def padded_run(self, isa: InstructionSet) -> int:
        """Numbers in a run of weights: a whole number of dot products."""
        return -(-self.run // isa.group) * isa.group

    def terms(self, isa: InstructionSet) -> int:
        """Packed weights of one output channel."""
        return self.window_rows * self.runs * self.padded_run(isa)

    def assembles(self, isa: InstructionSet) -> bool:
        """Whether tiles read from scratch memory. A single number is converted as it is loaded."""
        return any(self.pads) or (isa.activation != self.activation and isa.group > 1)

    def blocks(self, isa: InstructionSet) -> Blocks:
        """The output channels of one group, in vectors."""
        return Blocks(-(-(self.outputs // self.groups) // isa.lanes), self.tile.vectors)

    def packed_outputs(self, isa: InstructionSet) -> int:
        """Numbers by output channel as constants hold them: each group in whole vectors."""
        return self.groups * self.blocks(isa).vectors * isa.lanes

    def strips(self, isa: InstructionSet) -> Strips:
        """How a row of output pixels is cut."""
        tile = min(self.tile.pixels, self.row_pixels)
        channels = self.blocks_each(isa) * self.blocks(isa).smaller * isa.lanes
        products = tile * channels * self.run * self.runs * self.window_rows
        touched = tile * (self.channels * self.strides[1] + channels)
        tiles = min(_ITEM_PRODUCTS // products, _FIRST_LEVEL_BYTES // touched)
        return Strips(self.row_pixels, tile, max(1, tiles))

    def blocks_each(self, isa: InstructionSet) -> int:
        """Blocks of an item, as many as have weights that stay cached while strips pass by.

        They share an assembled strip, and write whole cache lines of results together.
        """
        blocks = self.blocks(isa)
        numbers = self.packed_outputs(isa) * self.terms(isa)
        each = numbers * np.dtype(isa.weight).itemsize // (blocks.count * self.groups)
        cached = _SECOND_LEVEL_BYTES if self.assembles(isa) else _FIRST_LEVEL_BYTES
        return min(blocks.count * self.groups, max(1, cached // each))

    def block_groups(self, isa: InstructionSet) -> int:
        """Items that one strip is in."""
        return -(-self.blocks(isa).count * self.groups // self.blocks_each(isa))

    def panel(self, isa: InstructionSet) -> Panel:
        """The assembled strip."""
        columns = (self.strips(isa).strip_pixels - 1) * self.strides[1] + window_extent(self.kernel, self.dilations)[1]
        return Panel(
            self.height if not self.is_flat else 1, self.width if not self.is_flat else self.row_pixels, self.channels,
            self.window_rows, self.dilations[0], columns, self.activation, isa.activation,
            isa.register_bytes // np.dtype(isa.activation).itemsize,
        )
