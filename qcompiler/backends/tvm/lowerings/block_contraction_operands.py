"""Operands of contractions of block floating point as kernels take them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcompiler.backends.tvm.kernel_program import NoLowering, ProgramBuilder, View
from qcompiler.backends.tvm.kernels.gather import Gather
from qcompiler.backends.tvm.kernels.window_geometry import Pads, Pair
from qcompiler.backends.tvm.lowerings.block_exponents import grid_of
from qcompiler.ir import Node, Tensor, Value
from qcompiler.ir.dimension import static_shape
from qcompiler.numerics.block_conversion import spread
from qcompiler.ops.block_forms.contraction import reduction_blocks
from qcompiler.ops.block_values import block_float, blocks_of
from qcompiler.ops.constant import constant_tensor
from qcompiler.ops.contraction import Conv2DBase, ConvTranspose2D, Matmul

Array = NDArray[Any]


@dataclass(frozen=True)
class ConvolutionOperands:
    """A convolution with constant weights, or a matrix product as one of a single row of pixels.

    Attributes:
        x: operand 0.
        samples: how many; each is convolved by itself.
        input_size, output_size: height and width.
        channels, outputs: of input and output.
        strides, dilations: along height and width.
        pads: top, left, bottom, right.
        groups: divides channels and outputs.
        transposed: whether it is a transposed convolution.
        length: terms of a block, of one tap and group.
        weights: mantissas ``[O, KH, KW, C / groups]``.
        weight_exponents: of each weight, int64, of the same shape.
        bias: operand 2, where there is one.
    """

    x: Value
    samples: int
    input_size: Pair
    output_size: Pair
    channels: int
    outputs: int
    strides: Pair
    dilations: Pair
    pads: Pads
    groups: int
    transposed: bool
    length: int
    weights: Array
    weight_exponents: Array
    bias: Tensor | None

    @property
    def kernel(self) -> Pair:
        """Height and width."""
        return self.weights.shape[1], self.weights.shape[2]

    @property
    def block_starts(self) -> list[int]:
        """The channel of x that each block of terms of a tap begins with, group after group."""
        each = self.channels // self.groups
        return [group * each + start for group in range(self.groups) for start in range(0, each, self.length)]

    @property
    def pairs(self) -> int:
        """Pairs of blocks of a result."""
        return prod(self.kernel) * len(self.block_starts) // self.groups

    @property
    def block_exponents(self) -> Array:
        """Exponents of the weights' blocks, ``[O, KH, KW, blocks of a tap]``."""
        return self.weight_exponents[..., :: self.length]

    @property
    def largest_dot(self) -> int:
        """Bound on the magnitude of a dot product of a pair of blocks."""
        starts = np.arange(0, self.weights.shape[-1], self.length)
        sums = np.add.reduceat(np.abs(self.weights.astype(np.float64)), starts, axis=-1)
        return int(sums.max(initial=0.0)) * largest_magnitude(self.x)


def convolution_operands(root: Node) -> ConvolutionOperands | None:
    """The operands of a contraction; None where operand 1 is computed, or a matrix for each of several products.

    Raises:
        NoLowering: operand 1 of a convolution, or a bias, is computed.
    """
    op, (x, w) = root.op, root.operands[:2]
    bias = constant_bias(root)
    weights = constant_tensor(w)
    if isinstance(op, Conv2DBase) and weights is None:
        raise NoLowering("native code needs constant weights of a convolution", layer=root.layer)
    if weights is None or prod(weights.data.shape[: -2 if isinstance(op, Matmul) else 0]) != 1:
        return None
    length = block_length(root)
    mantissas = weights.data
    exponents = np.broadcast_to(spread(weights.block.exponents, mantissas.shape, blocks_of(w.type)), mantissas.shape)
    shape = static_shape(x.type.shape)
    if isinstance(op, Conv2DBase):
        samples, height, width, channels = shape
        _, *output_size, outputs = static_shape(root.result.type.shape)
        return ConvolutionOperands(
            x, samples, (height, width), (output_size[0], output_size[1]), channels, outputs, op.strides, op.dilations,
            op.pads, op.groups, isinstance(op, ConvTranspose2D), length, mantissas, exponents, bias,
        )
    assert isinstance(op, Matmul)
    row = (1, prod(shape[:-1]))
    mantissas, exponents = (
        np.ascontiguousarray(matrix if op.transpose_b else matrix.T)[:, None, None, :]
        for matrix in (a.reshape(a.shape[-2:]) for a in (mantissas, exponents))
    )
    same, none = (1, 1), (0, 0, 0, 0)
    return ConvolutionOperands(
        x, 1, row, row, shape[-1], len(mantissas), same, same, none, 1, False, length, mantissas, exponents, bias
    )


def block_length(root: Node) -> int:
    """Terms of a block of the reduction, at most those of a tap and group.

    Raises:
        NoLowering: there are no terms.
    """
    x, w = root.operands[:2]
    terms = int(static_shape(x.type.shape)[-1]) // getattr(root.op, "groups", 1)
    if not terms:
        raise NoLowering("native code sums up at least one product", layer=root.layer)
    return min(reduction_blocks(root.op, [x.type, w.type]), terms)


def constant_bias(root: Node) -> Tensor | None:
    """The bias of a contraction, where there is one.

    Raises:
        NoLowering: it is computed.
    """
    if len(root.operands) < 3:
        return None
    bias = constant_tensor(root.operands[2])
    if bias is None:
        raise NoLowering("native code needs a constant bias", layer=root.layer)
    return bias


def largest_magnitude(value: Value) -> int:
    """Of the mantissas of a block floating-point value."""
    block_format = block_float(value.type).format
    return max(block_format.largest, -block_format.smallest)


def exponents_from(
    value: Value, starts: Sequence[int], builder: ProgramBuilder, label: str, axis: int = -1
) -> View:
    """The exponents of a value, one for each index of all axes but one, and of that axis for each block.

    Args:
        value: block floating point.
        starts: the index along ``axis`` that each block begins with.
        builder: takes the call that spreads them, where the value's own grid is another one.
        label: the user's layers.
        axis: along which the blocks lie.
    """
    shape, grid, blocks = static_shape(value.type.shape), grid_of(value), blocks_of(value.type)
    indices = [np.arange(size) // block for size, block in zip(shape, blocks, strict=True)]
    indices[axis] = np.asarray(starts) // blocks[axis]
    if all(np.array_equal(index, np.arange(count)) for index, count in zip(indices, grid, strict=True)):
        return builder.exponents(value)
    counts = tuple(len(index) for index in indices)
    target = builder.temporary("int32", prod(counts))
    views = {f"index_{i}": builder.constant(index.astype(np.int32)) for i, index in enumerate(indices)}
    views |= {"x": builder.exponents(value), "y": target}
    builder.call_by_name(Gather("int32", 1, grid, counts, 1), views, label)
    return target
