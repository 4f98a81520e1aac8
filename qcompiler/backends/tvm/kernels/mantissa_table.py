"""Tables on mantissas, direct and interpolated: see :func:`qcompiler.numerics.block_table.look_up`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tvm import tirx

from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.kernel import Argument, Kernel, Role, held, load, loop, named, store
from qcompiler.backends.tvm.lanes import Expr, convert, literal_like

PER_ITEM = 4096


@dataclass(frozen=True)
class MantissaTable(Kernel):
    """Arguments: ``x``, ``table`` ``[entries]``, ``y``.

    Attributes:
        elements: mantissas.
        bits: of an operand's mantissa.
        entries: of the table: one for each mantissa, or fewer to interpolate.
        source, table, result: formats in memory.
    """

    elements: int
    bits: int
    entries: int
    source: str
    table: str
    result: str

    def arguments(self, isa: InstructionSet) -> tuple[Argument, ...]:
        return (
            Argument("x", self.source, self.elements, Role.INPUT),
            Argument("table", self.table, self.entries, Role.CONSTANT),
            Argument("y", self.result, self.elements, Role.OUTPUT),
        )

    def items(self, isa: InstructionSet) -> int:
        return -(-self.elements // PER_ITEM)

    def work(self) -> int:
        return 4 * self.elements

    def emit(self, isa: InstructionSet, buffers: Mapping[str, Any], begin: Expr, end: Expr) -> None:
        first = named(begin * PER_ITEM)
        with loop(first, tirx.min(end * PER_ITEM, self.elements)) as index:
            offset = named(convert(load(buffers["x"], index), "int32") + (1 << (self.bits - 1)))
            if self.entries == 1 << self.bits:
                found = load(buffers["table"], offset)
            else:
                places = self.bits - (self.entries - 1).bit_length() + 1
                found = interpolated(buffers["table"], offset, places, self.entries)
            store(buffers["y"], index, convert(found, self.result))


def interpolated(table: Any, offset: Expr, places: int, entries: int) -> Expr:
    """Linear interpolation between neighbouring entries, int64; ``offset``, int32, counts ``2**places`` to an entry."""
    # The last entry itself is the end of the last interval.
    index = named(tirx.min(offset >> places, entries - 2))
    rest = held(convert(offset - (index << places), "int64"))
    base, following = (held(convert(load(table, place), "int64")) for place in (index, index + 1))
    half = literal_like((1 << places) >> 1, base)
    return held(base + (((following - base) * rest + half) >> literal_like(places, base)))
