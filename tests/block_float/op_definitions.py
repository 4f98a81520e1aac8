"""What ops mean on block floating point, by the rules of their docstrings: Python integers, one number at a time.

Shares no code with ``qcompiler``. An op works on integers with an exponent each; what it gives is then written in
blocks: all integers of a block go to the largest exponent among them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
from numerics import block_definition as definition
from numerics.block_definition import Overflow, power
from numerics.exact_arithmetic import ROUNDINGS, half_even
from numpy.typing import NDArray

Objects = NDArray[Any]
"""An array of Python integers."""


class Numbers(NamedTuple):
    """Integers with an exponent each. What is no value, such as padding, is 0 and has the exponent None."""

    mantissas: Objects
    exponents: Objects


def numbers_of(tensor: Any) -> Numbers:
    """The integers of a value, each with the exponent of its block."""
    mantissas = np.empty(tensor.data.shape, object)
    exponents = np.empty(tensor.data.shape, object)
    mantissas[...] = tensor.data.astype(object)
    for place, part in definition.slices(tensor.data.shape, tensor.type.elem.blocks):
        exponents[part] = int(tensor.exponents[place])
    return Numbers(mantissas, exponents)


def moved(function: Callable[[Objects], Objects], x: Numbers) -> Numbers:
    """Integers that take their exponents along."""
    return Numbers(function(x.mantissas), function(x.exponents))


def largest_exponent(exponents: Iterable[int | None]) -> int | None:
    """The largest exponent of values; None where there are no values."""
    return max((e for e in exponents if e is not None), default=None)


def meet(mantissa: int, exponent: int | None, target: int, rounding: str) -> int:
    """An integer at a larger exponent."""
    if exponent is None:
        assert mantissa == 0
        return 0
    assert exponent <= target
    return ROUNDINGS[rounding](mantissa * power(exponent - target))


def kept(mantissa: int, block_format: Any) -> int:
    """A mantissa that fits its format."""
    low, high = definition.smallest_mantissa(block_format), definition.largest_mantissa(block_format)
    if not low <= mantissa <= high:
        raise Overflow
    return mantissa


Written = tuple[list[Any], list[Any]]
"""Nested lists: mantissas, and exponents on the block grid."""


def written(x: Numbers, elem: Any) -> Written:
    """Numbers as a value of a type: each block at the largest exponent of its numbers."""
    return combined(
        elem, x.mantissas.shape, lambda at: x.exponents[at],
        lambda at, meeting: meeting(x.mantissas[at], x.exponents[at]),
    )


Meeting = Callable[[int, "int | None"], int]
"""Brings an integer from its exponent to that of the block."""


def combined(
    elem: Any, shape: tuple[int, ...], exponents_of: Callable[[Any], Any],
    result_of: Callable[[Any, Meeting], int], lowered: int = 0,
) -> Written:
    """Results of which each block has the largest exponent of what goes into it.

    Args:
        elem: the element type of the result.
        shape: its shape.
        exponents_of: exponents of what one result is made of: a number, None, or an array of them.
        result_of: one result, from a function that brings integers to the exponent of the block.
        lowered: binary places that results have below that exponent.
    """
    mantissas = np.zeros(shape, object)
    grid = tuple(-(-s // b) for s, b in zip(shape, elem.blocks, strict=True))
    exponents = np.zeros(grid, object)
    low, high = elem.format.exponent_range
    for place, part in definition.slices(shape, elem.blocks):
        inside = [
            tuple(s.indices(n)[0] + i for s, n, i in zip(part, shape, index, strict=True))
            for index in np.ndindex(mantissas[part].shape)
        ]
        found = largest_exponent(e for at in inside for e in np.asarray(exponents_of(at), object).reshape(-1))
        target = low if found is None else found

        def meeting(m: int, e: int | None, target: int = target) -> int:
            return meet(m, e, target, elem.format.rounding)

        for at in inside:
            mantissas[at] = kept(result_of(at, meeting), elem.format)
        below = target - lowered
        if found is None or below < low:
            assert not any(mantissas[at] for at in inside), "a number below the smallest exponent"
            below = low
        if below > high:
            raise Overflow
        exponents[place] = below
    return mantissas.tolist(), exponents.tolist()


# Element-wise ops


def broadcast(*operands: Numbers) -> list[Numbers]:
    shape = np.broadcast_shapes(*(x.mantissas.shape for x in operands))
    return [moved(lambda a: np.broadcast_to(a, shape), x) for x in operands]


def aligned(function: Callable[[int, int], int], a: Numbers, b: Numbers, elem: Any) -> Written:
    """A function of two values at the largest exponent of what meets in the result's block."""
    a, b = broadcast(a, b)
    return combined(
        elem, a.mantissas.shape, lambda at: [a.exponents[at], b.exponents[at]],
        lambda at, meeting: function(
            meeting(a.mantissas[at], a.exponents[at]), meeting(b.mantissas[at], b.exponents[at])
        ),
    )


def product(a: Numbers, b: Numbers) -> Numbers:
    """Exact products at the sums of the exponents."""
    a, b = broadcast(a, b)
    return Numbers(a.mantissas * b.mantissas, a.exponents + b.exponents)


def limited(x: Numbers, bounds: tuple[Any, Any], block_format: Any) -> Objects:
    """Mantissas limited to those that the bounds, fractions or None, have at the exponent of the block."""
    result = x.mantissas.copy()
    for at in np.ndindex(result.shape):
        for bound, choose in zip(bounds, (max, min), strict=True):
            if bound is not None:
                own = definition.mantissa_of(bound, int(x.exponents[at]), block_format)
                result[at] = choose(result[at], own)
        result[at] = min(max(result[at], definition.smallest_mantissa(block_format)),
                         definition.largest_mantissa(block_format))
    return result


# Windows and reductions: a list of positions for each result


Windows = Objects
"""For each result a list of indices into the operand."""


def pool_windows(shape: tuple[int, ...], op: Any, result: tuple[int, ...]) -> Windows:
    """Indices ``(n, y, x, c)`` of channels-last windows, those inside of the operand."""
    found = np.empty(result, object)
    for n, oy, ox, c in np.ndindex(result):
        rows = [oy * op.strides[0] - op.pads[0] + i * op.dilations[0] for i in range(op.kernel[0])]
        columns = [ox * op.strides[1] - op.pads[1] + j * op.dilations[1] for j in range(op.kernel[1])]
        found[n, oy, ox, c] = [
            (n, y, x, c) for y in rows for x in columns if 0 <= y < shape[1] and 0 <= x < shape[2]
        ]
    return found


def reduction_windows(shape: tuple[int, ...], axes: tuple[int, ...], keepdims: bool) -> Windows:
    """Indices of what is reduced to each result."""
    kept_shape = tuple(1 if i in axes else s for i, s in enumerate(shape))
    found = np.empty(kept_shape, object)
    for at in np.ndindex(kept_shape):
        found[at] = []
    for index in np.ndindex(shape):
        found[tuple(0 if i in axes else p for i, p in enumerate(index))].append(index)
    return found if keepdims else found.reshape([s for i, s in enumerate(shape) if i not in axes])


def reduced(function: Callable[[list[int]], int], x: Numbers, windows: Windows, elem: Any) -> Written:
    """A function of windows whose values meet at the largest exponent of the result's block."""
    return combined(
        elem, windows.shape, lambda at: [x.exponents[i] for i in windows[at]],
        lambda at, meeting: function([meeting(x.mantissas[i], x.exponents[i]) for i in windows[at]]),
    )


def averaged(x: Numbers, windows: Windows, bits: int, elem: Any) -> Written:
    """Sums times the reciprocal of the count, whose bits follow from the smallest count of all windows."""
    smallest = min(len(w) for w in windows.reshape(-1))
    # What is rounded to the reciprocal of the smallest count, 2**places / count, has ``bits`` bits, its sign included.
    places = next(p for p in range(200) if (2**p // smallest).bit_length() == bits - 1)
    return combined(
        elem, windows.shape, lambda at: [x.exponents[i] for i in windows[at]],
        lambda at, meeting: sum(meeting(x.mantissas[i], x.exponents[i]) for i in windows[at])
        * half_even(power(places) / len(windows[at])),
        lowered=places,
    )
