"""Table lookup with linear interpolation: a function of one 16-bit number.

See :func:`qcompiler.numerics.interpolated_table.interpolate`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import tirx

from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.kernel import Argument, Kernel, Role, load, loop, named, store
from qcompiler.backends.tvm.lanes import Expr, convert
from qcompiler.numerics.interpolated_table import INTERPOLATED_ENTRIES, OFFSET_BITS

_ITEM_ELEMENTS = 4096


@dataclass(frozen=True)
class InterpolatedLookup(Kernel):
    """Arguments: ``x``, ``table`` ``[513]``, ``y``.

    Attributes:
        elements: how many.
        source: format of x, ``int16`` or ``uint16``.
        result: format of the table's entries and of y, of at most 16 bits.
    """

    elements: int
    source: str
    result: str

    def arguments(self, isa: InstructionSet) -> tuple[Argument, ...]:
        return (
            Argument("x", self.source, self.elements, Role.INPUT),
            Argument("table", self.result, INTERPOLATED_ENTRIES, Role.CONSTANT),
            Argument("y", self.result, self.elements, Role.OUTPUT),
        )

    def items(self, isa: InstructionSet) -> int:
        return -(-self.elements // _ITEM_ELEMENTS)

    def work(self) -> int:
        return 4 * self.elements

    def emit(self, isa: InstructionSet, buffers: Mapping[str, Any], begin: Expr, end: Expr) -> None:
        lowest = int(np.iinfo(self.source).min)
        first = named(begin * _ITEM_ELEMENTS)
        with loop(first, tirx.min(end * _ITEM_ELEMENTS, self.elements)) as index:
            offset = named(convert(load(buffers["x"], index), "int32") - lowest)
            store(buffers["y"], index, convert(interpolated(buffers["table"], offset), self.result))


def interpolated(table: Any, offset: Expr) -> Expr:
    """int32 between neighbouring entries of a table of 513; ``offset``, int32, is from 0 to 65535."""
    index = named(offset >> OFFSET_BITS)
    fraction = offset & ((1 << OFFSET_BITS) - 1)
    base, following = (named(convert(load(table, place), "int32")) for place in (index, index + 1))
    # Neighbours are less than 2**15 apart, so that the product fits.
    return named(base + (((following - base) * fraction + (1 << (OFFSET_BITS - 1))) >> OFFSET_BITS))
