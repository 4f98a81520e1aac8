"""Softmax of 16-bit numbers over rows, on numbers that the arithmetic of numpy has tabulated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import tirx
from tvm.tirx.script import builder as T

from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.kernel import Argument, Kernel, Role, load, loop, named, store
from qcompiler.backends.tvm.kernels.interpolated_table import interpolated
from qcompiler.backends.tvm.kernels.softmax import store_largest
from qcompiler.backends.tvm.lanes import Expr, call, convert
from qcompiler.numerics.interpolated_table import INTERPOLATED_ENTRIES
from qcompiler.numerics.table_softmax import TableSoftmax

_ITEM_ELEMENTS = 4096
_LARGEST_OFFSET = (1 << 16) - 1


@dataclass(frozen=True)
class TableSoftmaxRows(Kernel):
    """``table-softmax`` over the last axis of a dense tensor.

    A number's exponential depends only on its distance from the row's largest, so all of them stand in a table that
    the arithmetic itself computes (:func:`exponential_of_each_distance`).

    Attributes:
        rows: how many.
        length: numbers in each, at most 65,535.
        source: format of x, at most 16 bits.
        result: format of y.
        fraction_bits: of the result's scale: 15 or 16.
    """

    rows: int
    length: int
    source: str
    result: str
    fraction_bits: int

    def arguments(self, isa: InstructionSet) -> tuple[Argument, ...]:
        distances = 1 << (8 * np.dtype(self.source).itemsize)
        return (
            Argument("x", self.source, self.rows * self.length, Role.INPUT),
            Argument("exponentials", "int16", distances, Role.CONSTANT),
            Argument("reciprocals", "int16", INTERPOLATED_ENTRIES, Role.CONSTANT),
            Argument("bounds", "int32", 2, Role.CONSTANT),
            Argument("y", self.result, self.rows * self.length, Role.OUTPUT),
        )

    def items(self, isa: InstructionSet) -> int:
        return -(-self.rows // self._rows_per_item)

    def work(self) -> int:
        return self.rows * (8 * self.length + 30)

    @property
    def _rows_per_item(self) -> int:
        return max(1, _ITEM_ELEMENTS // self.length)

    def emit(self, isa: InstructionSet, buffers: Mapping[str, Any], begin: Expr, end: Expr) -> None:
        low, high = (named(load(buffers["bounds"], tirx.const(i, "int32"))) for i in (0, 1))
        largest, total = (T.alloc_buffer((1,), "int32", scope="local") for _ in range(2))
        zero = tirx.const(0, "int32")
        with loop(begin, end) as item:
            first = named(item * self._rows_per_item)
            with loop(first, tirx.min(first + self._rows_per_item, self.rows)) as row:
                start = named(row * self.length)

                def exponential(index: Expr, start: Expr = start) -> Expr:
                    distance = load(largest, zero) - convert(load(buffers["x"], start + index), "int32")
                    return convert(load(buffers["exponentials"], distance), "int32")

                store_largest(largest, buffers["x"], start, self.length)
                store(total, zero, zero)
                with loop(0, self.length) as i:
                    store(total, zero, load(total, zero) + exponential(i))
                zeros = named(call("llvm.ctlz", "int32", load(total, zero), tirx.const(True, "bool")))
                headroom = named(zeros - 1)
                # Below 2**31, as the sum is; rounding may take it there, so that it is formed in 64 bits.
                shifted = convert(load(total, zero), "int64") << convert(headroom, "int64")
                normalized = named(convert((shifted + _int64(1 << 13)) >> _int64(14), "int32"))
                offset = named(tirx.min(normalized - (1 << 16), tirx.const(_LARGEST_OFFSET, "int32")))
                reciprocal = interpolated(buffers["reciprocals"], offset)
                shift = named(tirx.const(45 - self.fraction_bits, "int32") - headroom)
                half = named(tirx.const(1, "int32") << (shift - 1))
                with loop(0, self.length) as i:
                    # Both factors are below 2**15, and the shift is at most 30.
                    probability = (exponential(i) * reciprocal + half) >> shift
                    store(buffers["y"], start + i, convert(tirx.max(tirx.min(probability, high), low), self.result))


def exponential_of_each_distance(
    rule: TableSoftmax, constants: Mapping[str, NDArray[Any]], source: str
) -> NDArray[np.int16]:
    """The constant ``exponentials`` of :class:`TableSoftmaxRows`, by distance from the row's largest number.

    Args:
        rule: the arithmetic.
        constants: what its ``constants`` gave.
        source: format of x.
    """
    distances = np.arange(1 << (8 * np.dtype(source).itemsize), dtype=np.int64)
    return rule.exponentials(-distances, constants).astype(np.int16)


def _int64(value: int) -> Expr:
    return tirx.const(value, "int64")
