"""Whether the accumulators of a block floating-point target hold what its rows let them sum up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

from qcompiler import numerics
from qcompiler.errors import QCompilerError
from qcompiler.numerics.block_accumulator import bits_for
from qcompiler.numerics.block_arithmetic import ExactProduct, FixedPointSum, ReciprocalMean
from qcompiler.numerics.block_format import BlockFormat
from qcompiler.target.descriptor import Accumulator, TypeSpec
from qcompiler.target.problem import Problem
from qcompiler.target.target import Row, Target
from qcompiler.target.type_expression import Operand

_LARGEST_COUNT_BITS = 20
"""Bits of the largest count that :class:`~qcompiler.numerics.block_arithmetic.ReciprocalMean` is exact for."""


def accumulator_problems(target: Target) -> Iterator[Problem]:
    """Entries that contradict one another, and accumulators too narrow for a single product."""
    for row in target.rows.values():
        if row.arithmetic is None:
            continue
        rule = numerics.resolve(row.name, row.arithmetic.name, row.arithmetic.options)
        for name, accumulator in _block_choices(row.out):
            if isinstance(rule, FixedPointSum):
                yield from _contradictions(row, rule, name, accumulator, target.descriptor.limits.accumulator)
            if isinstance(rule, FixedPointSum | ExactProduct):
                fraction = rule.fraction if isinstance(rule, FixedPointSum) else 0
                for factors in product(*(_block_choices(operand) for operand in row.operands[:2])):
                    yield from _narrow_for_product(row, factors, name, accumulator, fraction)
            if isinstance(rule, ReciprocalMean):
                # The result of a mean has an exponent lower by the places of the reciprocal.
                places = rule.bits - 2 + _LARGEST_COUNT_BITS
                for _, operand in _block_choices(row.operands[0]):
                    low, high = operand.exponent_range
                    yield from _short_exponents(row, name, accumulator, low - places, high)


def _block_choices(operand: Operand) -> list[tuple[str, BlockFormat]]:
    """Names and formats of the block floating-point types among an operand's choices."""
    specs: Sequence[tuple[str, TypeSpec]] = list(zip(operand.names, operand.choices, strict=True))
    return [(name, spec.block_format) for name, spec in specs if spec.kind == "block"]


def _contradictions(
    row: Row, rule: FixedPointSum, name: str, accumulator: BlockFormat, limits: Accumulator
) -> Iterator[Problem]:
    """What ``limits.accumulator`` says other than a row of sums of products."""
    place = ("limits", "accumulator")
    if limits.bits != accumulator.mantissa:
        yield Problem(
            place, f"accumulators have {limits.bits} bits, but {name!r}, the result of {row.name}, has mantissas of "
            f"{accumulator.mantissa}", f"set bits = {accumulator.mantissa}, or mantissa = {limits.bits}",
        )
    if limits.overflow != rule.overflow:
        yield Problem(
            place, f"overflow is {limits.overflow!r}, but {rule.overflow!r} in {row.arithmetic}, the arithmetic of "
            f"{row.name}", f"set overflow = {rule.overflow!r}, or the arithmetic's parameter overflow",
        )
    try:
        rule.accumulator(accumulator.mantissa, accumulator.rounding)
    except QCompilerError as error:
        yield Problem(("ops", row.name, "arithmetic"), f"{error.problem}, found {error.found}", f"use {error.expected}")


def _narrow_for_product(
    row: Row, factors: Any, name: str, accumulator: BlockFormat, fraction: int
) -> Iterator[Problem]:
    """Whether one product of the ends of two formats fits."""
    (first, a), (second, b) = factors
    ends = [m * n << fraction for m in (a.smallest, a.largest) for n in (b.smallest, b.largest)]
    missing = bits_for(min(ends), max(ends)) - accumulator.mantissa
    if missing > 0:
        below = f" with {fraction} binary places below it" if fraction else ""
        yield Problem(
            ("types", name, "mantissa"),
            f"{accumulator.mantissa} bits cannot hold a single product of {first!r} and {second!r}{below}, which "
            f"{row.name} sums up: {missing} bits too few",
            f"use mantissa = {accumulator.mantissa + missing} or more",
        )
    (a_low, a_high), (b_low, b_high) = a.exponent_range, b.exponent_range
    yield from _short_exponents(row, name, accumulator, a_low + b_low - fraction, a_high + b_high)


def _short_exponents(row: Row, name: str, accumulator: BlockFormat, low: int, high: int) -> Iterator[Problem]:
    """Whether the exponents from ``low`` to ``high`` fit."""
    if accumulator.exponent_range[0] <= low and high <= accumulator.exponent_range[1]:
        return
    bits = bits_for(low, high)
    yield Problem(
        ("types", name, "exponent"),
        f"{accumulator.exponent} bits cannot hold the exponents of {row.name}, {low} to {high}: "
        f"{bits - accumulator.exponent} bits too few",
        f"use exponent = {bits}",
    )
