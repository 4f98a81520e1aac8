"""Dimensions of tensors: integers, or a multiple of the free batch size."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class SymbolicDim:
    """``coefficient`` times a symbol whose value is known when the program runs.

    A dimension of this kind carries the batch. ``4*N`` arises when a reshape merges the batch with another axis.
    """

    symbol: str
    coefficient: int = 1

    def __mul__(self, other: int) -> SymbolicDim:
        return SymbolicDim(self.symbol, self.coefficient * other)

    __rmul__ = __mul__

    def __str__(self) -> str:
        return self.symbol if self.coefficient == 1 else f"{self.coefficient}*{self.symbol}"


Dim = int | SymbolicDim
Shape = tuple[Dim, ...]

_SYMBOLIC = re.compile(r"(?:(\d+)\*)?([A-Za-z_]\w*)")


def parse_dim(text: str) -> Dim:
    """Read ``7``, ``N`` or ``4*N``.

    Raises:
        ValueError: ``text`` is none of these.
    """
    if text.isdigit():
        return int(text)
    match = _SYMBOLIC.fullmatch(text)
    if not match:
        raise ValueError(f"not a dimension: {text!r}")
    return SymbolicDim(match[2], int(match[1] or 1))


def bind_dim(dim: Dim, symbols: Mapping[str, int]) -> int:
    """The integer that ``dim`` has once its symbol is known."""
    return dim if isinstance(dim, int) else dim.coefficient * symbols[dim.symbol]


def static_shape(shape: Shape) -> tuple[int, ...]:
    """``shape`` as plain integers.

    Raises:
        ValueError: a dimension is still symbolic.
    """
    if any(isinstance(d, SymbolicDim) for d in shape):
        raise ValueError(f"shape {format_shape(shape)} has a free dimension")
    return tuple(d for d in shape if isinstance(d, int))


def element_count(shape: Iterable[Dim]) -> Dim:
    """Product of all dimensions.

    Raises:
        ValueError: two dimensions are symbolic.
    """
    coefficient, symbol = 1, None
    for dim in shape:
        if isinstance(dim, SymbolicDim):
            if symbol is not None:
                raise ValueError("two free dimensions in one shape")
            symbol = dim.symbol
            coefficient *= dim.coefficient
        else:
            coefficient *= dim
    return coefficient if symbol is None else SymbolicDim(symbol, coefficient)


def divide(dividend: Dim, divisor: Dim) -> Dim:
    """Exact quotient of two dimensions.

    Raises:
        ValueError: the quotient is no dimension.
    """
    if isinstance(dividend, SymbolicDim) and isinstance(divisor, SymbolicDim):
        if dividend.symbol == divisor.symbol and dividend.coefficient % divisor.coefficient == 0:
            return dividend.coefficient // divisor.coefficient
    elif isinstance(divisor, int) and divisor:
        if isinstance(dividend, int) and dividend % divisor == 0:
            return dividend // divisor
        if isinstance(dividend, SymbolicDim) and dividend.coefficient % divisor == 0:
            return SymbolicDim(dividend.symbol, dividend.coefficient // divisor)
    raise ValueError(f"{dividend} is not divisible by {divisor}")


def broadcast_shapes(*shapes: Shape) -> Shape:
    """The numpy broadcast of shapes.

    Raises:
        ValueError: two dimensions differ and neither is 1.
    """
    rank = max(len(s) for s in shapes)
    padded = [(1,) * (rank - len(s)) + s for s in shapes]
    result: list[Dim] = []
    for dims in zip(*padded, strict=True):
        wide = {d for d in dims if d != 1}
        if len(wide) > 1:
            raise ValueError("shapes " + " and ".join(format_shape(s) for s in shapes) + " do not broadcast")
        result.append(wide.pop() if wide else 1)
    return tuple(result)


def format_shape(shape: Iterable[Dim]) -> str:
    """A shape as ``.qir`` text, such as ``[N,3,224,224]``."""
    return "[" + ",".join(str(d) for d in shape) + "]"


def sample_elements(shape: Shape) -> int:
    """Elements of one sample: the product with the batch symbol taken as 1."""
    return math.prod(d.coefficient if isinstance(d, SymbolicDim) else d for d in shape)


def same_but_for_unit_axes(first: Shape, second: Shape) -> bool:
    """Whether two shapes differ only in axes of size 1."""
    return [d for d in first if d != 1] == [d for d in second if d != 1]
