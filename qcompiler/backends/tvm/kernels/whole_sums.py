"""Sums of products of block floating point with one exponent a sample, made of partial sums as they are read.

A sum is exact at the exponent ``x + w`` of its factors. It is moved to the exponent of the result, which is at least
that of the bias; the bias is shifted right to it and added: see :mod:`qcompiler.ops.block_forms.contraction`. All of a
sample's sums move by the same number of places, so that places and exponents are single numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tvm import tirx

from qcompiler.backends.tvm.element import Stage
from qcompiler.backends.tvm.kernel import Argument, Role, held, load, loop, named
from qcompiler.backends.tvm.kernels.mantissa_limits import Limits
from qcompiler.backends.tvm.kernels.mantissa_shift import LIMITS
from qcompiler.backends.tvm.kernels.runs import for_each_vector
from qcompiler.backends.tvm.lanes import Expr, convert, lanes_of, literal, literal_like, spread
from qcompiler.backends.tvm.stages.rounding import SHIFTS

ITEM_SUMS = 4096
"""Sums that one item of work takes, about."""


@dataclass(frozen=True)
class SumLayout:
    """Where the partial sums of one sample lie: for each pixel, group and output of the group as many as ``parts``.

    Attributes:
        pixels, groups, outputs: how many; the result is dense ``[pixels, groups, outputs]``.
        parts: partial sums of each sum.
        pixel_stride, group_stride, part_stride: numbers from one to the next. Outputs lie side by side.
        dtype: ``int32`` or ``int64``.
        stage: makes an int64 sum of the parts in order; None where there is one part.
    """

    pixels: int
    groups: int
    outputs: int
    parts: int
    pixel_stride: int
    group_stride: int
    part_stride: int
    dtype: str
    stage: Stage | None

    @property
    def channels(self) -> int:
        """Outputs of all groups."""
        return self.groups * self.outputs

    @property
    def elements(self) -> int:
        """From the first partial sum to the last."""
        steps = (self.pixels - 1, self.pixel_stride), (self.groups - 1, self.group_stride), (
            self.parts - 1, self.part_stride
        )
        return sum(count * stride for count, stride in steps) + self.outputs

    @property
    def pixels_per_item(self) -> int:
        return max(1, ITEM_SUMS // self.channels)

    @property
    def items(self) -> int:
        return -(-self.pixels // self.pixels_per_item)


@dataclass(frozen=True)
class WholeSums:
    """What the kernels read that finish sums.

    Arguments: ``sums``; ``x_exponents`` and ``w_exponents``, int32, one number each; with a bias ``bias``
    ``[channels]`` and ``bias_exponents``, int32, one number; those of ``limits``.

    Attributes:
        layout: where the partial sums lie.
        bias: format of the bias; empty for none.
        accumulator: bits of a sum, its sign included.
        overflow: ``forbidden``, ``saturate`` or ``wrap``: what becomes of one that does not fit.
        rounding: of what is shifted right: a name in ``SHIFT_ROUNDINGS``.
        fraction: binary places kept below the last bit of the products.
        lowest: the smallest exponent of the sums' format.
        limits: what finished sums are limited to; None for nothing.
    """

    layout: SumLayout
    bias: str
    accumulator: int
    overflow: str
    rounding: str
    fraction: int
    lowest: int
    limits: Limits | None

    def arguments(self) -> tuple[Argument, ...]:
        found = [
            Argument("sums", self.layout.dtype, self.layout.elements, Role.INPUT),
            *(Argument(f"{name}_exponents", "int32", 1, Role.INPUT) for name in "xw"),
        ]
        if self.bias:
            found.append(Argument("bias", self.bias, self.layout.channels, Role.CONSTANT))
            found.append(Argument("bias_exponents", "int32", 1, Role.CONSTANT))
        return (*found, *(self.limits.arguments() if self.limits else ()))

    def bind(self, buffers: Mapping[str, Any]) -> BoundSums:
        """The sums of a sample; computes what they share."""
        return BoundSums(self, buffers)


class SharedShift:
    """``x / 2**places``, rounded, for places that all numbers share."""

    def __init__(self, places: Expr, rounding: str) -> None:
        """Args:
            places: int32, any number from 0 on.
            rounding: a name in ``SHIFT_ROUNDINGS``.
        """
        self._rounding = rounding
        # 63 places leave less than one half of what is below 2**62, as every larger number does.
        self._places = held(convert(tirx.min(places, literal_like(63, places)), "int64"))
        ones = literal_like(-1, self._places)
        self._below = held(ones ^ (ones << self._places))
        self._one = held(self._below & literal_like(1, self._below))

    def apply(self, x: Expr) -> Expr:
        """int64 below 2**62 in magnitude."""
        places, below, one = (spread(operand, lanes_of(x)) for operand in (self._places, self._below, self._one))
        half = below >> literal_like(1, x)
        # With the same places for all, a sum before the shift takes less than a comparison of what is shifted out.
        if self._rounding == "half-even":
            return held((x + half + ((x >> places) & one)) >> places)
        if self._rounding == "half-up":
            return held((x + half + one) >> places)
        return held(SHIFTS[self._rounding](x, places, below))


class BoundSums:
    """The sums of one sample.

    Attributes:
        exponent: of finished sums, int32.
    """

    def __init__(self, source: WholeSums, buffers: Mapping[str, Any]) -> None:
        self._source, self._buffers = source, buffers
        zero = tirx.const(0, "int32")
        factors, bias = (
            held(load(buffers["x_exponents"], zero) + load(buffers["w_exponents"], zero)),
            held(load(buffers["bias_exponents"], zero)) if source.bias else None,
        )
        target = held(factors - literal_like(source.fraction, factors))
        if bias is not None:
            target = held(tirx.max(target, bias))
            self._bias_shift = SharedShift(held(target - bias), source.rounding)
        self.right = held(tirx.max(target - factors, zero))
        self._sum_shift = SharedShift(self.right, source.rounding)
        left = held(convert(tirx.max(factors - target, zero), "int64"))
        self._left = left
        self._most = held(literal(LIMITS["int64"], "int64") >> left)
        # Only sums of zeros can have an exponent below the lowest.
        self.exponent = held(tirx.max(target, literal_like(source.lowest, target)))

    def bounds(self) -> tuple[Expr, Expr]:
        """What limited sums lie between, int64; 2**62 where there is no limit."""
        limits, most = self._source.limits, LIMITS["int64"]
        low, high = (held(literal(end, "int64")) for end in (-most, most))
        if limits is None:
            return low, high
        return limits.apply(self._buffers, low, self.exponent), limits.apply(self._buffers, high, self.exponent)

    def for_each_vector(
        self, begin: Expr, end: Expr, widest: int, shifts: bool, body: Callable[[Expr, Expr], None]
    ) -> None:
        """All sums of the pixels [begin, end).

        Args:
            begin, end: pixels.
            widest: lanes of the widest vector.
            shifts: whether sums are shifted right to the exponent; they may be where ``right`` is 0, too.
            body: takes where in the result a vector begins, and the sums, without limits, int64. Some are given twice.
        """
        layout = self._source.layout

        def columns(group: Expr, start: Expr, lanes: int) -> None:
            channel = named(group * layout.outputs + start)
            bias = self._aligned_bias(channel, lanes)
            first = named(group * layout.group_stride + start)
            with loop(begin, end) as pixel:
                parts = [
                    load(self._buffers["sums"], first + pixel * layout.pixel_stride + part * layout.part_stride, lanes)
                    for part in range(layout.parts)
                ]
                total = held(parts[0] if layout.stage is None else layout.stage.expression([held(p) for p in parts]))
                body(named(pixel * layout.channels + channel), self._aligned(convert(total, "int64"), bias, shifts))

        if layout.groups == 1:
            for_each_vector(layout.outputs, widest, lambda start, lanes: columns(tirx.const(0, "int32"), start, lanes))
            return
        with loop(0, layout.groups) as group:
            for_each_vector(layout.outputs, widest, lambda start, lanes: columns(group, start, lanes))

    def _aligned_bias(self, channel: Expr, lanes: int) -> Expr | None:
        if not self._source.bias:
            return None
        loaded = held(convert(load(self._buffers["bias"], channel, lanes), "int64"))
        return self._stored(self._bias_shift.apply(loaded))

    def _aligned(self, total: Expr, bias: Expr | None, shifts: bool) -> Expr:
        moved = self._sum_shift.apply(total) if shifts else total
        if self._source.fraction:
            if self._source.overflow != "forbidden":
                most = spread(self._most, lanes_of(moved))
                moved = held(tirx.max(tirx.min(moved, most), literal_like(0, most) - most))
            moved = held(moved << spread(self._left, lanes_of(moved)))
        stored = self._stored(moved)
        return stored if bias is None else self._stored(held(stored + bias))

    def _stored(self, x: Expr) -> Expr:
        """As the accumulator keeps it: see :class:`~qcompiler.numerics.block_accumulator.FixedPointAccumulator`."""
        bits = self._source.accumulator
        if self._source.overflow == "saturate":
            largest = (1 << (bits - 1)) - 1
            return held(tirx.max(tirx.min(x, literal_like(largest, x)), literal_like(-largest - 1, x)))
        if self._source.overflow == "wrap":
            unused = literal_like(64 - bits, x)
            return held((x << unused) >> unused)
        return x
