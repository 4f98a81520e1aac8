"""Constants of float32 accumulators of block floating point, and which weights these accumulators can take."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.kernel_program import NoLowering
from qcompiler.backends.tvm.kernels.block_float_convolution import FloatBlockConvolution
from qcompiler.backends.tvm.kernels.block_weights import pack_block_constants, pack_mantissas, pack_outputs

Array = NDArray[Any]

_LARGEST_MANTISSA = 128
_EXACT_INTEGERS = 1 << 24
_SMALLEST_NORMAL, _LARGEST = -126, 127
SMALLEST_DENORMAL = -149
"""Exponent of the smallest float32 above zero."""


def pack_float_constants(
    kernel: FloatBlockConvolution, isa: InstructionSet, weights: Array, exponents: Array, bias: Array | None
) -> dict[str, Array]:
    """The constants of a convolution but for its limits, by the name of the argument.

    Args:
        kernel: the convolution.
        isa: the instruction set.
        weights: int8 mantissas ``[O, KH, KW, C / groups]``.
        exponents: ``[O, KH, KW, ceil(C / groups / length)]``.
        bias: float32 ``[O]``, or None.

    Raises:
        NoLowering: a block of weights is too large, or its exponent too small or too large.
    """
    is_zero, largest = _block_facts(kernel, weights)
    wide = largest.max(initial=0)
    if wide > _EXACT_INTEGERS:
        raise NoLowering(
            "native code sums up blocks of mantissas in float32 only if their dot products are exact",
            expected=f"dot products up to {_EXACT_INTEGERS}", found=f"up to {wide}", fix="use shorter blocks",
        )
    used = exponents.reshape(is_zero.shape)[~is_zero]
    highest = _LARGEST - int(wide).bit_length()
    if used.size and (used.min() < _SMALLEST_NORMAL or used.max() > highest):
        raise NoLowering(
            "native code scales blocks of weights by normal float32 numbers",
            expected=f"exponents from {_SMALLEST_NORMAL} to {highest}", found=f"{used.min()} to {used.max()}",
        )
    # Blocks of zeros may have any exponent: their dots are zero whatever the scale.
    scales = np.where(is_zero, np.float32(1), _powers(exponents.reshape(is_zero.shape)))
    found = np.full(kernel.outputs, -0.0, np.float32) if bias is None else bias.astype(np.float32)
    return {
        **pack_mantissas(kernel, isa, weights), "weight_scales": pack_block_constants(kernel, isa, scales),
        "bias": pack_outputs(kernel, isa, found),
    }


def dots_are_exact(weights: Array, exponents: Array, length: int, lowest: int) -> bool:
    """Whether all dots with their exponents are float32 numbers, but for those beyond its range.

    Args:
        weights: int8 mantissas ``[..., channels]``.
        exponents: of their blocks, ``[..., ceil(channels / length)]``.
        length: terms of a block.
        lowest: the smallest exponent that activations can have.
    """
    largest = np.add.reduceat(np.abs(weights.astype(np.int64)), np.arange(0, weights.shape[-1], length), axis=-1)
    if largest.max(initial=0) * _LARGEST_MANTISSA > _EXACT_INTEGERS:
        return False
    used = exponents[largest > 0]
    return not used.size or bool(used.min() + lowest >= SMALLEST_DENORMAL)


def _block_facts(kernel: FloatBlockConvolution, weights: Array) -> tuple[Array, Array]:
    """Which blocks hold zeros only, and the largest dot product of each: ``[O, tap, block]``."""
    taps = np.abs(weights.astype(np.int64)).reshape(kernel.outputs, kernel.taps, kernel.group_channels)
    sums = np.add.reduceat(taps, np.arange(0, kernel.group_channels, kernel.length), axis=2)
    return sums == 0, sums * _LARGEST_MANTISSA


def _powers(exponents: Array) -> Array:
    with np.errstate(over="ignore", under="ignore"):
        return np.ldexp(np.float32(1), exponents.astype(np.int32)).astype(np.float32)
