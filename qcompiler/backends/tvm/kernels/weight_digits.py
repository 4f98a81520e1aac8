"""Weights of 16 bits as digits that are small enough for sums of products in int32.

A weight is ``sum over d of digit[d] * 2**(base_bits * d)``. All digits but the highest are balanced: they lie within
``[-2**(base_bits - 1), 2**(base_bits - 1) - 1]``, half as far from zero as digits that are never negative. The highest
one is what remains.

Activations x of 16 bits have ``abs(x) <= 2**15``. Any sum over some of an output's terms is therefore at most
``2**15 * sum(abs(digit))`` from zero, and that is below ``2**31`` where ``sum(abs(digit)) < 2**16``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcompiler.errors import QCompilerError

LARGEST_DIGIT_SUM = (1 << 16) - 1
"""What the magnitudes of one output's digits of one place may add up to."""

_WEIGHT_BITS = 16


def split_into_digits(weights: NDArray[np.int16]) -> tuple[int, NDArray[np.int16]]:
    """As few digits as keep sums of products with int16 within int32, whatever the activations are.

    Two digits do for up to 511 terms, and for more where weights are not all large.

    Args:
        weights: int16 ``[N, ...]``; what follows the first axis is summed up.

    Returns:
        ``base_bits``, 1 to 16, and digits, int16 ``[D, N, ...]``, the lowest first: the weights are
        ``sum over d of digits[d] * 2**(base_bits * d)``, and ``abs(digits).sum()`` over the terms is at most
        ``LARGEST_DIGIT_SUM`` for each ``d`` and ``n``.

    Raises:
        QCompilerError: an output has so many terms that not even digits of one bit do.
    """
    for count in range(1, _WEIGHT_BITS + 1):
        # Digits of equal size first: they leave most room, and layers that share a base share code.
        even = _WEIGHT_BITS // count
        for base_bits in sorted(range(1, _WEIGHT_BITS + 1), key=lambda bits: abs(bits - even)):
            digits = _split(weights, base_bits, count)
            if digits is not None:
                return base_bits, digits
            if count == 1:
                break
    raise QCompilerError(
        "too many terms for sums of products of 16-bit numbers in int32",
        expected=f"fewer than {LARGEST_DIGIT_SUM + 1} non-zero weights for each output",
        found=f"up to {int(np.count_nonzero(weights.reshape(len(weights), -1), axis=1).max())}",
        fix="sum up in int64",
    )


def _split(weights: NDArray[np.int16], base_bits: int, count: int) -> NDArray[np.int16] | None:
    """Digits to this base; None where sums of products may leave int32."""
    half, rest = 1 << (base_bits - 1), weights.astype(np.int32)
    digits: list[NDArray[Any]] = []
    for _ in range(count - 1):
        digit = ((rest + half) & (2 * half - 1)) - half
        if not _is_summable(digit):
            return None
        digits.append(digit)
        rest = (rest - digit) >> base_bits
    return np.stack([*digits, rest]).astype(np.int16) if _is_summable(rest) else None


def _is_summable(digit: NDArray[Any]) -> bool:
    sums = np.abs(digit).reshape(len(digit), -1).sum(axis=1, dtype=np.int64)
    return bool((sums <= LARGEST_DIGIT_SUM).all())
