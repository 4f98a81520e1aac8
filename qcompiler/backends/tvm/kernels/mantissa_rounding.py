"""Numbers of a source as mantissas at exponents that are known by then."""

from __future__ import annotations

from tvm import tirx

from qcompiler.backends.tvm.kernel import held
from qcompiler.backends.tvm.kernels.mantissa_reading import BoundReals
from qcompiler.backends.tvm.kernels.mantissa_shift import in_lanes, move
from qcompiler.backends.tvm.kernels.mantissa_source import BoundSource
from qcompiler.backends.tvm.lanes import Expr, convert, lanes_of, literal_like, reinterpret, rounded_product, vector
from qcompiler.backends.tvm.stages.rounding import float_half_even
from qcompiler.numerics.block_format import BlockFormat

_FLOAT32_BITS = 24
_FARTHEST = 252
"""Places that two factors of float32 move by."""


def rounded_mantissas(
    source: BoundSource, column: Expr, lanes: int, target: Expr, block_format: BlockFormat
) -> Expr:
    """The numbers from a place on as mantissas of a format, not limited to it where they leave it by more than one.

    Args:
        source: the numbers.
        column: the place within the row.
        lanes: how many.
        target: exponents, int32; one for all lanes, or one for each.
        block_format: what is written.
    """
    if isinstance(source, BoundReals) and rounds_reals(block_format):
        return _rounded_reals(held(source.real_at(column, lanes)), target, block_format)
    x, exponents = source.at(column, lanes)
    return move(x, exponents, target, block_format.rounding, block_format.precision)


def rounds_reals(block_format: BlockFormat) -> bool:
    """Whether float32 arithmetic rounds reals to mantissas of this format."""
    # A product that underflows has lost its sign, which other roundings need.
    nearest_or_zero = block_format.rounding in ("half-even", "toward-zero")
    return nearest_or_zero and block_format.precision is None and block_format.mantissa <= _FLOAT32_BITS


def _rounded_reals(x: Expr, target: Expr, block_format: BlockFormat) -> Expr:
    """``x / 2**target``, rounded, int32; one beyond the format's mantissas where it leaves them."""
    most = literal_like(_FARTHEST, target)
    places = held(tirx.max(tirx.min(literal_like(0, target) - target, most), literal_like(0, target) - most))
    first = held(places >> literal_like(1, places))
    second = held(places - first)
    # Products are exact, but for those that underflow, which round to 0, and those that overflow, which are limited.
    scaled = held(rounded_product(x, in_lanes(_power_of_two(first), lanes_of(x))))
    scaled = held(rounded_product(scaled, in_lanes(_power_of_two(second), lanes_of(x))))
    bounds = (literal_like(float(b), scaled) for b in (block_format.smallest - 1, block_format.largest + 1))
    low, high = bounds
    fitted = held(tirx.max(tirx.min(scaled, high), low))
    return held(float_half_even(fitted, "int32") if block_format.rounding == "half-even" else convert(fitted, "int32"))


def _power_of_two(exponents: Expr) -> Expr:
    """``2**exponents`` as float32, for int32 exponents from -126 to 127."""
    biased = (exponents + literal_like(127, exponents)) << literal_like(23, exponents)
    return held(reinterpret(vector("float32", lanes_of(exponents)), biased))
