"""Convolutions and matrix products of block floating point by their docstrings, one result at a time.

A result is a sum over pairs of blocks. Those of a convolution stand at its taps, row by row, and at each tap one
behind the other along the channels; a tap outside of the operand is a pair without values. A transposed convolution
has the order of the convolution that it equals, whose kernel is turned round.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import gcd
from typing import Any

import numpy as np
from numerics.block_definition import dot, power, store
from numerics.exact_arithmetic import ROUNDINGS, float32

from block_float.op_definitions import Numbers, largest_exponent

Pair = tuple[list[int], list[int], "int | None"]
"""Mantissas of x, mantissas of w, and the sum of the exponents; None where there is no x."""


def taps(op: Any, x: Any, w: Any, oy: int, ox: int) -> Iterator[tuple[int, int, int | None, int | None]]:
    """Kernel row and column, and the row and column of x that they meet, None outside."""
    kernel = w.mantissas.shape[1:3]
    order = [range(k) if op.name == "conv2d" else range(k - 1, -1, -1) for k in kernel]
    for ky in order[0]:
        for kx in order[1]:
            places: list[int | None] = []
            for axis, (o, k) in enumerate(((oy, ky), (ox, kx))):
                size = x.mantissas.shape[1 + axis]
                if op.name == "conv2d":
                    at, fits = o * op.strides[axis] - op.pads[axis] + k * op.dilations[axis], True
                else:
                    # Input i adds to result i * stride + tap * dilation - pad.
                    offset = o + op.pads[axis] - k * op.dilations[axis]
                    at, fits = offset // op.strides[axis], offset % op.strides[axis] == 0
                places.append(at if fits and 0 <= at < size else None)
            yield ky, kx, places[0], places[1]


def convolution_pairs(
    op: Any, x: Numbers, w: Numbers, length: int, at: tuple[int, ...]
) -> list[Pair]:
    """The pairs of blocks of one result ``[n, y, x, o]``."""
    n, oy, ox, o = at
    channels = w.mantissas.shape[3]
    first = o // (w.mantissas.shape[0] // op.groups) * channels
    pairs: list[Pair] = []
    for ky, kx, iy, ix in taps(op, x, w, oy, ox):
        for start in range(0, channels, length):
            part = slice(start, min(start + length, channels))
            of_w = w.mantissas[o, ky, kx, part].tolist()
            if iy is None or ix is None:
                pairs.append(([0] * len(of_w), of_w, None))
                continue
            of_x = slice(first + start, first + min(start + length, channels))
            pairs.append((
                x.mantissas[n, iy, ix, of_x].tolist(), of_w,
                only(x.exponents[n, iy, ix, of_x]) + only(w.exponents[o, ky, kx, part]),
            ))
    return pairs


def matmul_pairs(op: Any, x: Numbers, w: Numbers, length: int, at: tuple[int, ...]) -> list[Pair]:
    """The pairs of blocks of one result ``[..., m, n]``."""
    if op.transpose_b:
        w = Numbers(w.mantissas.swapaxes(-1, -2), w.exponents.swapaxes(-1, -2))

    def leading(array: Any) -> Any:
        index = at[len(at) - array.ndim : -2]
        return array[tuple(i if size > 1 else 0 for i, size in zip(index, array.shape[:-2], strict=True))]

    a, a_exponents, b, b_exponents = (leading(array) for array in (*x, *w))
    terms = a.shape[-1]
    return [
        (
            a[at[-2], start : start + length].tolist(), b[start : start + length, at[-1]].tolist(),
            only(a_exponents[at[-2], start : start + length]) + only(b_exponents[start : start + length, at[-1]]),
        )
        for start in range(0, terms, length)
    ]


def only(exponents: Any) -> int:
    """The one exponent of the values of a block."""
    (exponent,) = set(exponents.tolist())
    return int(exponent)


def dot_length(op: Any, x: Any, w: Any) -> int:
    """Terms of a dot: those of a block of the reduction, of which each group of a convolution sees its own part."""
    block = int(x.type.elem.blocks[-1])
    if op.name == "matmul":
        return block
    channels = int(w.type.shape[3])
    return gcd(block, channels) if op.groups > 1 else block


def joined(pairs: list[Pair], exponent: int) -> list[Pair]:
    """All pairs as one, at the one exponent that they have."""
    assert {e for *_, e in pairs} <= {exponent, None}
    return [([m for x, _, _ in pairs for m in x], [m for _, w, _ in pairs for m in w], exponent)]


def fixed_point(pairs: list[Pair], accumulator: Any, bias: tuple[int, int] | None) -> tuple[int, int | None]:
    """One sum and its exponent, None where nothing has one.

    Dots are shifted right to the largest exponent of the pairs, less the binary places that are kept below it, but at
    least the bias's; they are added in order, the bias last.
    """
    rounding = ROUNDINGS[accumulator.rounding]
    largest = largest_exponent(e for *_, e in pairs)
    exponent = None if largest is None else largest - accumulator.fraction
    if bias is not None:
        exponent = bias[1] if exponent is None else max(exponent, bias[1])

    def keep(x: int) -> int:
        return store(x, accumulator.bits, accumulator.overflow)

    total = 0
    for x, w, e in pairs:
        if e is not None:
            assert exponent is not None
            total = keep(total + rounding(dot(x, w) * power(e - exponent)))
    if bias is not None:
        assert exponent is not None
        total = keep(total + keep(rounding(bias[0] * power(bias[1] - exponent))))
    return total, exponent


def float32_sum(pairs: list[Pair], order: str, bias: np.float32 | None) -> np.float32:
    """One sum in float32: dots rounded once, then one addition of two float32 numbers at a time."""
    sums = [np.float32(float(float32(dot(x, w) * power(e)))) if e is not None else np.float32(0) for x, w, e in pairs]
    while len(sums) > 1:
        if order == "sequential":
            sums = [sums[0] + sums[1], *sums[2:]]
        else:
            sums = [a + b for a, b in zip(sums[::2], sums[1::2], strict=False)] + sums[len(sums) // 2 * 2 :]
    return sums[0] if bias is None else sums[0] + bias


Pairs = Callable[[Any, Numbers, Numbers, int, "tuple[int, ...]"], list[Pair]]


def pairs_of(op: Any) -> Pairs:
    return matmul_pairs if op.name == "matmul" else convolution_pairs
