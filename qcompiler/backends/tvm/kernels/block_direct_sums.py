"""Sums over pairs of blocks by their definition, in 64 bits: what the fast kernels do not cover.

A dot product of mantissas is exact in float64. Sums are those of :mod:`qcompiler.numerics.block_contraction`, in
fixed point as :class:`~qcompiler.numerics.block_accumulator.FixedPointAccumulator` has it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as T

from qcompiler.backends.tvm.kernel import Argument, Role, held, load, loop, named, store
from qcompiler.backends.tvm.kernels.block_alignment import shift_right
from qcompiler.backends.tvm.kernels.block_float_convolution import limited
from qcompiler.backends.tvm.kernels.mantissa_reals import power_of_two
from qcompiler.backends.tvm.lanes import Expr, call, convert, literal, literal_like, spread

LARGEST_DOT = 1 << 53
"""Dots below this are exact in float64."""
LARGEST_SHIFTED_DOT = 1 << 61
"""Dots in fixed point, with their binary places, stay below this."""
_NO_RESULT = -(1 << 30)
"""Below all exponents."""

PairBody = Callable[[Expr, Expr, Callable[[], Expr]], None]
"""Code for a pair of blocks: its number, the sum of its exponents (int32), and what writes its dot (float64)."""
Pairs = Callable[[PairBody], None]
"""Writes such code for every pair of blocks of some neighbouring results, in order."""


@dataclass(frozen=True)
class DotSums(ABC):
    """How the dots of pairs of blocks are added. Subclasses are frozen dataclasses.

    Attributes:
        count: pairs of blocks of a result, at least 1.
        has_bias: whether a bias is added to each result.
    """

    count: int
    has_bias: bool

    @abstractmethod
    def constants(self, outputs: int) -> tuple[Argument, ...]:
        """Constants that it takes, for results with so many biases."""

    @abstractmethod
    def results(self, elements: int) -> tuple[Argument, ...]:
        """What it computes, each of so many numbers."""

    @abstractmethod
    def emit(self, buffers: Mapping[str, Any], pairs: Pairs, lanes: int, bias: Expr) -> dict[str, Expr]:
        """Compute neighbouring results.

        Args:
            buffers: by name; the constants among them.
            pairs: their pairs of blocks.
            lanes: how many results.
            bias: where their biases stand.

        Returns:
            A vector of numbers for each of :meth:`results`, by name.
        """


@dataclass(frozen=True)
class FloatDotSums(DotSums):
    """Each dot rounded to float32 once, then added in float32.

    Constants: ``bias``, float32, where there is one; ``low`` and ``high``, one float32 each, where results are
    limited to them. Results: ``y``, float32.

    Attributes:
        order: ``sequential`` or ``pairwise``.
        limited: whether results are limited at the end.
    """

    order: str
    limited: bool

    def constants(self, outputs: int) -> tuple[Argument, ...]:
        sizes = {"bias": outputs * self.has_bias, "low": int(self.limited), "high": int(self.limited)}
        return tuple(Argument(name, "float32", size, Role.CONSTANT) for name, size in sizes.items() if size)

    def results(self, elements: int) -> tuple[Argument, ...]:
        return (Argument("y", "float32", elements, Role.OUTPUT),)

    def emit(self, buffers: Mapping[str, Any], pairs: Pairs, lanes: int, bias: Expr) -> dict[str, Expr]:
        # One partial sum for each level of the tree, the sums of fewer dots first; without a tree there is one.
        levels = self.count.bit_length() if self.order == "pairwise" else 1
        partial = T.alloc_buffer((levels * lanes,), "float32", scope="local")
        # Whatever is added to -0.0 stays as it is.
        store(partial, 0, literal(-0.0, "float32", lanes))

        def add(number: Expr, exponent: Expr, dot: Callable[[], Expr]) -> None:
            rounded = held(convert(held(dot() * power_of_two(exponent)), "float32"))
            if self.order == "pairwise":
                self._carry(partial, number, rounded, lanes)
            else:
                store(partial, 0, load(partial, 0, lanes) + rounded)

        pairs(add)
        total = self._folded(partial, lanes) if self.order == "pairwise" else held(load(partial, 0, lanes))
        if self.has_bias:
            total = held(total + load(buffers["bias"], bias, lanes))
        return {"y": limited(total, (buffers["low"], buffers["high"]) if self.limited else None)}

    def _carry(self, partial: Any, number: Expr, rounded: Expr, lanes: int) -> None:
        """Join a dot with the finished parts of the tree that end right before it."""
        finished = named(call("llvm.cttz", "int32", number ^ -1, tirx.const(False, "bool")))
        carried = T.alloc_buffer((lanes,), "float32", scope="local")
        store(carried, 0, rounded)
        with loop(0, finished) as level:
            store(carried, 0, load(partial, level * lanes, lanes) + load(carried, 0, lanes))
        store(partial, finished * lanes, load(carried, 0, lanes))

    def _folded(self, partial: Any, lanes: int) -> Expr:
        """The sum of the parts that are left, the last ones first."""
        left = [level for level in range(self.count.bit_length()) if self.count >> level & 1]
        total = held(load(partial, left[0] * lanes, lanes))
        for level in left[1:]:
            total = held(load(partial, level * lanes, lanes) + total)
        return total


@dataclass(frozen=True)
class FixedDotSums(DotSums):
    """Each dot shifted to the result's exponent, rounded and added as an integer, in an accumulator of some bits.

    Constants: ``bias``, int64, and ``bias_exponent``, int32, one, where there is a bias. Results: ``y``, in
    ``stored``, and ``y_exponents``, int32.

    Attributes:
        bits: of the accumulator, sign included.
        overflow: what it does when it is full: ``forbidden`` (never happens), ``saturate`` or ``wrap``.
        rounding: a name in ``SHIFT_ROUNDINGS``.
        fraction: binary places kept below the last bit of the largest pair of blocks.
        lowest: no result has a smaller exponent.
        stored: format of the results.
    """

    bits: int
    overflow: str
    rounding: str
    fraction: int
    lowest: int
    stored: str

    def constants(self, outputs: int) -> tuple[Argument, ...]:
        if not self.has_bias:
            return ()
        return (
            Argument("bias", "int64", outputs, Role.CONSTANT), Argument("bias_exponent", "int32", 1, Role.CONSTANT)
        )

    def results(self, elements: int) -> tuple[Argument, ...]:
        return (
            Argument("y", self.stored, elements, Role.OUTPUT),
            Argument("y_exponents", "int32", elements, Role.OUTPUT),
        )

    def emit(self, buffers: Mapping[str, Any], pairs: Pairs, lanes: int, bias: Expr) -> dict[str, Expr]:
        target = self._target(buffers, pairs, lanes)
        total = T.alloc_buffer((lanes,), "int64", scope="local")
        store(total, 0, literal(0, "int64", lanes))

        def add(number: Expr, exponent: Expr, dot: Callable[[], Expr]) -> None:
            # Places to the right, counted from the dot with its binary places; never negative.
            places = held(convert(held(target + literal_like(self.fraction, target) - exponent), "int64"))
            raised = held(convert(dot(), "int64") << literal(self.fraction, "int64", lanes))
            moved = held(shift_right(raised, places, self.rounding))
            store(total, 0, self._kept(held(load(total, 0, lanes) + moved)))

        pairs(add)
        found = held(load(total, 0, lanes))
        if self.has_bias:
            known = spread(held(load(buffers["bias_exponent"], tirx.const(0, "int32"))), lanes)
            places = held(convert(held(target - known), "int64"))
            moved = shift_right(held(load(buffers["bias"], bias, lanes)), places, self.rounding)
            found = self._kept(held(found + self._kept(held(moved))))
        return {"y": held(convert(found, self.stored)), "y_exponents": target}

    def _target(self, buffers: Mapping[str, Any], pairs: Pairs, lanes: int) -> Expr:
        """The exponents of the results."""
        largest = T.alloc_buffer((lanes,), "int32", scope="local")
        store(largest, 0, literal(_NO_RESULT, "int32", lanes))

        def compare(number: Expr, exponent: Expr, dot: Callable[[], Expr]) -> None:
            store(largest, 0, tirx.max(load(largest, 0, lanes), exponent))

        pairs(compare)
        target = held(load(largest, 0, lanes) - literal(self.fraction, "int32", lanes))
        target = held(tirx.max(target, literal_like(self.lowest, target)))
        if self.has_bias:
            known = held(load(buffers["bias_exponent"], tirx.const(0, "int32")))
            target = held(tirx.max(target, spread(known, lanes)))
        return target

    def _kept(self, number: Expr) -> Expr:
        """What the accumulator makes of an int64 number."""
        if self.overflow == "saturate":
            most = literal_like((1 << (self.bits - 1)) - 1, number)
            return held(tirx.max(tirx.min(number, most), literal_like(-1, number) - most))
        if self.overflow == "wrap":
            unused = literal_like(64 - self.bits, number)
            return held(held(number << unused) >> unused)
        return number
