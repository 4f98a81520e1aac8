"""Which tile a convolution keeps in registers: a model of the cycles that each takes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.kernels.contraction import Convolution, Tile

_DOT_CYCLES = 0.5
"""Two dot products a cycle. Processors that do one are less demanding: tiles that feed two feed one."""
_LOAD_CYCLES = 0.5
"""Two vectors or broadcasts a cycle, out of the first-level cache."""
_LATENCY = 5
"""Cycles from one dot product to the next one that adds to the same accumulator."""
_FIRST_LEVEL_BYTES = 1 << 14
"""Weights of a block that stay in the first-level cache, beside the activations."""
_FAR_LOAD_CYCLES = 2
"""A vector of weights out of the second-level cache."""
_RESULT_CYCLES = 3
"""Element-wise steps, packing and storing for one vector of results."""
_CROWDING = 1 / 8
"""What each accumulator adds to that: the fewer a tile has, the more of its results are computed while the next tile
has begun."""
_WINDOW = 256
"""Instructions that a processor looks ahead, half of them: shorter tiles overlap, so that no latency shows."""
_TILE_CYCLES = 8
"""Addresses, the bias, and the loop's last, mispredicted branch."""

_PIXELS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 20, 24, 28)
_VECTORS = (1, 2, 3, 4, 5, 6, 8)


def candidate_tiles(kernel: Convolution, isa: InstructionSet) -> tuple[Tile, ...]:
    """Tiles whose accumulators, weights and one broadcast fit into the registers, the most promising first.

    Args:
        kernel: the convolution, with any tile.
        isa: the instruction set.
    """
    pixels = [p for p in _PIXELS if p <= kernel.row_pixels]
    vectors = [v for v in _VECTORS if v <= kernel.blocks(isa).vectors]
    fitting = [Tile(p, v) for p in pixels for v in vectors if p * v + v + 1 + isa.temporaries <= isa.registers]
    return tuple(sorted(fitting or [Tile(1, 1)], key=lambda tile: (predicted_cycles(kernel, tile, isa), -tile.pixels)))


def choose_tile(kernel: Convolution, isa: InstructionSet) -> Tile:
    """The tile for which the model predicts the fewest cycles."""
    return candidate_tiles(kernel, isa)[0]


def predicted_cycles(kernel: Convolution, tile: Tile, isa: InstructionSet) -> float:
    """Cycles that a convolution takes with a tile, roughly; good for comparing tiles only."""
    tiled = replace(kernel, tile=tile)
    blocks, strips = tiled.blocks(isa), tiled.strips(isa)
    steps = tiled.terms(isa) // isa.group
    cycles = 0.0
    sizes = ((blocks.larger_count, blocks.smaller + 1), (blocks.count - blocks.larger_count, blocks.smaller))
    for count, vectors in sizes:
        step_bytes = vectors * isa.lanes * isa.group * np.dtype(isa.weight).itemsize
        # With a single tile each weight is used once, wherever it comes from.
        is_near = step_bytes * steps <= _FIRST_LEVEL_BYTES
        loads = strips.tile * _LOAD_CYCLES + vectors * (_LOAD_CYCLES if is_near else _FAR_LOAD_CYCLES)
        accumulators = strips.tile * vectors
        instructions = steps * (accumulators + strips.tile + vectors)
        step = max(accumulators * _DOT_CYCLES, loads, _LATENCY if instructions > _WINDOW else 0)
        result = _RESULT_CYCLES + accumulators * _CROWDING
        cycles += count * (steps * step + accumulators * result + _TILE_CYCLES)
    return cycles * strips.tiles * kernel.rows * kernel.groups
