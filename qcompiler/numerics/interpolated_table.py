"""Tables of 513 entries with linear interpolation: functions of one 16-bit quantized value.

Source: LiteRT ``kernels/internal/common.h`` (``LUTPopulateInt16``, ``LUTLookup``); TOSA 1.1 ``TABLE`` looks up alike.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcompiler.numerics.affine import Quantization
from qcompiler.numerics.rounding import Int64, round_half_away

STEPS = 512
"""Intervals between neighbouring entries."""
INTERPOLATED_ENTRIES = STEPS + 1
OPERAND_BITS = 16
OFFSET_BITS = 7
"""Bits of an operand within an interval."""
LARGEST_SLOPE = (1 << 15) - 1
"""Neighbouring entries differ by a 16-bit number at most."""


def interpolate(entries: NDArray[Any], offset: Int64) -> Int64:
    """``base + ((slope * fraction + 64) >> 7)`` between neighbouring entries.

    Args:
        entries: ``[513]``, neighbours at most ``LARGEST_SLOPE`` apart.
        offset: operands less the smallest stored integer, within [0, 65535].

    Returns:
        int64 in the shape of ``offset``; each between the two entries around it.
    """
    wide = entries.astype(np.int64)
    index = offset >> OFFSET_BITS
    slope = np.diff(wide)[index]
    fraction = offset & ((1 << OFFSET_BITS) - 1)
    result: Int64 = wide[index] + ((slope * fraction + (1 << (OFFSET_BITS - 1))) >> OFFSET_BITS)
    return result


def tabulate_interpolated(
    function: Callable[[NDArray[np.float64]], NDArray[Any]],
    source: Quantization,
    output: Quantization,
    storage_min: int,
    result_min: int,
    result_max: int,
) -> Int64:
    """The 513 entries of a function of a 16-bit value.

    They stand for arguments that divide the range from the smallest to the largest stored input evenly. That range is
    65,535 steps long, while 512 intervals of 128 steps are looked up: an entry's argument lies up to one step below
    that of its stored input. Computed in float32 as LiteRT does it, where results of n bits have
    ``(2**n - 1) / 2**n`` of their scale. An entry is the function's value less half of the error that interpolation
    makes in the middle of the interval behind it, each rounded half away from zero. The last entry is the value at
    the largest stored input. Poles and values outside the function's domain take the nearest bound: NaN becomes the
    zero point. Entries more than ``LARGEST_SLOPE`` from the one before are brought that near to it.

    Args:
        function: of float64 numbers that float32 holds; vectorized. For an op, its ``tabulated``.
        source, output: per-tensor parameters.
        storage_min: smallest stored input.
        result_min, result_max: smallest and largest stored result.

    Returns:
        int64 ``[513]`` within the bounds of ``output``.
    """
    last = (1 << OPERAND_BITS) - 1
    first, largest = (
        np.float32(source.scale * np.float32(storage_min + i - int(source.zero_point))) for i in (0, last)
    )
    low, high = (np.float32(output.scale * np.float32(q - int(output.zero_point))) for q in (result_min, result_max))
    steps_per_unit = np.float32(result_max - result_min + 1) / (high - low)
    entries = interpolated_entries(function, first, largest, steps_per_unit)
    return _with_small_slopes(output.clamp(entries + output.zero_point))


def interpolated_entries(
    function: Callable[[NDArray[np.float64]], NDArray[Any]],
    first: np.floating[Any],
    last: np.floating[Any],
    steps_per_unit: np.floating[Any],
) -> Int64:
    """Entries before zero point and bounds are applied, computed in the format of the arguments.

    Args:
        function: as for :func:`tabulate_interpolated`.
        first, last: real arguments at the smallest and the largest stored input; float32 or float64.
        steps_per_unit: integers that a real result of 1 spans, in the same format.
    """
    dtype = first.dtype
    step = (last - first) / dtype.type(STEPS)
    position = np.arange(INTERPOLATED_ENTRIES).astype(dtype)
    start = (first + position * step).astype(dtype)
    middle = (start + step / dtype.type(2)).astype(dtype)
    start[-1] = last

    def scaled(x: NDArray[Any]) -> NDArray[Any]:
        with np.errstate(all="ignore"):
            value = np.asarray(function(x.astype(np.float64))).astype(dtype) * steps_per_unit
        defined: NDArray[Any] = np.where(np.isnan(value), 0, value)
        bounded: NDArray[Any] = np.clip(defined, -(2.0**40), 2.0**40).astype(dtype)
        return bounded

    with np.errstate(all="ignore"):
        values = scaled(start)
        # LiteRT's last step ends at first + 512 * step, which may differ from the last entry's argument.
        following = scaled((first + (position[:-1] + dtype.type(1)) * step).astype(dtype))
        sample = round_half_away(values)
        between = round_half_away((following + sample[:-1]) / dtype.type(2))
        error = between - round_half_away(scaled(middle[:-1]))
        entries = sample
        entries[:-1] = sample[:-1] - round_half_away(error / dtype.type(2))
    return entries.astype(np.int64)


def _with_small_slopes(entries: Int64) -> Int64:
    """Entries whose neighbours lie at most ``LARGEST_SLOPE`` apart."""
    if np.abs(np.diff(entries)).max() <= LARGEST_SLOPE:
        return entries
    bounded = entries.copy()
    for i in range(1, len(bounded)):
        bounded[i] = np.clip(bounded[i], bounded[i - 1] - LARGEST_SLOPE, bounded[i - 1] + LARGEST_SLOPE)
    return bounded
