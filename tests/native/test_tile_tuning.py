"""Measured tiles: how they are found, kept and used. Which tile is the fastest is never looked at."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from models import model, samples

import qcompiler
from qcompiler.backends.tvm import tile_choices, tile_tuning
from qcompiler.backends.tvm.graph_lowering import lower_program
from qcompiler.backends.tvm.instruction_set import INSTRUCTION_SETS, InstructionSet
from qcompiler.backends.tvm.kernel_cache import FOLDER_VARIABLE, KernelCache
from qcompiler.backends.tvm.kernels.contraction import Convolution, Tile
from qcompiler.backends.tvm.kernels.contraction_tiles import candidate_tiles, choose_tile
from qcompiler.backends.tvm.kernels.epilogue import Epilogue
from qcompiler.backends.tvm.native_build import native_parts
from qcompiler.backends.tvm.object_code import symbol_of
from qcompiler.backends.tvm.selection import select_instruction_set
from qcompiler.backends.tvm.tile_choices import TileChoices, processor, with_best_tile
from qcompiler.backends.tvm.tile_timing import TimingFailed, time_kernels
from qcompiler.backends.tvm.tile_tuning import tune_tiles
from qcompiler.backends.tvm.toolchain import find_toolchain
from qcompiler.errors import QCompilerError

ISA = select_instruction_set()
SUMS = Epilogue((), (), "int32")


ANY_TILE = Tile(1, 1)


def convolution(outputs: int = 64, tile: Tile = ANY_TILE) -> Convolution:
    return Convolution(8, 8, 16, outputs, (1, 1), (1, 1), (1, 1), (0, 0, 0, 0), 1, "uint8", SUMS, tile)


@pytest.fixture
def choices(tmp_path: Path) -> TileChoices:
    return TileChoices(KernelCache(tmp_path))


def only_file(choices: TileChoices) -> Path:
    assert choices.folder is not None
    (path,) = choices.folder.iterdir()
    return path


def test_a_choice_is_found_whatever_the_tile(choices: TileChoices) -> None:
    assert choices.find(convolution(), ISA) is None
    assert with_best_tile(convolution(), ISA, choices).tile == choose_tile(convolution(), ISA)
    choices.keep(convolution(tile=Tile(2, 3)), ISA, Tile(3, 1), 1234.5)
    assert choices.find(convolution(tile=Tile(1, 2)), ISA) == Tile(3, 1)
    assert with_best_tile(convolution(), ISA, choices) == convolution(tile=Tile(3, 1))
    choices.keep(convolution(), ISA, Tile(2, 2), 1000)
    assert choices.find(convolution(), ISA) == Tile(2, 2)
    path = only_file(choices)
    assert json.loads(path.read_text())["processor"] == processor() != ""


def test_a_choice_counts_for_nothing_else(choices: TileChoices, monkeypatch: pytest.MonkeyPatch) -> None:
    choices.keep(convolution(), ISA, Tile(1, 1), 1)
    assert choices.find(convolution(), ISA) == Tile(1, 1)
    assert choices.find(convolution(65), ISA) is None
    for other in INSTRUCTION_SETS.values():
        assert (choices.find(convolution(), other) is None) == (other.name != ISA.name)
    with monkeypatch.context() as patch:
        patch.setattr(tile_choices, "processor", lambda: "another one")
        assert choices.find(convolution(), ISA) is None
    assert choices.find(convolution(), ISA.retargeted("x86_64-linux-gnu", mcpu="another one")) is None
    monkeypatch.setattr(tile_choices, "source_digest", lambda kernel, isa: "another version")
    assert choices.find(convolution(), ISA) is None


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", '{"pixels": 1}', '{"pixels": 0, "vectors": 1}', '{"pixels": "2", "vectors": 1}',
     '{"pixels": true, "vectors": 1}', '{"pixels": 99, "vectors": 99}', "\x00"],
)
def test_damaged_files_are_as_good_as_none(choices: TileChoices, text: str) -> None:
    choices.keep(convolution(), ISA, Tile(3, 1), 1)
    path = only_file(choices)
    path.write_text(text)
    assert choices.find(convolution(), ISA) is None


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    choices = TileChoices(KernelCache(tmp_path / "file"))
    choices.keep(convolution(), ISA, Tile(3, 1), 1)
    assert choices.find(convolution(), ISA) is None


def test_kernels_are_timed_one_by_one(tmp_path: Path) -> None:
    cache = KernelCache(tmp_path)
    kernels = [convolution(tile=tile) for tile in (Tile(1, 1), Tile(4, 2), Tile(1, 1))]
    times = time_kernels(kernels, ISA, cache, find_toolchain(), constant_bytes=1 << 20)
    assert len(times) == 3
    assert min(times) > 0
    assert cache.compiled == 2


class Given(KernelCache):
    """Kernels that are C functions."""

    def __init__(self, folder: Path, body: str) -> None:
        super().__init__(folder)
        self.body = body

    def object_code(self, kernel: Any, isa: InstructionSet) -> bytes:
        assert self.folder is not None
        source = self.folder / "kernel.c"
        source.write_text(f"void {symbol_of(kernel, isa)}() {{ {self.body} }}")
        find_toolchain().compile(source, self.folder / "kernel.o")
        return (self.folder / "kernel.o").read_bytes()


def test_a_kernel_that_crashes_is_an_error(tmp_path: Path) -> None:
    times = time_kernels([convolution()], ISA, Given(tmp_path, ""), find_toolchain())
    assert times[0] >= 0
    with pytest.raises(TimingFailed, match="kernels cannot be timed"):
        time_kernels([convolution()], ISA, Given(tmp_path, "__builtin_trap();"), find_toolchain())


@pytest.fixture
def user_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def program() -> qcompiler.Program:
    return qcompiler.compile(model("residual_cnn"), target="cpu-int8", data=samples("residual_cnn", 8), native=False)


def convolutions(program: qcompiler.Program) -> list[Convolution]:
    calls = lower_program(program.graph, ISA)[0].calls
    return [call.kernel for call in calls if isinstance(call.kernel, Convolution)]


class LastIsFastest:
    """In place of measuring: each kernel takes less time than the one before it."""

    def __init__(self) -> None:
        self.timed: list[Sequence[Convolution]] = []

    def __call__(self, kernels: Sequence[Convolution], *_: object) -> list[float]:
        self.timed.append(kernels)
        return [float(len(kernels) - i) for i in range(len(kernels))]


def test_later_lowerings_use_the_fastest_tiles(
    program: qcompiler.Program, user_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = LastIsFastest()
    monkeypatch.setattr(tile_tuning, "time_kernels", clock)
    before = convolutions(program)
    assert [k.tile for k in before] == [choose_tile(k, ISA) for k in before]
    reports: list[tuple[str, int, int]] = []
    found = tune_tiles(program.graph, ISA, progress=lambda *report: reports.append(report))
    distinct = len({replace(k, tile=Tile(1, 1)) for k in before})
    assert len(found) == distinct
    assert sum(f.calls for f in found) == len(before)
    assert reports == [("tiles", i + 1, distinct) for i in range(distinct)]
    fastest = {replace(timed[-1], tile=Tile(1, 1)): timed[-1].tile for timed in clock.timed}
    after = convolutions(program)
    assert [k.tile for k in after] == [
        fastest.get(replace(k, tile=Tile(1, 1)), choose_tile(k, ISA)) for k in before
    ]
    assert [k.tile for k in after] != [k.tile for k in before]
    for timed in clock.timed:
        tiles = [k.tile for k in timed]
        assert tiles == list(candidate_tiles(timed[0], ISA))[: len(tiles)]
        assert 2 <= len(tiles) <= tile_tuning.CANDIDATES
    clock.timed.clear()
    assert tune_tiles(program.graph, ISA) == []
    assert not clock.timed


def test_time_is_limited(program: qcompiler.Program, user_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tile_tuning, "time_kernels", LastIsFastest())
    assert tune_tiles(program.graph, ISA, seconds=-1) == []
    assert not user_cache.exists()


def test_tuned_code_computes_the_same(program: qcompiler.Program, user_cache: Path) -> None:
    assert tune_tiles(program.graph, ISA)
    program.build_native(ISA.name)
    feeds = samples("residual_cnn", 5, seed=9)
    for threads in (1, 2):
        for name, expected in program.run(feeds, backend="reference").items():
            found = program.run(feeds, backend="native", threads=threads)[name]
            np.testing.assert_array_equal(found, expected, strict=True)


def test_only_what_runs_here_is_measured(program: qcompiler.Program) -> None:
    foreign = next((isa for isa in INSTRUCTION_SETS.values() if not isa.executed), None)
    if foreign is None:
        pytest.skip("all instruction sets run here")
    with pytest.raises(QCompilerError, match="cannot run code for"):
        tune_tiles(program.graph, foreign)


def test_no_tiles_are_measured_for_other_machines(program: qcompiler.Program) -> None:
    with pytest.raises(QCompilerError, match=r"(?s)riscv64-linux-gnu cannot be measured.*leave out --tune"):
        tune_tiles(program.graph, select_instruction_set(triple="riscv64-linux-gnu"))


def test_a_cache_of_ones_own_brings_its_tiles(
    program: qcompiler.Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tile_tuning, "time_kernels", LastIsFastest())
    cache = KernelCache(tmp_path)
    assert tune_tiles(program.graph, ISA, cache=cache)
    mine, theirs = native_parts(program.graph, ISA, cache)[0], native_parts(program.graph, ISA)[0]
    assert set(mine.kernels) != set(theirs.kernels)
    assert set(native_parts(program.graph, ISA, KernelCache(tmp_path))[0].kernels) == set(mine.kernels)
