"""Block floating point by its definition, in fractions, one block and one number at a time.

Written from the rules in the docstring of ``BlockFormat`` and their sources, and sharing no code with
``qcompiler.numerics``: exponents are found by trying one after the other.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numerics.exact_arithmetic import ROUNDINGS, float32

# name: (exponent bits, mantissa bits without the hidden one, largest number), OCP MX v1.0, section 5.3.
ELEMENTS = {
    "e4m3": (4, 3, Fraction(448)), "e5m2": (5, 2, Fraction(57344)), "e3m2": (3, 2, Fraction(28)),
    "e2m3": (2, 3, Fraction(15, 2)), "e2m1": (2, 1, Fraction(6)),
}


def power(exponent: int) -> Fraction:
    return Fraction(2) ** exponent


def floor_log2(x: Fraction) -> int:
    exponent = x.numerator.bit_length() - x.denominator.bit_length()
    return exponent if power(exponent) <= x else exponent - 1


def largest_mantissa(f: Any) -> int:
    if f.element == "integer":
        return int(2 ** (f.mantissa - 1) - 1)
    exponent_bits, mantissa_bits, largest = ELEMENTS[f.element]
    return int(largest / power(2 - 2 ** (exponent_bits - 1) - mantissa_bits))


def smallest_mantissa(f: Any) -> int:
    two = f.representation == "twos-complement" and not f.symmetric
    return -largest_mantissa(f) - (1 if two else 0)


def mantissa_of(v: Fraction, exponent: int, f: Any) -> int:
    """``v`` rounded to a mantissa at this exponent, whatever its range."""
    rounding = ROUNDINGS[f.rounding]
    steps = v / power(exponent)
    if f.element == "integer":
        return rounding(steps)
    _, mantissa_bits, _ = ELEMENTS[f.element]
    quantum = power(max(floor_log2(abs(steps)) - mantissa_bits, 0)) if steps else Fraction(1)
    return int(rounding(steps / quantum) * quantum)


def write_block(values: Sequence[Fraction], f: Any, fixed: int | None = None) -> tuple[list[int], int]:
    """Mantissas and exponent of one block."""
    low, high = f.exponent_range
    largest, smallest = largest_mantissa(f), smallest_mantissa(f)
    magnitude = max((abs(v) for v in values), default=Fraction(0))
    if fixed is not None:
        exponent = fixed
    elif f.scale == "headroom":
        bound = power(f.mantissa - 1 - f.guard)
        exponent = next(
            e for e in itertools.count(low)
            if e == high or all(-bound <= v / power(e) < bound for v in values)
        )
    elif f.scale == "no-overflow":
        exponent = next(
            e for e in itertools.count(low)
            if e == high or all(abs(mantissa_of(v, e, f)) <= largest for v in values)
        )
    else:
        exponent = low
        if magnitude:
            exponent = min(max(floor_log2(magnitude) - (largest.bit_length() - 1), low), high)
    if fixed is None and f.overflow == "raise" and exponent < high and any(
        not smallest <= mantissa_of(v, exponent, f) <= largest for v in values
    ):
        exponent += 1
    return [min(max(mantissa_of(v, exponent, f), smallest), largest) for v in values], exponent


def slices(shape: Sequence[int], blocks: Sequence[int]) -> Iterator[tuple[tuple[int, ...], tuple[slice, ...]]]:
    """Each place on the block grid with the part of the array that it stands for."""
    if not blocks:
        yield (), tuple(slice(None) for _ in shape)
        return
    counts = [-(-size // length) for size, length in zip(shape, blocks, strict=True)]
    for place in itertools.product(*map(range, counts)):
        yield place, tuple(slice(i * n, (i + 1) * n) for i, n in zip(place, blocks, strict=True))


def fractions_of(x: NDArray[Any]) -> NDArray[Any]:
    """The exact values of floats or integers."""
    flat = [Fraction(v) for v in x.reshape(-1).tolist()]
    result = np.empty(len(flat), object)
    result[:] = flat
    return result.reshape(x.shape)


def write(values: NDArray[Any], f: Any, blocks: Sequence[int]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Mantissas and exponents of an array of fractions."""
    mantissas = np.zeros(values.shape, np.int64)
    grid = tuple(-(-s // b) for s, b in zip(values.shape, blocks, strict=True)) if blocks else ()
    exponents = np.zeros(grid, np.int64)
    for place, part in slices(values.shape, blocks):
        block = values[part]
        found, exponents[place] = write_block(list(block.reshape(-1)), f)
        mantissas[part] = np.array(found, np.int64).reshape(block.shape)
    return mantissas, exponents


def read(mantissas: NDArray[Any], exponents: NDArray[Any], blocks: Sequence[int]) -> NDArray[Any]:
    """The values that mantissas and exponents stand for, as fractions."""
    values = fractions_of(mantissas)
    for place, part in slices(mantissas.shape, blocks):
        values[part] = values[part] * power(int(exponents[place]))
    return values


class Overflow(Exception):
    """A sum left an accumulator in which overflow is forbidden."""


def store(total: int, bits: int, overflow: str) -> int:
    """What an accumulator keeps of a sum."""
    half = 1 << (bits - 1)
    if -half <= total < half:
        return total
    if overflow == "forbidden":
        raise Overflow
    if overflow == "saturate":
        return half - 1 if total > 0 else -half
    return (total + half) % (2 * half) - half


Pairs = Sequence[tuple[Sequence[int], int, Sequence[int], int]]
"""For each pair of blocks: mantissas and exponent of x, mantissas and exponent of w."""


def dot(x: Sequence[int], w: Sequence[int]) -> int:
    return sum(a * b for a, b in zip(x, w, strict=True))


def contract(pairs: Pairs, accumulator: Any) -> tuple[int, int]:
    """Sum and exponent of one result in a fixed-point accumulator."""
    exponent = max(a + b for _, a, _, b in pairs) - accumulator.fraction
    total = 0
    for x, a, w, b in pairs:
        aligned = ROUNDINGS[accumulator.rounding](dot(x, w) * power(a + b - exponent))
        total = store(total + aligned, accumulator.bits, accumulator.overflow)
    return total, exponent


def contract_float32(pairs: Pairs, order: str) -> Fraction:
    """One result in float32."""
    sums = [float32(dot(x, w) * power(a + b)) for x, a, w, b in pairs]
    if order == "sequential":
        total = sums[0]
        for s in sums[1:]:
            total = float32(total + s)
        return total
    while len(sums) > 1:
        paired = [float32(a + b) for a, b in zip(sums[::2], sums[1::2], strict=False)]
        sums = paired + sums[len(paired) * 2 :]
    return sums[0]
