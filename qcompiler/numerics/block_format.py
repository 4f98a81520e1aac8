"""Block formats as data: how mantissas that share an exponent are chosen, rounded and limited."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from qcompiler.errors import QCompilerError, did_you_mean
from qcompiler.numerics.rounding import SHIFT_ROUNDINGS

WIDEST_MANTISSA = 62
"""Bits of the widest mantissa, sign included: what 64-bit integers hold with room for a rounding."""


@dataclass(frozen=True)
class Element:
    """A small floating-point format, with subnormal numbers, whose numbers are whole multiples of its smallest one.

    Attributes:
        precision: significant bits, the leading one included.
        step: exponent of the smallest positive number, ``2**step``.
        largest: the largest number, in steps.
        top: exponent of the largest number's leading bit (OCP's emax).
    """

    precision: int
    step: int
    largest: int
    top: int


ELEMENTS: dict[str, Element] = {
    "e4m3": Element(4, -9, 448 << 9, 8),
    "e5m2": Element(3, -16, 57344 << 16, 15),
    "e3m2": Element(3, -4, 28 << 4, 4),
    "e2m3": Element(4, -3, 60, 2),
    "e2m1": Element(2, -1, 12, 2),
}
"""Floating-point elements of OCP Microscaling Formats (MX) v1.0, section 5.3, by name."""

REPRESENTATIONS = ("twos-complement", "sign-magnitude")
SCALE_RULES = ("floor", "no-overflow", "headroom")
OVERFLOWS = ("clamp", "raise")


@dataclass(frozen=True)
class BlockFormat:
    """Integers that share one exponent a block: value = mantissa * 2**exponent.

    The exponent is always that of the mantissa's last bit. Formats that count from elsewhere differ by a constant,
    ``fraction``: the E8M0 scale of an MX block is ``2**(exponent + fraction)``, and so is AMD's largest exponent.

    How a block is written (:mod:`qcompiler.numerics.block_conversion`):

    1. The exponent is the smallest that the ``scale`` rule allows, limited to the exponent's range. An all-zero block
       takes the smallest exponent. At the smallest exponent mantissas get short, as in subnormal numbers.
    2. Each value is rounded to a mantissa.
    3. Where a mantissa leaves its range, ``overflow`` decides. A block above the largest exponent saturates.

    Scale rules:

    - ``floor``: the leading bit of the block's largest magnitude becomes that of the largest number. OCP MX v1.0,
      section 6.3; AMD BFP16, whose exponent is the largest of the block; MSFP.
    - ``no-overflow``: the smallest exponent at which no magnitude rounds beyond the largest number. TOSA 1.1.
    - ``headroom``: as many bits as the value with the fewest redundant sign bits has, less ``guard``, are shifted out.
      Classic DSPs (Analog Devices' SIGNBITS and EXPADJ). Differs from ``floor`` by ``guard``, and where the largest
      magnitude belongs to a negative power of two alone, which two's complement holds in one bit less.

    Attributes:
        mantissa: bits of the mantissa, sign included, 2 to 62; operands of contractions have at most 33. For
            floating-point elements, bits of the element counted in its smallest step.
        exponent: bits of the exponent, 2 to 16.
        representation: ``twos-complement`` or ``sign-magnitude``.
        symmetric: whether two's complement leaves out its smallest integer, as sign-magnitude always does.
        element: ``integer``, or the floating-point format in which MX stores each mantissa: a name in ``ELEMENTS``.
        scale: ``floor``, ``no-overflow`` or ``headroom``.
        guard: bits that ``headroom`` leaves free for later growth.
        rounding: a name in :data:`~qcompiler.numerics.rounding.SHIFT_ROUNDINGS`.
        overflow: when rounding leaves the mantissa's range, ``clamp`` the mantissa or ``raise`` the exponent by one
            and round the whole block again.
        lowest_exponent, highest_exponent: range of the exponent; that of two's complement where not given.

    Raises:
        QCompilerError: a field is out of its range, or two fields contradict each other.
    """

    mantissa: int
    exponent: int = 8
    representation: str = "twos-complement"
    symmetric: bool = False
    element: str = "integer"
    scale: str = "floor"
    guard: int = 0
    rounding: str = "half-even"
    overflow: str = "clamp"
    lowest_exponent: int | None = None
    highest_exponent: int | None = None

    def __post_init__(self) -> None:
        _check_word("representation", self.representation, REPRESENTATIONS)
        _check_word("element", self.element, ("integer", *ELEMENTS))
        _check_word("scale", self.scale, SCALE_RULES)
        _check_word("rounding", self.rounding, tuple(SHIFT_ROUNDINGS))
        _check_word("overflow", self.overflow, OVERFLOWS)
        _check_range("mantissa", self.mantissa, 2, WIDEST_MANTISSA)
        _check_range("exponent", self.exponent, 2, 16)
        self._check_element()
        self._check_headroom()
        lowest, highest = self.exponent_range
        if not lowest <= highest or highest - lowest >= 1 << self.exponent:
            raise QCompilerError(
                "the exponent range of a block format does not fit its bits",
                expected=f"at most {1 << self.exponent} exponents in {self.exponent} bits, the lowest first",
                found=f"{lowest} to {highest}",
            )

    @classmethod
    def mx(cls, element: str, *, scale: str = "floor", rounding: str = "half-even") -> BlockFormat:
        """The MX format of this element: an E8M0 scale from 2**-127 to 2**127, half-even, saturating.

        Args:
            element: ``int8`` or a name in ``ELEMENTS``.
            scale: ``floor`` as OCP has it, or ``no-overflow`` as TOSA 1.1 has it.
            rounding: a name in ``SHIFT_ROUNDINGS``.

        Raises:
            QCompilerError: there is no such element, scale rule or rounding.
        """
        _check_word("element", element, ("int8", *ELEMENTS))
        if element == "int8":
            return cls(
                8, 8, symmetric=True, scale=scale, rounding=rounding, lowest_exponent=-127 - 6, highest_exponent=127 - 6
            )
        step = ELEMENTS[element].step
        return cls(
            ELEMENTS[element].largest.bit_length() + 1, 8, "sign-magnitude", element=element, scale=scale,
            rounding=rounding, lowest_exponent=-127 + step, highest_exponent=127 + step,
        )

    @cached_property
    def exponent_range(self) -> tuple[int, int]:
        """The smallest and the largest exponent."""
        half = 1 << (self.exponent - 1)
        lowest = -half if self.lowest_exponent is None else self.lowest_exponent
        return lowest, half - 1 if self.highest_exponent is None else self.highest_exponent

    @cached_property
    def largest(self) -> int:
        """The largest mantissa."""
        return (1 << (self.mantissa - 1)) - 1 if self.element == "integer" else ELEMENTS[self.element].largest

    @cached_property
    def smallest(self) -> int:
        """The smallest mantissa."""
        full = self.representation == "twos-complement" and not self.symmetric
        return -self.largest - 1 if full else -self.largest

    @cached_property
    def fraction(self) -> int:
        """Binary places of a mantissa read with a scale of ``2**(exponent + fraction)``: 6 for 8-bit integers."""
        return self.mantissa - 2 if self.element == "integer" else -ELEMENTS[self.element].step

    @cached_property
    def leading_bit(self) -> int:
        """Position of the leading bit of the largest mantissa."""
        return self.largest.bit_length() - 1

    @cached_property
    def precision(self) -> int | None:
        """Significant bits of a floating-point element; None for integers."""
        return None if self.element == "integer" else ELEMENTS[self.element].precision

    @cached_property
    def mantissa_dtype(self) -> np.dtype[Any]:
        """The narrowest signed integer of numpy that holds a mantissa."""
        return np.dtype(next(f"int{bits}" for bits in (8, 16, 32, 64) if bits >= self.mantissa))

    def _check_element(self) -> None:
        if self.element == "integer":
            return
        bits = ELEMENTS[self.element].largest.bit_length() + 1
        if self.mantissa != bits or self.representation != "sign-magnitude" or self.symmetric:
            raise QCompilerError(
                f"a block format of {self.element} elements has a mantissa of its own",
                expected=f"mantissa {bits}, representation sign-magnitude, no 'symmetric'",
                found=f"mantissa {self.mantissa}, representation {self.representation}",
                fix=f"BlockFormat.mx({self.element!r}) has these settings",
            )

    def _check_headroom(self) -> None:
        if self.scale != "headroom":
            if self.guard:
                raise QCompilerError(
                    "guard bits belong to the scale rule 'headroom'", expected="guard 0, or scale 'headroom'",
                    found=f"guard {self.guard} with scale {self.scale!r}",
                )
            return
        _check_range("guard", self.guard, 0, self.mantissa - 2)
        if self.representation != "twos-complement":
            raise QCompilerError(
                "the scale rule 'headroom' counts redundant sign bits", expected="representation 'twos-complement'",
                found=repr(self.representation), fix="use the scale rule 'floor'",
            )


def _check_word(field: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise QCompilerError(
            f"unknown {field} {value!r} of a block format", expected="one of " + ", ".join(choices),
            fix=did_you_mean(str(value), choices),
        )


def _check_range(field: str, value: int, least: int, most: int) -> None:
    if not isinstance(value, int) or not least <= value <= most:
        raise QCompilerError(
            f"{field} of a block format is out of range", expected=f"{least} to {most}", found=repr(value)
        )
