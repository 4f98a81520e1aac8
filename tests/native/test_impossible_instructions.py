"""The guard against instructions that LLVM encodes wrongly: what it recognises, and what becomes of such a kernel."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_harness import run_kernel

from qcompiler.backends.tvm import object_code
from qcompiler.backends.tvm.impossible_instructions import impossible_instructions, may_be_impossible
from qcompiler.backends.tvm.instruction_set import INSTRUCTION_SETS
from qcompiler.backends.tvm.kernels.contraction import Convolution, Tile
from qcompiler.backends.tvm.kernels.epilogue import Epilogue
from qcompiler.backends.tvm.kernels.table import TableLookup
from qcompiler.backends.tvm.object_code import assembly, compile_kernel, symbol_of
from qcompiler.backends.tvm.selection import select_instruction_set

TABLE = TableLookup(100, "uint8", "uint8")
AVX512 = INSTRUCTION_SETS["avx512-vnni"]


def vex(r: int, x: int, b: int, pp: int, wide: int, opcode: int, modrm: int) -> bytes:
    """An instruction with a three-byte VEX prefix of map 0F, bits R, X and B as the register numbers have them."""
    return bytes([0xC4, (1 - r) << 7 | (1 - x) << 6 | (1 - b) << 5 | 1, 0x78 | wide << 2 | pp, opcode, modrm])


@pytest.mark.parametrize(("opcode", "pp"), [(0x50, 0), (0x50, 1), (0xD7, 1)])
@pytest.mark.parametrize("wide", [0, 1])
def test_registers_from_16_on_are_recognised_in_bytes(opcode: int, pp: int, wide: int) -> None:
    for number in range(32):
        for result in range(16):
            modrm = 0xC0 | (result & 7) << 3 | number & 7
            code = vex(result >> 3, number >> 4, number >> 3 & 1, pp, wide, opcode, modrm)
            assert may_be_impossible(b"\x90" + code + b"\x90") == (number >= 16)


def test_the_bytes_that_were_seen() -> None:
    assert vex(1, 1, 0, 0, 0, 0x50, 0xF1) == bytes.fromhex("c4217850f1")
    assert may_be_impossible(bytes.fromhex("c4217850f1"))
    # The same of xmm1, and of xmm9.
    assert not may_be_impossible(bytes.fromhex("c4617850f1"))
    assert not may_be_impossible(bytes.fromhex("c4417850f1"))


@pytest.mark.parametrize(
    ("line", "impossible"),
    [
        ("\tvmovmskps\t%xmm17, %r14d", True), ("\tvmovmskpd\t%ymm31, %eax", True), ("\tvpmovmskb\t%xmm16, %ecx", True),
        ("\tvmovmskps\t%xmm15, %eax", False), ("\tvmovmskps\t%xmm1, %r16d", False), ("\tvmovaps\t%xmm17, %xmm1", False),
        ("\tvpmovd2m\t%xmm17, %k1", False),
    ],
)
def test_registers_from_16_on_are_recognised_in_text(line: str, impossible: bool) -> None:
    found = impossible_instructions(f"kernel:\n{line}\n\tretq\n")
    assert found == ([" ".join(line.split())] if impossible else [])


def test_a_kernel_with_one_is_compiled_in_another_way(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[object] = []
    build = object_code._build

    def spy(kernel: object, isa: object, symbol: str, options: object) -> object:
        built.append(options)
        return build(kernel, isa, symbol, options)  # type: ignore[arg-type]

    monkeypatch.setattr(object_code, "_build", spy)
    monkeypatch.setattr(object_code, "may_be_impossible", lambda code: True)
    answers = iter([["vmovmskps %xmm17, %r14d"], []])
    monkeypatch.setattr(object_code, "impossible_instructions", lambda text: next(answers))
    code = compile_kernel(TABLE, AVX512)
    assert built == [{}, {"cl-opt": ["-vectorize-slp:bool=false"]}]
    assert symbol_of(TABLE, AVX512).encode() in code


def test_bytes_that_are_no_instruction_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = compile_kernel(TABLE, AVX512)
    monkeypatch.setattr(object_code, "may_be_impossible", lambda code: True)
    assert compile_kernel(TABLE, AVX512) == expected


def test_a_kernel_that_keeps_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_code, "may_be_impossible", lambda code: True)
    monkeypatch.setattr(object_code, "impossible_instructions", lambda text: ["vmovmskps %xmm17, %r14d"])
    with pytest.raises(RuntimeError, match=r"does not exist, in TableLookup\(.*avx512-vnni: vmovmskps %xmm17"):
        compile_kernel(TABLE, AVX512)


def test_the_other_way_computes_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    isa = select_instruction_set()
    rng = np.random.default_rng()
    x, table = rng.integers(0, 256, 100, np.uint8), rng.integers(0, 256, 256, np.uint8)
    arrays = {a.name: {"x": x, "table": table}.get(a.name, np.zeros(a.elements, a.dtype)) for a in TABLE.arguments(isa)}
    monkeypatch.setattr(object_code, "may_be_impossible", lambda code: True)
    answers = iter([["vmovmskps"], []])
    monkeypatch.setattr(object_code, "impossible_instructions", lambda text: next(answers, []))
    run_kernel(TABLE, isa, arrays)
    output = next(a.name for a in TABLE.arguments(isa) if a.role.value == "output")
    np.testing.assert_array_equal(arrays[output], table[x])


def test_the_option_that_is_changed_is_put_back() -> None:
    """LLVM's options belong to the process: a kernel compiled afterwards has the code that it had before."""
    plain = Epilogue((), (), "int32")
    kernel = Convolution(5, 5, 3, 8, (3, 3), (1, 1), (1, 1), (1,) * 4, 1, "uint8", plain, Tile(2, 1))
    before = assembly(kernel, AVX512)
    object_code._build(kernel, AVX512, "kernel", object_code._WITHOUT_MASKS)
    assert assembly(kernel, AVX512) == before
