"""How large a sum of products can become: bounds over every input, for accumulators of any width."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcompiler.analysis.visible_taps import visible_taps
from qcompiler.ir import Node, TensorType, Value
from qcompiler.numerics.block_accumulator import bits_for
from qcompiler.ops.constant import constant_value
from qcompiler.ops.contraction import Contraction, Conv2DBase, Matmul
from qcompiler.ops.quantized import affine

Interval = tuple[int, int]
"""The smallest and the largest of some integers."""

NOTHING: Mapping[Value, Any] = MappingProxyType({})

_INT64_SAFE = 1 << 62


@dataclass(frozen=True)
class SumBounds:
    """The smallest and largest that a sum can be, of whatever size: python integers.

    Attributes:
        low, high: one number for each output channel, or one for all channels.
    """

    low: tuple[int, ...]
    high: tuple[int, ...]

    @property
    def interval(self) -> Interval:
        """Over all channels."""
        return min(self.low, default=0), max(self.high, default=0)

    @property
    def bits(self) -> int:
        """Bits of the narrowest two's complement integer that holds every sum."""
        return bits_for(*self.interval)

    def plus(self, other: SumBounds) -> SumBounds:
        """Bounds of what both add to, channel by channel."""
        channels = max(len(self.low), len(other.low))
        return SumBounds(
            tuple(self.low[i % len(self.low)] + other.low[i % len(other.low)] for i in range(channels)),
            tuple(self.high[i % len(self.high)] + other.high[i % len(other.high)] for i in range(channels)),
        )

    def within(self, bits: int) -> bool:
        """Whether a two's complement integer of ``bits`` holds every sum."""
        return self.bits <= bits


class ContractionSums:
    """Bounds of the sums that a quantized contraction forms.

    Products are summed taps row by row, at each tap the input channels; for matmul along the reduced axis. The bounds
    hold for a partial sum of any of the terms in any order: ``high`` is the sum of the largest products that are
    positive, ``low`` that of the smallest that are negative. Some input reaches them: the terms of one channel read
    different elements. (Not so for two computed operands that depend on one another.)

    Attributes:
        length: terms of the reduction, those that padding hides included.
        products: bounds of partial sums of products.
        bias: the least and the largest bias.
    """

    def __init__(self, x: Interval, w: Interval | NDArray[Any], length: int, visible: int, bias: SumBounds) -> None:
        """See :func:`contraction_sums`.

        Args:
            x: the least and the largest ``x - zero_point``.
            w: ``[sets, channels, terms]`` integers less their zero point, 0 where a set lacks a term; or, for a
                computed operand, the least and the largest of them.
            length: terms of the reduction.
            visible: how many of the terms one result can see.
            bias: the least and the largest bias; what it is, where it is constant.
        """
        self._x = min(x[0], 0), max(x[1], 0)
        self._w = w
        self.length = length
        self._visible = visible
        self.bias = bias
        self.products = self.part(0, length)

    @property
    def all(self) -> SumBounds:
        """Bounds of partial sums of products and bias, in any order."""
        low, high = self.bias.low, self.bias.high
        return self.products.plus(SumBounds(tuple(min(b, 0) for b in low), tuple(max(b, 0) for b in high)))

    @property
    def whole(self) -> SumBounds:
        """Bounds of the sum of all products and the bias, whatever it was on the way."""
        return self.products.plus(self.bias)

    def part(self, start: int, stop: int) -> SumBounds:
        """Bounds of partial sums of the products ``start`` to ``stop - 1``, without bias."""
        below, above = self._x
        if isinstance(self._w, tuple):
            w_below, w_above = min(self._w[0], 0), max(self._w[1], 0)
            terms = min(stop - start, self._visible)
            return SumBounds(
                (terms * min(below * w_above, above * w_below),), (terms * max(below * w_below, above * w_above),)
            )
        positive, negative = (side[..., stop] - side[..., start] for side in self._cumulative)
        largest = max(int(positive.max(initial=0)), -int(negative.min(initial=0)))
        if 2 * largest * max(above, -below) >= _INT64_SAFE:
            # Products of wide operands leave 64 bits; python integers do not.
            positive, negative = positive.astype(object), negative.astype(object)
        lows = np.asarray(positive * below + negative * above).min(0)
        highs = np.asarray(positive * above + negative * below).max(0)
        return SumBounds(tuple(map(int, lows)), tuple(map(int, highs)))

    @cached_property
    def _cumulative(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Sums of the positive and of the negative weights among the first terms: ``[sets, channels, terms + 1]``."""
        w = self._w
        assert not isinstance(w, tuple)
        largest = max(abs(int(w.min(initial=0))), abs(int(w.max(initial=0))))
        exact = w.astype(np.int64 if largest * max(w.shape[-1], 1) < _INT64_SAFE else object)
        positive, negative = (
            np.concatenate([np.zeros((*side.shape[:-1], 1), side.dtype), side.cumsum(-1)], -1)
            for side in (np.maximum(exact, 0), np.minimum(exact, 0))
        )
        return positive, negative


def contraction_sums(
    node: Node, outer: Mapping[Value, Value] = NOTHING, ranges: Mapping[Value, Interval] = NOTHING
) -> ContractionSums:
    """Bounds of the sums that a quantized contraction forms, from its weights and what its operands can hold.

    Args:
        node: a contraction on affine operands, of the program or of a fused body.
        outer: for a node of a fused body, the operand behind each input of the body.
        ranges: stored integers that values can have, where they are narrower than the types; see
            :func:`qcompiler.analysis.stored_ranges.stored_ranges`.
    """
    op = node.op
    assert isinstance(op, Contraction)
    x, w = node.operands[:2]
    weights = constant_value(outer.get(w, w))
    bias = SumBounds((0,), (0,))
    if len(node.operands) == 3:
        bias = _bias_bounds(node.operands[2], outer, ranges)
    if weights is None:
        length = op.reduction_length([x.type, w.type])
        return ContractionSums(
            _differences(x, ranges), _differences(w, ranges), length, _visible_terms(op, x.type, w.type), bias
        )
    return sums_of_weights(op, x.type, w.type, op.integer_weights(w.type, weights), _differences(x, ranges), bias)


def sums_of_weights(
    op: Contraction, x: TensorType, w: TensorType, weights: NDArray[Any], differences: Interval, bias: SumBounds
) -> ContractionSums:
    """Bounds of the sums of a contraction with constant weights.

    Args:
        op: the contraction.
        x: type of operand 0; only its shape counts.
        w: type of operand 1.
        weights: the integers that it stands for: stored ones less their zero point, times group multipliers.
        differences: the least and the largest ``x - zero_point``.
        bias: bounds of the bias.
    """
    if isinstance(op, Conv2DBase):
        taps_last = weights if op.layout == "NHWC" else weights.transpose(0, 2, 3, 1)
        sets = visible_taps(op, x, w)
        # A length of -1 could not be told where there are no weights.
        length = prod(taps_last.shape[1:])
        terms = np.stack([(taps_last * taps[None, :, :, None]).reshape(len(weights), length) for taps in sets])
    else:
        assert isinstance(op, Matmul)
        rows = weights if op.transpose_b else np.swapaxes(weights, -1, -2)
        terms = rows.reshape(prod(rows.shape[:-2]), *rows.shape[-2:])
    return ContractionSums(differences, terms, terms.shape[-1], terms.shape[-1], bias)


def accumulator_bounds(
    node: Node, outer: Mapping[Value, Value] = NOTHING, ranges: Mapping[Value, Interval] = NOTHING
) -> NDArray[np.int64]:
    """The largest magnitude that any partial sum of a quantized contraction can reach, for any input.

    One number for each output channel, or one for all; what leaves int64 is given as its largest number. See
    :func:`contraction_sums`.
    """
    bounds = contraction_sums(node, outer, ranges).all
    largest = np.iinfo(np.int64).max
    magnitudes = [min(max(-low, high), largest) for low, high in zip(bounds.low, bounds.high, strict=True)]
    return np.array(magnitudes, np.int64)


def type_range(type: TensorType) -> Interval:
    """The stored integers that an affine type allows."""
    elem = affine(type)
    return elem.qmin, elem.qmax


def _differences(value: Value, ranges: Mapping[Value, Interval]) -> Interval:
    """The least and the largest stored integer less its zero point."""
    low, high = ranges.get(value) or type_range(value.type)
    zero_points = affine(value.type).zero_point.array
    return low - int(zero_points.max()), high - int(zero_points.min())


def _bias_bounds(value: Value, outer: Mapping[Value, Value], ranges: Mapping[Value, Interval]) -> SumBounds:
    array = constant_value(outer.get(value, value))
    if array is None:
        low, high = ranges.get(value) or type_range(value.type)
        return SumBounds((low,), (high,))
    numbers = tuple(int(b) for b in array) or (0,)
    return SumBounds(numbers, numbers)


def _visible_terms(op: Contraction, x: TensorType, w: TensorType) -> int:
    """The most terms that one result sees."""
    if not isinstance(op, Conv2DBase):
        return op.reduction_length([x, w])
    return max(int(taps.sum()) for taps in visible_taps(op, x, w)) * op.channels(w.shape)[1]
