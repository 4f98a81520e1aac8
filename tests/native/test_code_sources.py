"""Which sources compiled kernels depend on."""

from __future__ import annotations

import importlib
import inspect
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from kernel_harness import isa_parameters

import qcompiler
from qcompiler.backends.tvm import code_sources
from qcompiler.backends.tvm.code_sources import source_digest, source_files
from qcompiler.backends.tvm.element import Step
from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.kernel import Kernel
from qcompiler.backends.tvm.kernels.contraction import Convolution, Tile
from qcompiler.backends.tvm.kernels.depthwise import Depthwise
from qcompiler.backends.tvm.kernels.epilogue import Epilogue
from qcompiler.backends.tvm.kernels.softmax import GemmlowpSoftmaxRows
from qcompiler.backends.tvm.kernels.table import TableLookup
from qcompiler.backends.tvm.object_code import assembly, symbol_of
from qcompiler.backends.tvm.selection import runnable_instruction_sets, select_instruction_set
from qcompiler.backends.tvm.stages.binary import FloatSum

PACKAGE = Path(qcompiler.__file__).parent
PLAIN = Epilogue((), (), "int32")
GENERIC = select_instruction_set("generic")


def convolution(epilogue: Epilogue) -> Convolution:
    return Convolution(5, 5, 3, 8, (3, 3), (1, 1), (1, 1), (1,) * 4, 1, "uint8", epilogue, Tile(2, 1))


KERNELS: dict[str, Kernel] = {
    "convolution": convolution(PLAIN),
    "depthwise": Depthwise(5, 5, 8, (3, 3), (1, 1), (1, 1), (1,) * 4, "uint8", PLAIN),
    "softmax": GemmlowpSoftmaxRows(3, 9, "int8", "int8"),
    "table": TableLookup(100, "uint8", "uint8"),
}


def names(kernel: Kernel, isa: InstructionSet = GENERIC) -> set[str]:
    """Files below ``backends/tvm``."""
    folder = PACKAGE / "backends" / "tvm"
    found = source_files(kernel, isa)
    return {path.relative_to(folder).as_posix() for path in found if path.is_relative_to(folder)}


def pairs() -> list[Any]:
    """One kernel for every instruction set, and every kernel for one: the best that runs here."""
    chosen = [("convolution", parameter) for parameter in isa_parameters()]
    best = runnable_instruction_sets()[0]
    chosen += [(name, pytest.param(best, id=best.name)) for name in KERNELS if name != "convolution"]
    return [pytest.param(KERNELS[name], *p.values, id=f"{name}-{p.id}", marks=p.marks) for name, p in chosen]


@pytest.mark.parametrize(("kernel", "isa"), pairs())
def test_all_code_that_runs_while_a_kernel_is_compiled_counts(kernel: Kernel, isa: InstructionSet) -> None:
    ran: set[Path] = set()

    def note(frame: FrameType, event: str, argument: Any) -> None:
        ran.add(Path(frame.f_code.co_filename))

    sys.setprofile(note)
    try:
        assembly(kernel, isa)
    finally:
        sys.setprofile(None)
    ours = {path for path in ran if path.is_relative_to(PACKAGE)}
    assert Path(inspect.getfile(type(kernel))) in ours
    assert ours <= source_files(kernel, isa)


def test_what_decides_no_code_does_not_count() -> None:
    found = names(KERNELS["convolution"])
    assert {"object_code.py", "lanes.py", "kernels/epilogue.py", "instruction_sets/generic.py"} <= found
    others = {"toolchain.py", "native_library.py", "kernels/depthwise.py", "kernels/contraction_tiles.py"}
    assert all((PACKAGE / "backends" / "tvm" / name).exists() for name in others)
    assert not found & others
    assert "instruction_sets/avx2.py" not in found
    assert "instruction_sets/avx2.py" in names(KERNELS["convolution"], select_instruction_set("avx512-vnni"))


def test_numbers_of_the_arithmetic_count() -> None:
    assert PACKAGE / "numerics" / "fixed_point.py" in source_files(KERNELS["softmax"], GENERIC)


def test_the_stages_that_a_kernel_holds_count() -> None:
    summing = convolution(Epilogue((Step(FloatSum(True), (0, 0, 0, 0, 0)),), (), "int32"))
    assert "stages/binary.py" in names(summing)
    assert "stages/binary.py" not in names(KERNELS["convolution"])


def test_a_change_to_a_plugin_gives_new_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All files of its package count, and what they import of ours."""
    folder = tmp_path / "widening_plugin"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "amounts.py").write_text("AMOUNT = 1\n")
    (folder / "kernels.py").write_text(
        "from dataclasses import dataclass\n"
        "from qcompiler.backends.tvm.kernels import table\n"
        "@dataclass(frozen=True)\n"
        "class Widening(table.TableLookup):\n"
        "    pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    kernel = importlib.import_module("widening_plugin.kernels").Widening(9, "uint8", "uint8")
    assert "kernels/table.py" in names(kernel)
    before = source_digest(kernel, GENERIC), symbol_of(kernel, GENERIC)
    (folder / "amounts.py").write_text("AMOUNT = 2\n")
    code_sources._digest.cache_clear()
    after = source_digest(kernel, GENERIC), symbol_of(kernel, GENERIC)
    assert before[0] != after[0]
    assert before[1] != after[1]
