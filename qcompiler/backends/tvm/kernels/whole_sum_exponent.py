"""The exponent of a sample whose sums of products are normalized."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as T

from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.kernel import Argument, Kernel, Role, held, load, loop, named, store
from qcompiler.backends.tvm.kernels.exponent_choice import choose_exponent
from qcompiler.backends.tvm.kernels.mantissa_extremes import across
from qcompiler.backends.tvm.kernels.mantissa_shift import LIMITS
from qcompiler.backends.tvm.kernels.whole_sums import BoundSums, WholeSums
from qcompiler.backends.tvm.lanes import Expr, literal
from qcompiler.numerics.block_format import BlockFormat


@dataclass(frozen=True)
class SumExtremes(Kernel):
    """The smallest and the largest sum of each item, without limits. They decide a sample's exponent alone.

    Arguments: those of the sums, ``extremes``, int64 ``[items, 2]``.
    """

    sums: WholeSums

    def arguments(self, isa: InstructionSet) -> tuple[Argument, ...]:
        return (*self.sums.arguments(), Argument("extremes", "int64", 2 * self.sums.layout.items, Role.OUTPUT))

    def items(self, isa: InstructionSet) -> int:
        return self.sums.layout.items

    def work(self) -> int:
        return 20 * self.sums.layout.pixels * self.sums.layout.channels

    def emit(self, isa: InstructionSet, buffers: Mapping[str, Any], begin: Expr, end: Expr) -> None:
        sums = self.sums.bind(buffers)
        with loop(begin, end) as item, T.If(sums.right > tirx.const(0, "int32")):
            with T.Then():
                self._item(isa, buffers, sums, item, shifts=True)
            with T.Else():
                self._item(isa, buffers, sums, item, shifts=False)

    def _item(
        self, isa: InstructionSet, buffers: Mapping[str, Any], sums: BoundSums, item: Expr, shifts: bool
    ) -> None:
        layout = self.sums.layout
        width = min(isa.lanes, 1 << (layout.outputs.bit_length() - 1))
        least, most = (T.alloc_buffer((width,), "int64", scope="local") for _ in range(2))
        store(least, 0, literal(LIMITS["int64"], "int64", width))
        store(most, 0, literal(-LIMITS["int64"], "int64", width))

        def look(place: Expr, numbers: Expr) -> None:
            store(least, 0, tirx.min(load(least, 0, width), numbers))
            store(most, 0, tirx.max(load(most, 0, width), numbers))

        first = named(item * layout.pixels_per_item)
        last = named(tirx.min(first + layout.pixels_per_item, layout.pixels))
        sums.for_each_vector(first, last, width, shifts, look)
        store(buffers["extremes"], item * 2, across(load(least, 0, width), tirx.min))
        store(buffers["extremes"], item * 2 + 1, across(load(most, 0, width), tirx.max))


@dataclass(frozen=True)
class ChooseSumExponent(Kernel):
    """The exponent of normalized sums from their extremes, or that of the sums themselves.

    Arguments: where there is a format ``extremes``, int64 ``[items, 2]``; those of the sums' exponents and limits;
    ``y_exponents``, int32, one number.

    Attributes:
        sums: the sums.
        block_format: what they become; None where they stay as they are.
    """

    sums: WholeSums
    block_format: BlockFormat | None

    def arguments(self, isa: InstructionSet) -> tuple[Argument, ...]:
        taken = [a for a in self.sums.arguments() if a.name not in ("sums", "bias")]
        if self.block_format is not None:
            taken.insert(0, Argument("extremes", "int64", 2 * self.sums.layout.items, Role.INPUT))
        return (*taken, Argument("y_exponents", "int32", 1, Role.OUTPUT))

    def items(self, isa: InstructionSet) -> int:
        return 1

    def work(self) -> int:
        return 2 * self.sums.layout.items + 100

    def emit(self, isa: InstructionSet, buffers: Mapping[str, Any], begin: Expr, end: Expr) -> None:
        with loop(begin, end):
            sums = self.sums.bind(buffers)
            exponent = sums.exponent
            if self.block_format is not None:
                exponent = self._chosen(buffers, sums, self.block_format)
            store(buffers["y_exponents"], tirx.const(0, "int32"), exponent)

    def _chosen(self, buffers: Mapping[str, Any], sums: BoundSums, block_format: BlockFormat) -> Expr:
        extremes = buffers["extremes"]
        least, most = (T.alloc_buffer((1,), "int64", scope="local") for _ in range(2))
        store(least, 0, load(extremes, tirx.const(0, "int32")))
        store(most, 0, load(extremes, tirx.const(1, "int32")))
        with loop(1, self.sums.layout.items) as piece:
            store(least, 0, tirx.min(load(least, 0), load(extremes, piece * 2)))
            store(most, 0, tirx.max(load(most, 0), load(extremes, piece * 2 + 1)))
        ends = [held(load(end, 0)) for end in (least, most)]
        if self.sums.limits is not None:
            ends = [self.sums.limits.apply(buffers, end, sums.exponent) for end in ends]
        return choose_exponent([(end, sums.exponent) for end in ends], block_format)

