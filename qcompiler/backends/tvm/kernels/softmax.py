"""Softmax in integers, row by row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import tirx

from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.kernel import Argument, Kernel, Role, load, loop, named, store
from qcompiler.backends.tvm.lanes import Expr, call, convert
from qcompiler.numerics.fixed_point import INT32_MAX
from qcompiler.numerics.softmax import GemmlowpSoftmax

Array = NDArray[Any]

_ITEM_ELEMENTS = 1024


@dataclass(frozen=True)
class GemmlowpSoftmaxRows(Kernel):
    """``gemmlowp-softmax`` over the last axis of a dense tensor.

    A number's exponential depends only on its distance from the row's largest, so all of them stand in tables that
    the arithmetic itself computes (:func:`softmax_tables`). What remains is integer arithmetic on each row's sum.

    Attributes:
        rows: how many.
        length: numbers in each, at most 4,095.
        source: format of x, at most 16 bits.
        result: format of y.
    """

    rows: int
    length: int
    source: str
    result: str

    @property
    def distances(self) -> int:
        """How many distances from the largest there are."""
        return 1 << (8 * np.dtype(self.source).itemsize)

    def arguments(self, isa: InstructionSet) -> tuple[Argument, ...]:
        return (
            Argument("x", self.source, self.rows * self.length, Role.INPUT),
            Argument("exponentials", "int32", self.distances, Role.CONSTANT),
            Argument("terms", "int32", self.distances, Role.CONSTANT),
            Argument("bounds", "int32", 2, Role.CONSTANT),
            Argument("y", self.result, self.rows * self.length, Role.OUTPUT),
        )

    def items(self, isa: InstructionSet) -> int:
        return -(-self.rows // self._rows_per_item)

    def work(self) -> int:
        return self.rows * (8 * self.length + 100)

    @property
    def _rows_per_item(self) -> int:
        return max(1, _ITEM_ELEMENTS // self.length)

    def emit(self, isa: InstructionSet, buffers: Mapping[str, Any], begin: Expr, end: Expr) -> None:
        from tvm.tirx.script import builder as T

        low, high = (named(load(buffers["bounds"], tirx.const(i, "int32"))) for i in (0, 1))
        largest, total = (T.alloc_buffer((1,), "int32", scope="local") for _ in range(2))
        zero = tirx.const(0, "int32")
        with loop(begin, end) as item:
            first = named(item * self._rows_per_item)
            with loop(first, tirx.min(first + self._rows_per_item, self.rows)) as row:
                start = named(row * self.length)

                def distance(index: Expr, start: Expr = start) -> Expr:
                    return load(largest, zero) - convert(load(buffers["x"], start + index), "int32")

                store_largest(largest, buffers["x"], start, self.length)
                store(total, zero, zero)
                with loop(0, self.length) as i:
                    store(total, zero, load(total, zero) + load(buffers["terms"], distance(i)))
                zeros = named(call("llvm.ctlz", "int32", load(total, zero), tirx.const(True, "bool")))
                sum_of_row = convert(load(total, zero), "int64") << convert(zeros, "int64")
                reciprocal = _reciprocal_of_one_plus(named(sum_of_row - _int64(1 << 31)))
                shift = named(convert(tirx.const(35, "int32") - zeros, "int64"))
                half = named(_int64(1) << (shift - _int64(1)))
                with loop(0, self.length) as i:
                    exponential = load(buffers["exponentials"], distance(i))
                    # Neither factor is negative, so ties away from zero are ties upward.
                    probability = (_high_product(reciprocal, convert(exponential, "int64")) + half) >> shift
                    value = tirx.min(convert(probability, "int32") + low, high)
                    store(buffers["y"], start + i, convert(value, self.result))


def store_largest(largest: Any, x: Any, start: Expr, length: int) -> None:
    """Put the largest of ``length`` numbers of ``x``, from ``start`` on, into the one int32 of ``largest``."""
    zero = tirx.const(0, "int32")
    store(largest, zero, convert(load(x, start), "int32"))
    with loop(1, length) as i:
        store(largest, zero, tirx.max(load(largest, zero), convert(load(x, start + i), "int32")))


def softmax_tables(rule: GemmlowpSoftmax, constants: Mapping[str, Array], source: str) -> tuple[Array, Array]:
    """The constants ``exponentials`` and ``terms`` of :class:`GemmlowpSoftmaxRows`, int32.

    Args:
        rule: the arithmetic.
        constants: its multiplier, shift and smallest difference.
        source: format of x.
    """
    distances = np.arange(1 << (8 * np.dtype(source).itemsize), dtype=np.int64)
    exponentials, terms = rule.exponentials(-distances, constants)
    return exponentials.astype(np.int32), terms.astype(np.int32)


def _reciprocal_of_one_plus(a: Expr) -> Expr:
    """``1 / (1 + a)`` of one Q0.31 number: :func:`qcompiler.numerics.fixed_point.reciprocal_of_one_plus` in int64."""
    half_denominator = named((a + _int64(INT32_MAX) + _int64(1)) >> _int64(1))
    x = named(_int64(1515870810) + _high_product(half_denominator, _int64(-1010580540)))
    for _ in range(3):
        error = named(_int64(1 << 29) - _high_product(half_denominator, x))
        x = named(x + _saturated(_high_product(x, error) << _int64(2)))
    return named(_saturated(x << _int64(1)))


def _high_product(a: Expr, b: Expr) -> Expr:
    return tirx.min((a * b + _int64(1 << 30)) >> _int64(31), _int64(INT32_MAX))


def _saturated(x: Expr) -> Expr:
    return tirx.max(tirx.min(x, _int64(INT32_MAX)), _int64(-INT32_MAX - 1))


def _int64(value: int) -> Expr:
    return tirx.const(value, "int64")
