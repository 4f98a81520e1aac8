"""Accumulators of block floating point: fixed point of a given width, and what happens when it is full."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcompiler.errors import QCompilerError, did_you_mean
from qcompiler.numerics.block_conversion import checked_mantissas
from qcompiler.numerics.block_shift import shift_right
from qcompiler.numerics.rounding import SHIFT_ROUNDINGS, Int64

OVERFLOW_RULES = ("forbidden", "saturate", "wrap")


@dataclass(frozen=True)
class FixedPointAccumulator:
    """A signed register whose contents share an exponent.

    Attributes:
        bits: its width, sign included, 2 to 62.
        overflow: ``forbidden`` (an error here; a compiler proves that it cannot happen), ``saturate`` after each
            addition, or ``wrap`` (modulo ``2**bits``).
        rounding: how what is added is rounded when it is shifted right to the accumulator's exponent; a name in
            :data:`~qcompiler.numerics.rounding.SHIFT_ROUNDINGS`.
        fraction: binary places that a contraction keeps below the last bit of its largest pair of blocks, so that
            less of the smaller ones is lost. They take as many of the accumulator's bits.

    Raises:
        QCompilerError: a field is out of its range.
    """

    bits: int
    overflow: str = "forbidden"
    rounding: str = "half-even"
    fraction: int = 0

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 62:
            raise QCompilerError("an accumulator has 2 to 62 bits", found=repr(self.bits))
        if not 0 <= self.fraction < self.bits:
            raise QCompilerError(
                "binary places of an accumulator are out of range", expected=f"0 to {self.bits - 1}",
                found=repr(self.fraction),
            )
        for field, value, choices in (
            ("overflow", self.overflow, OVERFLOW_RULES), ("rounding", self.rounding, tuple(SHIFT_ROUNDINGS)),
        ):
            if value not in choices:
                raise QCompilerError(
                    f"unknown {field} {value!r} of an accumulator", expected="one of " + ", ".join(choices),
                    fix=did_you_mean(value, choices),
                )

    @property
    def largest(self) -> int:
        """The largest number it holds; the smallest is ``-largest - 1``."""
        return (1 << (self.bits - 1)) - 1

    def store(self, x: Int64) -> Int64:
        """``x``, any int64, as the accumulator keeps it.

        Raises:
            QCompilerError: overflow is forbidden, and some number does not fit.
        """
        outside = (x > self.largest) | (x < -self.largest - 1)
        if not outside.any():
            return x
        if self.overflow == "saturate":
            return np.clip(x, -self.largest - 1, self.largest)
        if self.overflow == "wrap":
            unused = 64 - self.bits
            return (x << unused) >> unused
        raise self._full(int(x[outside].flat[0]))

    def add(self, a: Int64, b: Int64) -> Int64:
        """The stored sum of two numbers that it holds."""
        return self.store(a + b)

    def align(self, x: NDArray[Any], exponents: NDArray[Any], target: NDArray[Any]) -> Int64:
        """Integers at ``exponents`` as the accumulator keeps them at the exponents ``target``.

        Shifts to the right round; shifts to the left overflow as the accumulator does. This is how a bias whose
        exponent differs is added: ``add(total, align(bias, bias_exponents, total_exponents))``.

        Args:
            x: below 2**62 in magnitude.
            exponents, target: broadcastable with ``x``.

        Raises:
            QCompilerError: overflow is forbidden, and some number does not fit.
        """
        places = target.astype(np.int64) - exponents.astype(np.int64)
        rounded = shift_right(checked_mantissas(x), np.maximum(places, 0), self.rounding)
        # 63 places leave nothing within the accumulator's width, so more of them need no care.
        left = np.clip(-places, 0, 63)
        if not left.any():
            return self.store(rounded)
        kept = rounded << left
        if self.overflow != "wrap":
            fits = (kept >> left) == rounded
            if self.overflow == "forbidden" and not fits.all():
                value, by = (int(np.broadcast_to(a, fits.shape)[~fits].flat[0]) for a in (rounded, -places))
                raise self._full(value, by)
            kept = np.where(fits, kept, np.sign(rounded) * np.int64(1 << 62))
        return self.store(kept)

    def _full(self, found: int, left: int = 0) -> QCompilerError:
        return QCompilerError(
            f"a sum overflows its {self.bits}-bit accumulator",
            expected=f"{-self.largest - 1} to {self.largest}",
            found=f"{found}{f' * 2**{left}' if left else ''}, which takes {bits_for(found, found) + left} bits",
            fix="use a wider accumulator, narrower mantissas, or an accumulator that saturates",
        )


def bits_for(lowest: int, highest: int) -> int:
    """Bits of the narrowest two's complement integer that holds both numbers."""
    return max((~number if number < 0 else number).bit_length() for number in (lowest, highest)) + 1
