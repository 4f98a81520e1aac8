"""Instruction sets as kernels see them that multiply numbers of 16 bits."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from kernel_harness import isa_fixture, run_kernel

from qcompiler.backends.tvm.instruction_set import INSTRUCTION_SETS, InstructionSet
from qcompiler.backends.tvm.kernel import Argument, Kernel, Role, load, loop, store
from qcompiler.backends.tvm.kernels.contraction import Convolution, Tile
from qcompiler.backends.tvm.kernels.depthwise import Depthwise
from qcompiler.backends.tvm.kernels.epilogue import Epilogue
from qcompiler.backends.tvm.kernels.wide_kernel import WideKernel
from qcompiler.backends.tvm.lanes import Expr
from qcompiler.backends.tvm.object_code import assembly
from qcompiler.backends.tvm.selection import select_instruction_set

isa = isa_fixture()

LOWEST, HIGHEST = -(1 << 15), (1 << 15) - 1


@dataclass(frozen=True)
class Dots(Kernel):
    """``count`` dot products for each lane, added up."""

    count: int

    def items(self, isa: InstructionSet) -> int:
        return 1

    def work(self) -> int:
        return 1

    def arguments(self, isa: InstructionSet) -> tuple[Argument, ...]:
        terms = self.count * isa.lanes * isa.group
        return (
            Argument("a", isa.activation, terms, Role.INPUT), Argument("w", isa.weight, terms, Role.INPUT),
            Argument("start", "int32", isa.lanes, Role.INPUT), Argument("y", "int32", isa.lanes, Role.OUTPUT),
        )

    def emit(self, isa: InstructionSet, buffers: Mapping[str, Any], begin: Expr, end: Expr) -> None:
        step = isa.lanes * isa.group
        store(buffers["y"], 0, load(buffers["start"], 0, isa.lanes))
        with loop(0, self.count) as i:
            a, w = (load(buffers[name], i * step, step) for name in "aw")
            store(buffers["y"], 0, isa.dot(load(buffers["y"], 0, isa.lanes), a, w))


@pytest.mark.parametrize("activation", [[LOWEST], [HIGHEST], [LOWEST, HIGHEST, 1, -1]], ids=str)
@pytest.mark.parametrize("weight", [[LOWEST], [HIGHEST], [LOWEST, HIGHEST, 1, -1]], ids=str)
def test_products_of_extreme_numbers_are_summed_up_exactly(
    isa: InstructionSet, activation: list[int], weight: list[int]
) -> None:
    """Up to where sums begin to wrap around; those that begin from bytes wrap around too."""
    wide, rng = isa.wide, np.random.default_rng(3)
    count = 5 if wide is not isa else 1
    shape = (count, wide.lanes, wide.group)
    a, w = (rng.choice(numbers, shape).astype(np.int16) for numbers in (activation, weight))
    products = a.astype(np.int64) * w
    if wide is isa:
        # As weights are split, the last product of a group is the smallest; nothing leaves int32.
        w[..., 1:] = np.sign(w[..., 1:])
        products = a.astype(np.int64) * w
        assert np.abs(products.sum(axis=(0, 2))).max() < 1 << 31
    sums = products.sum(axis=(0, 2))
    start = rng.integers(-9, 9, wide.lanes) if wide is isa else rng.integers(-(1 << 31), 1 << 31, wide.lanes)
    y = np.zeros(wide.lanes, np.int32)
    run_kernel(WideKernel(Dots(count)), isa, {"a": a, "w": w, "start": start.astype(np.int32), "y": y})
    np.testing.assert_array_equal(y, (sums + start).astype(np.uint32).view(np.int32))


def test_the_view_is_of_16_bits_and_the_set_stays_as_it_was(isa: InstructionSet) -> None:
    before = (isa.activation, isa.weight, isa.group, isa.name)
    wide = isa.wide
    assert (wide.activation, wide.weight) == ("int16", "int16")
    assert (isa.activation, isa.weight, isa.group, isa.name) == before
    assert wide.wide is wide
    assert (wide.registers, wide.register_bytes, wide.llvm_target) == (
        isa.registers, isa.register_bytes, isa.llvm_target
    )
    copied = pickle.loads(pickle.dumps(wide))
    assert (copied.name, copied.group) == (wide.name, wide.group)


def test_a_view_makes_code_for_the_machine_that_was_named() -> None:
    other = select_instruction_set("aarch64-dotprod", "aarch64-apple-darwin")
    assert other.wide.llvm_target["mtriple"] == "aarch64-apple-darwin"
    assert other.wide.is_retargeted


EXPECTED = {
    "sse2": r"\tpmaddwd\t.*%xmm",
    "avx2": r"\tvpmaddwd\t.*%ymm",
    "avx-vnni": r"\t\{vex\}\s+vpdpwssd\t.*%ymm",
    "avx512-vnni": r"\tvpdpwssd\t.*%zmm",
    "avx512-vbmi": r"\tvpdpwssd\t.*%zmm",
    "aarch64-dotprod": r"\tsmlal2?\tv\d+\.4s",
}
"""What sums of products are made of."""

SUMS = Epilogue((), (), "int32")
KERNELS: dict[str, Kernel] = {
    "convolution": Convolution(9, 9, 24, 40, (3, 3), (1, 1), (1, 1), (1,) * 4, 1, "int16", SUMS, Tile(4, 2)),
    "depthwise": Depthwise(9, 9, 72, (3, 3), (1, 1), (1, 1), (1,) * 4, "int16", SUMS),
}


@pytest.mark.parametrize("name", EXPECTED)
@pytest.mark.parametrize("kernel", KERNELS)
def test_products_are_summed_by_the_expected_instruction(name: str, kernel: str) -> None:
    text = assembly(WideKernel(KERNELS[kernel]), INSTRUCTION_SETS[name])
    assert len(re.findall(EXPECTED[name], text)) >= 8
    if name in ("avx2", "avx-vnni"):
        assert not re.search(r"%zmm|%[xy]mm(1[6-9]|[23]\d)|%k\d", text)
    if name == "sse2":
        assert not re.search(r"\tv\w+\t|%ymm", text)
