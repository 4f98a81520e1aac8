"""The fastest tile of each of a program's convolutions, found by measuring the model's favourites on this machine."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, replace

from qcompiler.analysis.islands import split_islands
from qcompiler.backends.tvm.graph_lowering import lower_program
from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.kernel_cache import KernelCache
from qcompiler.backends.tvm.kernels.contraction import Convolution, Tile
from qcompiler.backends.tvm.kernels.contraction_tiles import candidate_tiles, predicted_cycles
from qcompiler.backends.tvm.selection import check_runs_here, machine_of
from qcompiler.backends.tvm.tile_choices import TileChoices, without_tile
from qcompiler.backends.tvm.tile_timing import time_kernels
from qcompiler.backends.tvm.toolchain import Toolchain, find_toolchain
from qcompiler.errors import QCompilerError
from qcompiler.ir import Graph
from qcompiler.pipeline import Progress, silent

CANDIDATES = 12
"""Tiles that are tried for a convolution."""
_WORST_PREDICTION = 1.6
"""Tiles for which the model predicts more than this many times the cycles of its favourite are not tried."""


@dataclass(frozen=True)
class TunedTile:
    """What measuring found for one convolution.

    Attributes:
        kernel: the convolution with its fastest tile.
        predicted: the tile that the model prefers.
        nanoseconds: of the fastest tile.
        predicted_nanoseconds: of the one that the model prefers.
        calls: how often the program runs the convolution.
    """

    kernel: Convolution
    predicted: Tile
    nanoseconds: float
    predicted_nanoseconds: float
    calls: int


def tune_tiles(
    graph: Graph,
    isa: InstructionSet,
    *,
    seconds: float = 60,
    cache: KernelCache | None = None,
    toolchain: Toolchain | None = None,
    progress: Progress = silent,
) -> list[TunedTile]:
    """Measure tiles of the convolutions that were not measured before, and keep the fastest for later compilations.

    Args:
        graph: a legalized program; islands of the host are left out.
        isa: what its native code is for; this machine must run it.
        seconds: no convolution is begun after that many. Those that take the longest come first.
        cache: compiled kernels, and where the tiles go; the user's by default.
        toolchain: links what is measured.
        progress: told how many convolutions are done.

    Returns:
        What was found, the convolutions that take the longest first.

    Raises:
        NoLowering: an op has no native form.
        NoCompiler: no C compiler is at hand.
        QCompilerError: this machine does not run ``isa``, or it is for a machine that was named.
    """
    check_runs_here(isa)
    machine = machine_of(isa)
    if machine is not None:
        raise QCompilerError(
            f"tiles for {machine} cannot be measured on this machine", fix="leave out --tune, or tune on that machine",
        )
    toolchain, cache = toolchain or find_toolchain(), cache or KernelCache()
    choices = TileChoices(cache)
    counts, constant_bytes = _convolutions(graph, isa, choices)
    calls = {k: n for k, n in counts.items() if choices.find(k, isa) is None}
    slowest_first = sorted(
        calls, key=lambda kernel: -calls[kernel] * predicted_cycles(kernel, candidate_tiles(kernel, isa)[0], isa)
    )
    end = time.monotonic() + seconds
    found = []
    for number, kernel in enumerate(slowest_first, 1):
        if time.monotonic() > end:
            break
        tiles = _tiles_to_try(kernel, isa)
        tiled = [replace(kernel, tile=tile) for tile in tiles]
        times = time_kernels(tiled, isa, cache, toolchain, constant_bytes) if len(tiles) > 1 else [0.0]
        best = min(range(len(tiles)), key=lambda i: times[i])
        choices.keep(kernel, isa, tiles[best], times[best])
        found.append(TunedTile(tiled[best], tiles[0], times[best], times[0], calls[kernel]))
        progress("tiles", number, len(slowest_first))
    return found


def _convolutions(graph: Graph, isa: InstructionSet, choices: TileChoices) -> tuple[Counter[Convolution], int]:
    """The program's convolutions without their tiles, by how often each runs; and the bytes of all constants."""
    counts: Counter[Convolution] = Counter()
    constant_bytes = 0
    for island in split_islands(graph):
        if island.on_host:
            continue
        program, _ = lower_program(island.graph, isa, choices)
        counts.update(without_tile(c.kernel) for c in program.calls if isinstance(c.kernel, Convolution))
        constant_bytes += sum(array.nbytes for array in program.constants)
    return counts, constant_bytes


def _tiles_to_try(kernel: Convolution, isa: InstructionSet) -> list[Tile]:
    """The model's favourite, and those that it thinks little worse."""
    tiles = candidate_tiles(kernel, isa)
    limit = _WORST_PREDICTION * predicted_cycles(kernel, tiles[0], isa)
    return [tile for tile in tiles[:CANDIDATES] if predicted_cycles(kernel, tile, isa) <= limit]
