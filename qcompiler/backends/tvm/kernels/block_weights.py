"""Constants of block floating-point convolutions as their kernels take them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.kernels.block_convolution import BlockConvolution
from qcompiler.backends.tvm.kernels.block_panel import has_offset
from qcompiler.backends.tvm.kernels.contraction_panel import offset_of

Array = NDArray[Any]


def pack_weights(kernel: BlockConvolution, isa: InstructionSet, weights: Array) -> Array:
    """``[group, block of outputs][tap, block of terms, step][vector, lane, g]``: what a tile reads, in order.

    Blocks are filled up with zeros to whole dot products, output channels to whole vectors.

    Args:
        kernel: the convolution.
        isa: the instruction set.
        weights: int8 ``[O, KH, KW, C / groups]``.
    """
    taps = weights.reshape(kernel.outputs, kernel.taps, kernel.group_channels)
    parts = []
    for start in range(0, kernel.group_channels, kernel.length):
        block = taps[..., start : start + kernel.length]
        missing = -block.shape[-1] % isa.group
        parts.append(np.pad(block, ((0, 0), (0, 0), (0, missing))).reshape(kernel.outputs, kernel.taps, -1, isa.group))
    return _by_tile(kernel, isa, np.concatenate(parts, axis=2).astype(isa.weight))


def pack_corrections(kernel: BlockConvolution, isa: InstructionSet, weights: Array) -> Array:
    """What the dot product of each pair of blocks starts with: int32, as :func:`pack_block_constants` has it.

    It takes back what the offset of unsigned activations adds. Only for sets of instructions that ``has_offset``
    is true of.
    """
    taps = weights.astype(np.int32).reshape(kernel.outputs, kernel.taps, kernel.group_channels)
    starts = np.arange(0, kernel.group_channels, kernel.length)
    sums = np.add.reduceat(taps, starts, axis=2, dtype=np.int32)
    return pack_block_constants(kernel, isa, sums * np.int32(-offset_of("int8", isa.activation)))


def pack_block_constants(kernel: BlockConvolution, isa: InstructionSet, numbers: Array) -> Array:
    """``[group, block of outputs][tap, block of terms][vector, lane]``, of a number for each block of weights.

    Args:
        kernel: the convolution.
        isa: the instruction set.
        numbers: ``[O, KH, KW, ceil(C / groups / length)]``, or the taps as one axis.
    """
    return _by_tile(kernel, isa, numbers.reshape(kernel.outputs, kernel.taps, kernel.tap_blocks, 1))


def pack_outputs(kernel: BlockConvolution, isa: InstructionSet, numbers: Array) -> Array:
    """Numbers by output channel, each group filled up to whole vectors with its last number."""
    by_group = numbers.reshape(kernel.groups, -1)
    missing = kernel.packed_outputs(isa) // kernel.groups - by_group.shape[1]
    return np.pad(by_group, ((0, 0), (0, missing)), mode="edge").reshape(-1)


def pack_mantissas(kernel: BlockConvolution, isa: InstructionSet, weights: Array) -> dict[str, Array]:
    """The constants that stem from mantissas, by the name of the argument."""
    packed = {"weights": pack_weights(kernel, isa, weights)}
    if has_offset(isa):
        packed["corrections"] = pack_corrections(kernel, isa, weights)
    return packed


def _by_tile(kernel: BlockConvolution, isa: InstructionSet, numbers: Array) -> Array:
    """``[O, tap, n, g]`` to ``[group, block of outputs][tap, n][vector, lane, g]``."""
    blocks, groups = kernel.blocks(isa), kernel.groups
    padded = np.zeros((groups, blocks.vectors * isa.lanes, *numbers.shape[1:]), numbers.dtype)
    padded[:, : kernel.group_outputs] = numbers.reshape(groups, kernel.group_outputs, *numbers.shape[1:])
    split = padded.reshape(groups, blocks.vectors, isa.lanes, *numbers.shape[1:])
    parts = []
    for group in range(groups):
        first = 0
        for block in range(blocks.count):
            size = blocks.smaller + (block < blocks.larger_count)
            parts.append(split[group, first : first + size].transpose(2, 3, 0, 1, 4).reshape(-1))
            first += size
    return np.concatenate(parts)
