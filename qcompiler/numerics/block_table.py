"""Functions of block floating point as fixed-point tables with linear interpolation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcompiler.errors import QCompilerError
from qcompiler.numerics.block_arithmetic import BlockArithmetic
from qcompiler.numerics.block_format import BlockFormat
from qcompiler.numerics.block_shift import shift_right
from qcompiler.numerics.registry import arithmetic
from qcompiler.numerics.rounding import Int64

EXPONENTIAL_ENTRIES = 1025
EXPONENTIAL_PLACES = 30
"""Binary places of the entries: exp(0) is 2**30."""
_LOWEST_ARGUMENT = -16
_ARGUMENT_EXPONENT = -11
"""Arguments of the exponential function count steps of 2**-11, so -16 to 0 takes 16 bits."""
_STEP_BITS = 5


_INDEX_BITS = 9


def table_entries(bits: int) -> int:
    """Entries of a table for mantissas of ``bits``: one for each of at most 8 bits, otherwise 513 to interpolate."""
    return 1 << bits if bits <= 8 else (1 << _INDEX_BITS) + 1


def look_up(mantissas: NDArray[Any], table: NDArray[Any], bits: int) -> Int64:
    """The function's value for each mantissa.

    A table of ``2**bits`` entries has one for each mantissa, from the smallest on. A shorter one has entries for
    mantissas ``2**places`` apart; what lies between is interpolated: ``base + (step * rest + half) >> places``.

    Args:
        mantissas: two's complement of ``bits``.
        table: integers below 2**31 in magnitude.
        bits: width of the mantissas.
    """
    entries = table.astype(np.int64)
    offset = mantissas.astype(np.int64) + (1 << (bits - 1))
    if len(entries) == 1 << bits:
        return entries[offset]
    places = bits - (len(entries) - 1).bit_length() + 1
    return interpolate(entries, offset, places)


def interpolate(entries: Int64, offset: Int64, places: int) -> Int64:
    """Linear interpolation between neighbouring entries; ``offset`` counts ``2**places`` to an entry."""
    # The last entry itself is the end of the last interval.
    index = np.minimum(offset >> places, len(entries) - 2)
    rest = offset - (index << places)
    base = entries[index]
    found: Int64 = base + (((entries[index + 1] - base) * rest + ((1 << places) >> 1)) >> places)
    return found


def tabulate_block(
    function: Callable[[NDArray[np.float64]], NDArray[Any]], bits: int, exponent: int, result: BlockFormat
) -> tuple[Int64, int]:
    """A table of a function, and the exponent of its entries.

    The exponent is the smallest at which the largest finite entry fits; entries are the nearest integers, ties to
    even. Values outside the function's domain take the nearest bound, NaN becomes 0.

    Args:
        function: of float64 numbers; vectorized.
        bits: width of the arguments' mantissas.
        exponent: of the arguments.
        result: format of the entries.
    """
    entries = table_entries(bits)
    spacing = 1 if entries == 1 << bits else 1 << (bits - _INDEX_BITS)
    arguments = np.ldexp(np.arange(entries, dtype=np.float64) * spacing - (1 << (bits - 1)), exponent)
    with np.errstate(all="ignore"):
        values = function(arguments).astype(np.float64)
    largest = float(np.abs(values[np.isfinite(values)]).max(initial=0.0))
    low, high = result.exponent_range
    chosen = low
    if largest > 0.0:
        chosen = int(np.clip(np.frexp(largest / (result.largest + 0.5))[1], low, high))
    bounded = np.nan_to_num(np.ldexp(values, -chosen), nan=0.0, posinf=result.largest, neginf=result.smallest)
    return np.clip(np.rint(bounded), result.smallest, result.largest).astype(np.int64), chosen


def exponential_table() -> Int64:
    """exp(x) at 1,025 arguments from -16 to 0, in steps of 2**-30."""
    arguments = np.linspace(_LOWEST_ARGUMENT, 0.0, EXPONENTIAL_ENTRIES)
    return np.rint(np.ldexp(np.exp(arguments), EXPONENTIAL_PLACES)).astype(np.int64)


@arithmetic("softmax", "block-exponential")
@dataclass(frozen=True)
class BlockSoftmax(BlockArithmetic):
    """exp(x - largest) from a table of 1,025 entries over [-16, 0], divided by their sum.

    Values of a row meet at the row's largest exponent. The argument is rounded to steps of 2**-11 as the result's
    format says and limited to -16; entries count 2**-30 and are interpolated linearly. The quotient, rounded down,
    counts 2**-30, and so does the result.
    """

    def constants(self) -> dict[str, Int64]:
        """The table."""
        return {"exponentials": exponential_table().astype(np.int32)}

    def apply(self, x: Int64, exponents: Int64, table: NDArray[Any], rounding: str) -> Int64:
        """Probabilities of each row, in steps of 2**-30.

        Args:
            x: ``[..., n]``, all values of a row at one exponent, fewer than 2**31 of them.
            exponents: ``[..., 1]``.
            table: the constant ``exponentials``.
            rounding: a name in ``SHIFT_ROUNDINGS``.
        """
        below = x - x.max(-1, keepdims=True)
        places = _ARGUMENT_EXPONENT - exponents.astype(np.int64)
        least = _LOWEST_ARGUMENT << -_ARGUMENT_EXPONENT
        # What a left shift brings below the least argument is limited to it, so 16 places are enough.
        left = np.minimum(np.maximum(-places, 0), 16)
        moved = np.maximum(shift_right(below, np.maximum(places, 0), rounding), least) << left
        offset = np.maximum(moved, least) - least
        terms = interpolate(table.astype(np.int64), offset, _STEP_BITS)
        total = terms.sum(-1, keepdims=True)
        if total.size and int(total.max()) >= 1 << 62:
            raise QCompilerError("softmax has too many terms", expected="fewer than 2**31 of them")
        quotient: Int64 = (terms << EXPONENTIAL_PLACES) // total
        return quotient
