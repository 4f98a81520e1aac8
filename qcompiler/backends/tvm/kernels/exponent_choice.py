"""The exponent of a block, chosen by the rules of its format: see :mod:`qcompiler.numerics.block_conversion`.

Rounding never turns the order of two numbers around. So where all numbers of a block have one exponent, or are reals,
the smallest and the largest of them decide alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as T

from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.kernel import Argument, Kernel, Role, held, load, loop, named, store
from qcompiler.backends.tvm.kernels.mantissa_limits import Limits
from qcompiler.backends.tvm.kernels.mantissa_reading import taken_apart
from qcompiler.backends.tvm.kernels.mantissa_shift import bit_length, move
from qcompiler.backends.tvm.lanes import Expr, convert, lanes_of, literal, literal_like, reinterpret, vector
from qcompiler.backends.tvm.stages.rounding import negative
from qcompiler.numerics.block_format import BlockFormat

NOTHING = -(1 << 24)
"""Position of the leading bit of zero: below every exponent."""


def leading_place(x: Expr, exponents: Expr, block_format: BlockFormat) -> Expr:
    """Where the leading bit of each number stands, as the scale rule counts; int32.

    Args:
        x: int32 below 2**30 or int64 below 2**62 in magnitude.
        exponents: int32, as many lanes.
        block_format: what is written.
    """
    nothing, sign = literal_like(0, x), negative(x)
    # In two's complement -2**k has as many redundant sign bits as 2**k - 1.
    magnitude = held(x ^ sign if block_format.scale == "headroom" else (x ^ sign) - sign)
    return held(tirx.Select(x != nothing, bit_length(magnitude) + exponents, literal_like(NOTHING, exponents)))


def counted_magnitude(least: Expr, most: Expr, block_format: BlockFormat) -> Expr:
    """What :func:`counted_place` takes, of the smallest and the largest of some integers at one exponent."""
    if block_format.scale != "headroom":
        return held(tirx.max(most, literal_like(0, least) - least))
    # Twice the magnitude as two's complement counts it, which for -1 is 0; one more for negative numbers, so that
    # only a block of zeros gives 0.
    two = literal_like(2, least)
    return held(tirx.max(most * two, literal_like(-1, least) - least * two))


def counted_place(magnitude: Expr, exponents: Expr, block_format: BlockFormat) -> Expr:
    """Where the leading bit of the larger one stands, as :func:`leading_place` has it."""
    place = bit_length(magnitude) + exponents
    if block_format.scale == "headroom":
        place = place - literal_like(1, place)
    return held(tirx.Select(magnitude > literal_like(0, magnitude), place, literal_like(NOTHING, exponents)))


def real_leading_place(x: Expr) -> Expr:
    """Where the leading bit of each finite float32 stands; int32. For scale rules other than ``headroom``."""
    magnitude = held(reinterpret(vector("int32", lanes_of(x)), x) & literal(0x7FFFFFFF, "int32", lanes_of(x)))
    field = held(magnitude >> literal_like(23, magnitude))
    # Subnormal numbers are whole multiples of 2**-149, which float32 holds.
    whole = held(convert(magnitude, "float32"))
    below = held(reinterpret(vector("int32", lanes_of(x)), whole) >> literal_like(23, magnitude))
    nothing = literal_like(0, magnitude)
    subnormal = tirx.Select(magnitude > nothing, below - literal_like(126 + 149, below), literal_like(NOTHING, below))
    return held(tirx.Select(field > nothing, field - literal_like(126, field), subnormal))


def exponent_for(leading: Expr, block_format: BlockFormat) -> Expr:
    """The exponent of blocks whose largest leading bits stand at ``leading``, before rounding overflows."""
    lowest, highest = block_format.exponent_range
    chosen = leading + literal_like(block_format.guard - 1 - block_format.leading_bit, leading)
    return held(tirx.max(tirx.min(chosen, literal_like(highest, chosen)), literal_like(lowest, chosen)))


def raises(block_format: BlockFormat) -> bool:
    """Whether a mantissa that leaves its range asks for a larger exponent."""
    return block_format.scale == "no-overflow" or block_format.overflow == "raise"


def overflows(rounded: Expr, block_format: BlockFormat) -> Expr:
    """Whether mantissas ask for a larger exponent; 0 or 1, int32."""
    smallest = -block_format.largest if block_format.scale == "no-overflow" else block_format.smallest
    one, none = literal(1, "int32", lanes_of(rounded)), literal(0, "int32", lanes_of(rounded))
    above = tirx.Select(rounded > literal_like(block_format.largest, rounded), one, none)
    return held(tirx.max(above, tirx.Select(rounded < literal_like(smallest, rounded), one, none)))


def raised(exponent: Expr, overflow: Expr, block_format: BlockFormat) -> Expr:
    """An exponent, one larger where there is an overflow and the format allows."""
    return held(tirx.min(exponent + overflow, literal_like(block_format.exponent_range[1], exponent)))


def choose_exponent(numbers: Sequence[tuple[Expr, Expr]], block_format: BlockFormat) -> Expr:
    """The exponent of a block whose extremes are among ``numbers``: integers and their exponents."""
    leading = [leading_place(x, exponents, block_format) for x, exponents in numbers]
    exponent = exponent_for(_largest(leading), block_format)
    if not raises(block_format):
        return exponent
    rounded = (move(x, at, exponent, block_format.rounding, block_format.precision) for x, at in numbers)
    return raised(exponent, _largest([overflows(r, block_format) for r in rounded]), block_format)


def _largest(exprs: Sequence[Expr]) -> Expr:
    found = exprs[0]
    for expr in exprs[1:]:
        found = tirx.max(found, expr)
    return held(found)


@dataclass(frozen=True)
class ChooseExponents(Kernel):
    """The exponent of each block from the extremes of its pieces.

    Arguments: ``extremes``, the smallest and the largest of each piece, ``[blocks, pieces, 2]``; for integers
    ``x_exponents`` and ``places``, which of these each block has; those of the limits; ``exponents``.

    Attributes:
        blocks: how many.
        pieces: of each.
        dtype: of the extremes: ``float32``, ``int32`` or ``int64``.
        exponents: how many there are to choose ``places`` from; 0 for reals.
        limits: what the numbers are limited to, None for nothing.
        block_format: what is written.
        domain: in which it is computed.
    """

    blocks: int
    pieces: int
    dtype: str
    exponents: int
    limits: Limits | None
    block_format: BlockFormat
    domain: str

    def arguments(self, isa: InstructionSet) -> tuple[Argument, ...]:
        found = [Argument("extremes", self.dtype, 2 * self.blocks * self.pieces, Role.INPUT)]
        if self.exponents:
            found.append(Argument("x_exponents", "int32", self.exponents, Role.INPUT))
            found.append(Argument("places", "int32", self.blocks, Role.CONSTANT))
        if self.limits:
            found.extend(self.limits.arguments())
        return (*found, Argument("y_exponents", "int32", self.blocks, Role.OUTPUT))

    def items(self, isa: InstructionSet) -> int:
        return self.blocks

    def work(self) -> int:
        return self.blocks * (2 * self.pieces + 50)

    def emit(self, isa: InstructionSet, buffers: Mapping[str, Any], begin: Expr, end: Expr) -> None:
        extremes = buffers["extremes"]
        with loop(begin, end) as block:
            least, most = (T.alloc_buffer((1,), self.dtype, scope="local") for _ in range(2))
            first = named(block * (2 * self.pieces))
            store(least, 0, load(extremes, first))
            store(most, 0, load(extremes, first + 1))
            with loop(1, self.pieces) as piece:
                store(least, 0, tirx.min(load(least, 0), load(extremes, first + piece * 2)))
                store(most, 0, tirx.max(load(most, 0), load(extremes, first + piece * 2 + 1)))
            numbers = [self._number(buffers, load(end_, 0), block) for end_ in (least, most)]
            store(buffers["y_exponents"], block, choose_exponent(numbers, self.block_format))

    def _number(self, buffers: Mapping[str, Any], extreme: Expr, block: Expr) -> tuple[Expr, Expr]:
        if not self.exponents:
            return taken_apart(extreme, self.domain)
        exponent = held(load(buffers["x_exponents"], named(load(buffers["places"], block))))
        x = held(convert(extreme, self.domain))
        return (self.limits.apply(buffers, x, exponent) if self.limits else x), exponent
