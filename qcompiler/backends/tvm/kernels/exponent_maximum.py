"""Exponents of blocks that are made of others: the largest of theirs, or of sums of two."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as T

from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.kernel import Argument, Kernel, Role, held, load, loop, named, store
from qcompiler.backends.tvm.kernels.mantissa_addressing import Address, exponent_count
from qcompiler.backends.tvm.kernels.mantissa_loop import Run, RunPartition, partition_of
from qcompiler.backends.tvm.kernels.mantissa_reading import BoundExponents
from qcompiler.backends.tvm.kernels.mantissa_shift import in_lanes
from qcompiler.backends.tvm.lanes import Expr, literal_like

BLOCKS_PER_ITEM = 256


@dataclass(frozen=True)
class PairExponents(Kernel):
    """The larger of two exponents, or their sum, for each block of a result that lies within a block of both operands.

    Arguments: ``a_exponents``, ``b_exponents``, ``y_exponents``.

    Attributes:
        shape: the result's grid of blocks.
        a, b: exponents of the operands on that grid; their strides do not matter.
        function: ``max`` or ``sum``.
        lowest: of the result.
    """

    shape: tuple[int, ...]
    a: Address
    b: Address
    function: str
    lowest: int

    @property
    def partition(self) -> RunPartition:
        return partition_of(self.shape, (self.a, self.b))

    def arguments(self, isa: InstructionSet) -> tuple[Argument, ...]:
        return (
            Argument("a_exponents", "int32", exponent_count(self.shape, self.a), Role.INPUT),
            Argument("b_exponents", "int32", exponent_count(self.shape, self.b), Role.INPUT),
            Argument("y_exponents", "int32", math.prod(self.shape), Role.OUTPUT),
        )

    def items(self, isa: InstructionSet) -> int:
        return self.partition.items

    def work(self) -> int:
        return self.partition.rows * self.shape[-1] // 4

    def emit(self, isa: InstructionSet, buffers: Mapping[str, Any], begin: Expr, end: Expr) -> None:
        def write_run(unit: Expr, run: Run) -> None:
            operands = [BoundExponents(buffers[f"{n}_exponents"], run, a) for n, a in (("a", self.a), ("b", self.b))]
            first = named(run.row * self.shape[-1])

            def write(column: Expr, lanes: int) -> None:
                found = (operand.at(column, lanes) for operand in operands)
                a, b = (in_lanes(e, lanes) for e in found)
                combined = held(a + b if self.function == "sum" else tirx.max(a, b))
                store(
                    buffers["y_exponents"], first + column, tirx.max(combined, literal_like(self.lowest, combined))
                )

            run.for_each_vector(isa.lanes, write)

        self.partition.for_each_run(begin, end, write_run)


@dataclass(frozen=True)
class LargestExponents(Kernel):
    """For each block the largest of the exponents that it is made of, or the lowest of the format for none.

    Arguments: ``x_exponents``, ``x_places`` ``[terms]``; where each term is a sum, ``w_exponents`` and ``w_places``;
    ``starts`` ``[blocks + 1]``, where each block's terms begin; ``previous`` ``[blocks]``, where there is one, a term
    of each block; ``y_exponents`` ``[blocks]``. Places and starts are int32.

    Attributes:
        blocks: of the result.
        terms: of all blocks together.
        x_count, w_count: exponents of the operands; ``w_count`` is 0 where terms are no sums.
        has_previous: whether there is a first term for each block.
        lowest: of the result.
    """

    blocks: int
    terms: int
    x_count: int
    w_count: int
    has_previous: bool
    lowest: int

    def arguments(self, isa: InstructionSet) -> tuple[Argument, ...]:
        found = [
            Argument("x_exponents", "int32", self.x_count, Role.INPUT),
            Argument("x_places", "int32", max(self.terms, 1), Role.CONSTANT),
        ]
        if self.w_count:
            found.append(Argument("w_exponents", "int32", self.w_count, Role.INPUT))
            found.append(Argument("w_places", "int32", max(self.terms, 1), Role.CONSTANT))
        found.append(Argument("starts", "int32", self.blocks + 1, Role.CONSTANT))
        if self.has_previous:
            found.append(Argument("previous", "int32", self.blocks, Role.INPUT))
        return (*found, Argument("y_exponents", "int32", self.blocks, Role.OUTPUT))

    def items(self, isa: InstructionSet) -> int:
        return -(-self.blocks // BLOCKS_PER_ITEM)

    def work(self) -> int:
        return 4 * (self.blocks + self.terms)

    def emit(self, isa: InstructionSet, buffers: Mapping[str, Any], begin: Expr, end: Expr) -> None:
        x, y = buffers["x_exponents"], buffers["y_exponents"]
        first = named(begin * BLOCKS_PER_ITEM)
        with loop(first, tirx.min(end * BLOCKS_PER_ITEM, self.blocks)) as block:
            found = T.alloc_buffer((1,), "int32", scope="local")
            store(found, 0, tirx.const(self.lowest, "int32"))
            if self.has_previous:
                store(found, 0, tirx.max(load(found, 0), load(buffers["previous"], block)))
            terms = named(load(buffers["starts"], block)), named(load(buffers["starts"], block + 1))
            with loop(*terms) as term:
                exponent = load(x, named(load(buffers["x_places"], term)))
                if self.w_count:
                    exponent = exponent + load(buffers["w_exponents"], named(load(buffers["w_places"], term)))
                store(found, 0, tirx.max(load(found, 0), held(exponent)))
            store(y, block, load(found, 0))
