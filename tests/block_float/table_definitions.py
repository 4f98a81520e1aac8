"""Tables with linear interpolation, and softmax, by their docstrings."""

from __future__ import annotations

from fractions import Fraction
from math import floor

from numerics.block_definition import power
from numerics.exact_arithmetic import ROUNDINGS


def interpolated(table: list[int], position: Fraction) -> int:
    """The value at ``position`` entries from the start, on the line between two entries, nearest, ties up."""
    index = min(floor(position), len(table) - 2)
    rest = position - index
    return table[index] + floor((table[index + 1] - table[index]) * rest + Fraction(1, 2))


def looked_up(mantissa: int, table: list[int], bits: int) -> int:
    """The function's value for a mantissa of ``bits``: an entry for each, or 513 over the range."""
    offset = mantissa + (1 << (bits - 1))
    if len(table) == 2**bits:
        return table[offset]
    return interpolated(table, Fraction(offset * 512, 2**bits))


def softmax(x: list[int], exponents: list[int], table: list[int], rounding: str) -> list[int]:
    """Probabilities of a row in steps of 2**-30."""
    largest = max(exponents)
    met = [ROUNDINGS[rounding](m * power(e - largest)) for m, e in zip(x, exponents, strict=True)]
    terms = []
    for m in met:
        steps = ROUNDINGS[rounding]((m - max(met)) * power(largest + 11))
        argument = max(steps, -16 * 2**11)
        # 1,025 entries from -16 to 0, 2**-6 apart.
        terms.append(interpolated(table, Fraction(argument, 2**11) * 64 + 1024))
    return [(term << 30) // sum(terms) for term in terms]
