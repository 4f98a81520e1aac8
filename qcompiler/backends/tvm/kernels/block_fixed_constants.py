"""Constants of fixed-point accumulators of block floating point."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.kernels.block_fixed_convolution import NO_LIMIT, FixedBlockConvolution
from qcompiler.backends.tvm.kernels.block_weights import pack_block_constants, pack_mantissas, pack_outputs

Array = NDArray[Any]


def bias_bits(bias: Array | None) -> int:
    """The field ``bias_bits`` of the kernels that can add this int32 bias."""
    largest = 0 if bias is None else int(np.abs(bias.astype(np.int64)).max(initial=0))
    # Steps at which code changes: what float32 holds, what 32-bit shifts take, any.
    return next(bits for bits in (0, 24, 28, 31) if largest <= (1 << bits if bits else 0))


def pack_fixed_constants(
    kernel: FixedBlockConvolution, isa: InstructionSet, weights: Array, exponents: Array, bias: Array | None,
    bias_exponent: int = 0,
) -> dict[str, Array]:
    """The constants of a convolution by the name of the argument.

    Args:
        kernel: the convolution.
        isa: the instruction set.
        weights: int8 mantissas ``[O, KH, KW, C / groups]``.
        exponents: ``[O, KH, KW, ceil(C / groups / length)]``.
        bias: int32 ``[O]``, or None.
        bias_exponent: of all of the bias; no result has a smaller one.
    """
    limit = NO_LIMIT if bias is None else bias_exponent
    found = np.zeros(kernel.outputs, np.int32) if bias is None else bias.astype(np.int32)
    return {
        **pack_mantissas(kernel, isa, weights),
        "weight_exponents": pack_block_constants(kernel, isa, exponents.astype(np.int32)),
        "lowest": np.full(kernel.packed_outputs(isa), limit, np.int32),
        "bias": pack_outputs(kernel, isa, found),
        "bias_exponent": np.array([bias_exponent], np.int32),
    }
