"""Table lookup: a function of one 8-bit number."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import tirx

from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.kernel import Argument, Kernel, Role, load, loop, named, store
from qcompiler.backends.tvm.kernels.runs import for_each_vector
from qcompiler.backends.tvm.lanes import Expr, convert, reinterpret

ENTRIES = 256
_ITEM_ELEMENTS = 4096


class ByteLookup(ABC):
    """What an instruction set offers that looks up many bytes at once, in a table of 256 held in registers."""

    @abstractmethod
    def look_up(self, table: Sequence[Expr], indices: Expr) -> Expr:
        """``table[indices]``.

        Args:
            table: 256 bytes as four vectors of int8.
            indices: one vector of uint8.
        """


@dataclass(frozen=True)
class TableLookup(Kernel):
    """``y[i] = table[x[i] - lowest number of x's format]``.

    Attributes:
        elements: how many.
        source: format of x, ``int8`` or ``uint8``.
        result: format of the table's 256 entries and of y.
    """

    elements: int
    source: str
    result: str

    def arguments(self, isa: InstructionSet) -> tuple[Argument, ...]:
        return (
            Argument("x", self.source, self.elements, Role.INPUT),
            Argument("table", self.result, ENTRIES, Role.CONSTANT),
            Argument("y", self.result, self.elements, Role.OUTPUT),
        )

    def items(self, isa: InstructionSet) -> int:
        return -(-self.elements // self._per_item)

    def work(self) -> int:
        return self.elements

    @property
    def _per_item(self) -> int:
        return min(_ITEM_ELEMENTS, self.elements)

    def emit(self, isa: InstructionSet, buffers: Mapping[str, Any], begin: Expr, end: Expr) -> None:
        bytes_only = np.dtype(self.result).itemsize == 1
        fast = isinstance(isa, ByteLookup) and bytes_only and self.elements >= isa.register_bytes
        registers = table_registers(isa, buffers["table"], self.source) if fast else []
        with loop(begin, end) as item:
            # The last item is moved back to end with the tensor.
            start = named(tirx.min(item * self._per_item, self.elements - self._per_item))
            if fast:
                for_each_vector(
                    self._per_item, isa.register_bytes,
                    lambda offset, lanes: self._look_up_vector(isa, buffers, registers, start + offset, lanes),
                )
            else:
                with loop(0, self._per_item) as i:
                    index = convert(load(buffers["x"], start + i), "int32") - int(np.iinfo(self.source).min)
                    store(buffers["y"], start + i, load(buffers["table"], index))

    def _look_up_vector(
        self, isa: InstructionSet, buffers: Mapping[str, Any], registers: Sequence[Expr], offset: Expr, lanes: int
    ) -> None:
        assert isinstance(isa, ByteLookup)
        indices = reinterpret(f"uint8x{lanes}", load(buffers["x"], offset, lanes))
        found = isa.look_up(registers, named(indices))
        store(buffers["y"], offset, reinterpret(f"{self.result}x{lanes}", found))


def table_registers(isa: InstructionSet, table: Any, source: str) -> list[Expr]:
    """A table of 256 bytes in registers, in the order in which the bits of a number of format ``source`` pick."""
    size = isa.register_bytes
    parts = [load(table, tirx.const(i, "int32"), size) for i in range(0, ENTRIES, size)]
    parts = [named(reinterpret(f"int8x{size}", p)) for p in parts]
    # A signed number's bits are those of its distance from the lowest, with the top one inverted.
    return parts if source == "uint8" else parts[len(parts) // 2 :] + parts[: len(parts) // 2]
