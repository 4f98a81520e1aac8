"""Tables: a function of one quantized value, evaluated for each of its possible integers.

Source: LiteRT ``kernels/internal/common.h``, ``LUTPopulate``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcompiler.numerics.affine import Quantization
from qcompiler.numerics.rounding import round_half_away


def tabulate(
    function: Callable[[NDArray[np.float64]], NDArray[Any]],
    source: Quantization,
    output: Quantization,
    storage_min: int,
    storage_max: int,
) -> NDArray[np.int64]:
    """The stored result for every stored input from ``storage_min`` to ``storage_max``.

    The argument ``scale * (q - zero_point)`` is a float32 product, the function's value is rounded to float32,
    multiplied by the float32 reciprocal of the output scale and rounded half away from zero. Poles and values
    outside the function's domain take the nearest bound: NaN becomes the zero point.

    Args:
        function: of float64 numbers that float32 holds; vectorized. For an op, its ``tabulated``.
        source, output: per-tensor parameters.
        storage_min, storage_max: smallest and largest stored input.

    Returns:
        int64 of ``storage_max - storage_min + 1`` entries, in order of the stored input.
    """
    stored = np.arange(storage_min, storage_max + 1)
    argument = (source.scale * (stored - source.zero_point).astype(np.float32)).astype(np.float32)
    with np.errstate(all="ignore"):
        value = function(argument.astype(np.float64)).astype(np.float32)
        inverse = np.float32(1) / output.scale
        rounded = round_half_away((value * inverse).astype(np.float32))
    bounded = np.clip(np.nan_to_num(rounded, nan=0.0), -(2.0**40), 2.0**40)
    return output.clamp(bounded.astype(np.int64) + output.zero_point)
