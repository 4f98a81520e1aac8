"""Tiles that were measured to be the fastest, kept on disk for later compilations."""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import replace
from functools import cache
from pathlib import Path

from qcompiler.backends.tvm.code_sources import source_digest
from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.kernel_cache import KernelCache, write_whole
from qcompiler.backends.tvm.kernels.contraction import Convolution, Tile
from qcompiler.backends.tvm.kernels.contraction_tiles import choose_tile

_CPU_INFO = Path("/proc/cpuinfo")
_IDENTIFYING = frozenset({
    "vendor_id", "cpu family", "model", "model name", "stepping",
    "CPU implementer", "CPU variant", "CPU part", "CPU revision",
})


class TileChoices:
    """One small JSON file for each convolution, instruction set, processor and version of the kernels' source.

    A choice is thus never out of date. Files are written whole or not at all; a folder that cannot be written, or a
    damaged file, means that the model of the cycles decides.
    """

    def __init__(self, cache: KernelCache | None = None) -> None:
        """Args:
            cache: the choices are kept beside its kernels; the user's by default.
        """
        root = (cache or KernelCache()).folder
        self.folder = None if root is None else root / "tiles"

    def find(self, kernel: Convolution, isa: InstructionSet) -> Tile | None:
        """The measured tile of a convolution, whatever tile it has now; None where none was measured."""
        path = self._path(kernel, isa)
        if path is None:
            return None
        try:
            entry = json.loads(path.read_text(encoding="utf-8"))
            pixels, vectors = entry["pixels"], entry["vectors"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        fits = all(type(size) is int and size >= 1 for size in (pixels, vectors))
        return Tile(pixels, vectors) if fits and pixels * vectors <= isa.registers else None

    def keep(self, kernel: Convolution, isa: InstructionSet, tile: Tile, nanoseconds: float) -> None:
        """Remember a convolution's tile, and for people the time that it took."""
        entry = {
            "kernel": repr(without_tile(kernel)), "instruction_set": isa.name, "processor": processor(),
            "pixels": tile.pixels, "vectors": tile.vectors, "nanoseconds": round(nanoseconds),
        }
        path = self._path(kernel, isa)
        if path is not None:
            write_whole(path, json.dumps(entry, indent=1).encode())

    def _path(self, kernel: Convolution, isa: InstructionSet) -> Path | None:
        if self.folder is None:
            return None
        target = repr(sorted(isa.llvm_target.items()))
        text = "\n".join((repr(without_tile(kernel)), isa.name, target, processor(), source_digest(kernel, isa)))
        return self.folder / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.json"


def with_best_tile(kernel: Convolution, isa: InstructionSet, choices: TileChoices | None = None) -> Convolution:
    """A convolution with the tile that was measured to be the fastest, else with the one that the model prefers.

    Args:
        kernel: with any tile.
        isa: what it will be compiled for.
        choices: where measured tiles are; the user's by default.
    """
    tile = (choices or TileChoices()).find(kernel, isa)
    return replace(kernel, tile=tile or choose_tile(kernel, isa))


def without_tile(kernel: Convolution) -> Convolution:
    """What convolutions have in common that differ in their tiles only."""
    return replace(kernel, tile=Tile(1, 1))


@cache
def processor() -> str:
    """What tells this machine's kind of processor from others."""
    if not _CPU_INFO.exists():
        return platform.processor() or platform.machine()
    first = _CPU_INFO.read_text(encoding="utf-8").split("\n\n")[0]
    fields = (line.partition(":") for line in first.splitlines())
    return "; ".join(f"{k.strip()} {v.strip()}" for k, _, v in fields if k.strip() in _IDENTIFYING)
