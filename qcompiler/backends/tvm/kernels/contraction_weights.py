"""Constants of convolutions as their kernels take them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.kernels.contraction import Convolution
from qcompiler.backends.tvm.kernels.contraction_panel import offset_of

Array = NDArray[Any]


def pack_constants(
    kernel: Convolution, isa: InstructionSet, weights: Array, bias: Array, zero_point: int
) -> dict[str, Array]:
    """The constants of a convolution, but for those of its epilogue, by the name of the argument.

    Args:
        kernel: the convolution.
        isa: the instruction set.
        weights: ``[outputs, kernel height, kernel width, channels / groups]``, zero point 0; int8, or int16 where the
            instruction set takes it.
        bias: int32 ``[outputs]``.
        zero_point: of the input, in its stored format.
    """
    packed = {"weights": pack_weights(kernel, isa, weights), "bias": pack_bias(kernel, isa, weights, bias, zero_point)}
    if kernel.assembles(isa):
        value = zero_point + offset_of(kernel.activation, isa.activation)
        packed["padding"] = np.array([value], isa.activation)
    return packed


def pack_weights(kernel: Convolution, isa: InstructionSet, weights: Array) -> Array:
    """``[group, block][window row, run, k][vector, lane, g]``: what a tile reads, in the order in which it does.

    Runs are filled up with zeros to whole dot products, output channels to whole vectors.
    """
    groups, blocks = kernel.groups, kernel.blocks(isa)
    steps = kernel.padded_run(isa) // isa.group
    shape = (groups, kernel.outputs // groups, kernel.window_rows, kernel.runs, kernel.run)
    lanes = blocks.vectors * isa.lanes
    padded = np.zeros((groups, lanes, *shape[2:4], steps * isa.group), isa.weight)
    padded[:, : shape[1], ..., : kernel.run] = weights.reshape(shape)
    split = padded.reshape(groups, blocks.vectors, isa.lanes, *shape[2:4], steps, isa.group)
    parts = []
    for group in range(groups):
        first = 0
        for block in range(blocks.count):
            size = blocks.smaller + (block < blocks.larger_count)
            parts.append(split[group, first : first + size].transpose(2, 3, 4, 0, 1, 5).reshape(-1))
            first += size
    return np.concatenate(parts)


def pack_bias(kernel: Convolution, isa: InstructionSet, weights: Array, bias: Array, zero_point: int) -> Array:
    """The bias less what the zero point contributes, so that accumulators need no correction.

    Products of the stored activations are summed up, moved by what their conversion adds. Sums may wrap around within,
    and come out right as long as the accumulator itself fits into int32.
    """
    converted = offset_of(kernel.activation, isa.activation) if kernel.assembles(isa) else 0
    sums = weights.astype(np.int64).reshape(kernel.outputs, -1).sum(axis=1)
    folded = bias.astype(np.int64) - (zero_point + converted) * sums
    return pack_channels(kernel, isa, folded.astype(np.int32))


def pack_channels(kernel: Convolution, isa: InstructionSet, numbers: Array) -> Array:
    """Numbers by output channel, each group filled up to whole vectors with its last number."""
    by_group = numbers.reshape(kernel.groups, -1)
    missing = kernel.packed_outputs(isa) // kernel.groups - by_group.shape[1]
    return np.pad(by_group, ((0, 0), (0, missing)), mode="edge").reshape(-1)
