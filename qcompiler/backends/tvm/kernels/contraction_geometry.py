"""How a convolution is cut into blocks of output channels, tiles of pixels, and items of work."""

from __future__ import annotations

from dataclasses import dataclass


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
