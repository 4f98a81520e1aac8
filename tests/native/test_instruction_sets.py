"""What instruction sets make of kernels: exact numbers where code is executed, the right instructions elsewhere."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from kernel_harness import isa_fixture, run_kernel
from tvm.target import Target
from tvm.target.codegen import llvm_get_cpu_features

from qcompiler.backends.tvm.instruction_set import INSTRUCTION_SETS, InstructionSet
from qcompiler.backends.tvm.instruction_sets.x86 import TUNING, x86_target
from qcompiler.backends.tvm.kernel import Argument, Kernel, Role, load, store
from qcompiler.backends.tvm.kernels.contraction import Convolution, Tile
from qcompiler.backends.tvm.kernels.depthwise import Depthwise
from qcompiler.backends.tvm.kernels.epilogue import Epilogue
from qcompiler.backends.tvm.lanes import Expr, convert, literal
from qcompiler.backends.tvm.library_build import RUNTIME
from qcompiler.backends.tvm.object_code import assembly

isa = isa_fixture()

X86 = [found for found in INSTRUCTION_SETS.values() if found.architecture == "x86_64"]

BYTES = Epilogue((), (), "uint8")


@dataclass(frozen=True)
class Single(Kernel):
    """A kernel of one item."""

    def items(self, isa: InstructionSet) -> int:
        return 1

    def work(self) -> int:
        return 1


@dataclass(frozen=True)
class Packing(Single):
    """Four vectors of int32 to bytes."""

    result: str

    def arguments(self, isa: InstructionSet) -> tuple[Argument, ...]:
        return (
            Argument("x", "int32", 4 * isa.lanes, Role.INPUT), Argument("y", self.result, 4 * isa.lanes, Role.OUTPUT)
        )

    def emit(self, isa: InstructionSet, buffers: Mapping[str, Any], begin: Expr, end: Expr) -> None:
        vectors = [load(buffers["x"], i * isa.lanes, isa.lanes) for i in range(4)]
        store(buffers["y"], 0, isa.pack_to_bytes(vectors, self.result))


@dataclass(frozen=True)
class Dot(Single):
    """One dot product for each lane, added to itself twice."""

    def arguments(self, isa: InstructionSet) -> tuple[Argument, ...]:
        terms = isa.lanes * isa.group
        return (
            Argument("a", isa.activation, terms, Role.INPUT), Argument("w", isa.weight, terms, Role.INPUT),
            Argument("start", "int32", isa.lanes, Role.INPUT), Argument("y", "int32", isa.lanes, Role.OUTPUT),
        )

    def emit(self, isa: InstructionSet, buffers: Mapping[str, Any], begin: Expr, end: Expr) -> None:
        a, w = (load(buffers[name], 0, isa.lanes * isa.group) for name in "aw")
        store(buffers["y"], 0, isa.dot(load(buffers["start"], 0, isa.lanes), a, w))


@dataclass(frozen=True)
class FloatSums(Single):
    """x * x + 1 in float32, for whole numbers: LLVM may fuse both into one instruction where there is one."""

    def arguments(self, isa: InstructionSet) -> tuple[Argument, ...]:
        return Argument("x", "int32", isa.lanes, Role.INPUT), Argument("y", "float32", isa.lanes, Role.OUTPUT)

    def emit(self, isa: InstructionSet, buffers: Mapping[str, Any], begin: Expr, end: Expr) -> None:
        x = convert(load(buffers["x"], 0, isa.lanes), "float32")
        store(buffers["y"], 0, x * x + literal(1.0, "float32", isa.lanes))


def convolution(activation: str = "uint8") -> Convolution:
    return Convolution(9, 9, 24, 40, (3, 3), (1, 1), (1, 1), (1,) * 4, 1, activation, BYTES, Tile(4, 2))


def depthwise(activation: str = "uint8") -> Depthwise:
    return Depthwise(9, 9, 72, (3, 3), (1, 1), (1, 1), (1,) * 4, activation, BYTES)


@pytest.mark.parametrize("result", ["int8", "uint8"])
def test_packing_saturates_every_number_and_keeps_the_order(isa: InstructionSet, result: str) -> None:
    edges = [0, 1, -1, 127, 128, -128, -129, 255, 256, 32767, 32768, -32768, -32769, 65535, 65536, 2**31 - 1, -(2**31)]
    rng = np.random.default_rng(3)
    info = np.iinfo(result)
    kernel = Packing(result)
    for _ in range(20):
        x = np.where(
            rng.random(4 * isa.lanes) < 0.5, rng.choice(edges, 4 * isa.lanes), rng.integers(-400, 400, 4 * isa.lanes)
        ).astype(np.int32)
        y = np.zeros(4 * isa.lanes, result)
        run_kernel(kernel, isa, {"x": x, "y": y})
        np.testing.assert_array_equal(y, np.clip(x, info.min, info.max))


def test_dot_products_of_extreme_numbers_are_exact(isa: InstructionSet) -> None:
    """Sums of two products beyond int16, which vpmaddubsw would saturate, and sums that reach the ends of int32."""
    lowest, highest = (0, 255) if isa.activation == "uint8" else (-128, 255)
    shape = (isa.lanes, isa.group)
    rng = np.random.default_rng(4)
    for a_choice in ([highest], [lowest], [lowest, highest, 1]):
        for w_choice in ([127], [-128], [-128, 127, 1]):
            a = rng.choice(a_choice, shape).astype(isa.activation)
            w = rng.choice(w_choice, shape).astype(isa.weight)
            exact = (a.astype(np.int64) * w).sum(axis=1)
            ends = np.where(exact > 0, 2**31 - 1, -(2**31)) - exact
            for start in (np.zeros_like(exact), ends):
                y = np.zeros(isa.lanes, np.int32)
                run_kernel(Dot(), isa, {"a": a, "w": w, "start": start.astype(np.int32), "y": y})
                np.testing.assert_array_equal(y, exact + start)


@pytest.mark.parametrize("found", X86, ids=lambda found: str(found.name))
def test_llvm_may_use_the_stated_extensions_and_no_others(found: InstructionSet) -> None:
    def features(target: dict[str, Any]) -> set[str]:
        return set(llvm_get_cpu_features(Target({"kind": "llvm", **target})))

    used = features(found.llvm_target) - features(x86_target(())) - set(TUNING)
    assert used == set(found.features)


@pytest.mark.parametrize("found", X86, ids=lambda found: str(found.name))
def test_libraries_can_ask_for_each_extension(found: InstructionSet) -> None:
    known = set(re.findall(r'^ +\{"([^"]+)",', (RUNTIME / "qcompiler_processor.c").read_text(), re.MULTILINE))
    assert known
    assert set(found.features) <= known


EXPECTED = {
    "sse2": r"\tpmaddwd\t.*%xmm",
    "avx2": r"\tvpmaddwd\t.*%ymm",
    "avx-vnni": r"\t\{vex\}\s+vpdpbusd\t.*%ymm",
    "avx512-vnni": r"\tvpdpbusd\t.*%zmm",
    "avx512-vbmi": r"\tvpdpbusd\t.*%zmm",
    "aarch64-dotprod": r"\tsdot\tv\d+\.4s",
}
"""What sums of products are made of."""


@pytest.mark.parametrize("name", EXPECTED)
@pytest.mark.parametrize("kernel", [convolution("uint8"), convolution("int8"), depthwise("uint8"), depthwise("int8")],
                         ids=["convolution-uint8", "convolution-int8", "depthwise-uint8", "depthwise-int8"])
def test_products_are_summed_by_the_expected_instruction(name: str, kernel: Kernel) -> None:
    text = assembly(kernel, INSTRUCTION_SETS[name])
    assert len(re.findall(EXPECTED[name], text)) >= 8
    assert "maddubs" not in text
    if name in ("avx2", "avx-vnni"):
        # Neither wider registers nor more of them: nothing that only AVX-512 encodes.
        assert not re.search(r"%zmm|%[xy]mm(1[6-9]|[23]\d)|%k\d", text)
    if name == "sse2":
        assert not re.search(r"\tv\w+\t|%ymm", text)


def test_llvm_leaves_out_what_a_target_does_not_name() -> None:
    """It fuses products and sums wherever it may."""
    assert "vfmadd" in assembly(FloatSums(), INSTRUCTION_SETS["avx2"])
    assert "fmadd" not in assembly(FloatSums(), INSTRUCTION_SETS["sse2"])


@pytest.mark.parametrize("name", EXPECTED)
def test_packing_takes_the_processors_own_instructions(name: str) -> None:
    text = assembly(Packing("uint8"), INSTRUCTION_SETS[name])
    narrowing = r"\tsqxtun" if name.startswith("aarch64") else r"\tv?packuswb\t"
    assert len(re.findall(narrowing, text)) in (1, 2, 4)
    body = text.split("kernel:")[1].split(".Lfunc_end0")[0]
    assert len(re.findall(r"^\t[a-z]", body, re.MULTILINE)) < 16
