"""Convolutions and matrix products of block floating point.

The reduction of a convolution runs over the taps of the kernel, row by row, and for each tap over the blocks of
channels: a dot reaches no further than a tap. A transposed convolution has the order of the convolution that it
equals, whose kernel is turned round. A tap outside of the operand has a dot of zero and no exponent.

A fixed-point sum where each sample of operand 0 has one exponent, and the whole of operand 1, is a single dot at the
sum of the two.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from qcompiler.errors import QCompilerError
from qcompiler.ir.op import Array, BlockForm, Stored, Tensor, block_form, require
from qcompiler.ir.scalar import F32
from qcompiler.ir.types import Elem, TensorType
from qcompiler.numerics.block_accumulator import FixedPointAccumulator
from qcompiler.numerics.block_alignment import NO_EXPONENT
from qcompiler.numerics.block_arithmetic import FixedPointSum, Float32Sum
from qcompiler.numerics.block_contraction import BlockOperand, contract, contract_float32
from qcompiler.numerics.block_conversion import spread
from qcompiler.numerics.block_shift import move
from qcompiler.ops.block_values import aligned_blocks, block_float, blocks_of, mantissas_and_exponents
from qcompiler.ops.contraction import Conv2DBase
from qcompiler.ops.convolution_kernel import windows
from qcompiler.ops.quantized import resolve

_PATCH_ELEMENTS = 1 << 22
"""Patches of as many samples as have this many elements are multiplied at a time."""


@block_form("conv2d", "conv_transpose2d", "matmul")
class BlockContraction(BlockForm):
    """Dots of pairs of blocks are exact; the cited arithmetic says how they are added."""

    def infer_elems(self, op: Any, operands: Sequence[TensorType]) -> tuple[Elem | None, ...]:
        for operand in operands[:2]:
            block_float(operand)
        rule = resolve(op, op.arithmetic)
        require(isinstance(rule, FixedPointSum | Float32Sum), f"{op.arithmetic} is no sum of block floating point")
        if isinstance(op, Conv2DBase):
            require(op.layout == "NHWC", "block floating point is laid out channels-last")
        reduction_blocks(op, operands)
        return (F32,) if isinstance(rule, Float32Sum) else (None,)

    def verify(self, op: Any, operands: Sequence[TensorType], results: Sequence[TensorType]) -> None:
        require(not op.parts, "parts are for integers with scale and zero point")
        if isinstance(resolve(op, op.arithmetic), Float32Sum):
            require(len(operands) < 3 or operands[2].elem == F32, "a float32 sum takes a float32 bias")
            return
        require(block_float(results[0]).exponents is None, "sums find their exponents at run time")
        if len(operands) == 3:
            require(math.prod(_counts(operands[2])) == 1, "a bias has one exponent")

    def evaluate(self, op: Any, operands: Sequence[Tensor], results: Sequence[TensorType]) -> tuple[Stored, ...]:
        rule = resolve(op, op.arithmetic)
        bias = operands[2] if len(operands) == 3 else None
        if isinstance(rule, Float32Sum):
            total = _by_samples(op, operands, lambda x, w, length: (contract_float32(x, w, length, rule.order),))[0]
            if bias is not None:
                total = total + bias.data
            if not np.isfinite(total).all():
                raise QCompilerError("a sum of products is beyond the range of float32")
            return (total,)
        block_format = block_float(results[0]).format
        accumulator = rule.accumulator(block_format.mantissa, block_format.rounding)
        at_least = None if bias is None else np.asarray(bias.block.exponents.reshape(()), np.int64)
        if _is_whole(operands):
            sums, exponents = _whole_sums(op, operands, accumulator, at_least)
        else:
            def sum_up(x: BlockOperand, w: BlockOperand, length: int) -> tuple[Array, Array]:
                totals, at = contract(x, w, length, accumulator, at_least)
                return totals, np.broadcast_to(at, totals.shape)

            sums, exponents = _by_samples(op, operands, sum_up)
        if bias is not None:
            sums = accumulator.add(sums, accumulator.align(bias.data, bias.block.exponents.reshape(()), exponents))
        return (aligned_blocks(sums, exponents, results[0]),)


def reduction_blocks(op: Any, operands: Sequence[TensorType]) -> int:
    """Terms in a block of the reduction, within a tap; the operands' blocks must line up along it.

    Raises:
        OpTypeError: they do not.
    """
    x, w = operands[:2]
    x_axis, w_axis = x.rank - 1, _reduced_axis(op, w.rank)
    terms = w.shape[w_axis]
    x_block, w_block = (block_float(t).blocks[axis] for t, axis in ((x, x_axis), (w, w_axis)))
    length = x_block if isinstance(x_block, int) else 0
    groups = getattr(op, "groups", 1)
    if groups > 1 and isinstance(terms, int):
        # A block of channels may span groups, of which each sees its own part.
        length = math.gcd(length, terms)
    covers = isinstance(terms, int) and isinstance(w_block, int) and w_block >= terms and length >= terms
    require(
        covers or length == w_block,
        f"blocks along the reduction must line up: operand 0 has {length} terms, operand 1 has {w_block}",
    )
    return length


def _reduced_axis(op: Any, rank: int) -> int:
    return rank - 2 if op.name == "matmul" and not op.transpose_b else rank - 1


def _counts(type: TensorType) -> tuple[int, ...]:
    """Blocks along each dimension of a type without free dimensions."""
    return tuple(-(-int(d) // b) for d, b in zip(type.shape, blocks_of(type), strict=True))  # type: ignore[arg-type]


def _is_whole(operands: Sequence[Tensor]) -> bool:
    """Whether each sample of operand 0 and the whole operand 1 have one exponent."""
    x, w = (t.block.exponents for t in operands[:2])
    return math.prod(x.shape[1:]) == 1 and w.size == 1


def _whole_sums(
    op: Any, operands: Sequence[Tensor], accumulator: FixedPointAccumulator, at_least: Array | None
) -> tuple[Array, Array]:
    """Sums of products at one exponent a sample."""
    x, w = operands[:2]
    total = np.asarray(op.contract(x.data, w.data)).astype(np.int64)
    of_x = mantissas_and_exponents(x)[1]
    exponents = of_x.reshape((1,) * (total.ndim - of_x.ndim) + of_x.shape) + int(w.block.exponents.max())
    target = exponents - accumulator.fraction
    if at_least is not None:
        target = np.maximum(target, at_least)
    return accumulator.store(move(total, exponents, target, accumulator.rounding)), target


def _by_samples(op: Any, operands: Sequence[Tensor], sum_up: Any) -> tuple[Array, ...]:
    """Sums of products, some samples at a time: what ``sum_up`` gives for matrices of patches."""
    x, w = operands[:2]
    length = reduction_blocks(op, [x.type, w.type])
    weights = BlockOperand(*weight_columns(op, w, length))
    if not isinstance(op, Conv2DBase):
        return tuple(sum_up(BlockOperand(x.data, _along(x, x.type.rank - 1, length)), weights, length))
    padded, kernel, strides = op.as_convolution(x.data, w.data, 0)
    padded_exponents = op.as_convolution(_along(x, 3, length), w.data, NO_EXPONENT)[0]
    rows = windows(padded[:1, :, :, :1], kernel.shape[1:3], strides, op.dilations).shape[1:3]
    step = max(_PATCH_ELEMENTS // max(math.prod(rows) * weights.mantissas.shape[-2] * op.groups, 1), 1)
    parts = []
    for start in range(0, max(len(padded), 1), step):
        cut = slice(start, start + step)
        patches = _patches(op, padded[cut], padded_exponents[cut], kernel.shape, strides, length)
        sums = sum_up(patches, weights, length)
        parts.append([_images(s, len(padded[cut]), *rows) for s in sums])
    return tuple(np.concatenate(arrays) for arrays in zip(*parts, strict=True))


def _along(tensor: Tensor, axis: int, length: int) -> Array:
    """Exponents of the blocks of ``length`` along one axis, and of each value along the others."""
    shape, blocks = tensor.data.shape, list(blocks_of(tensor.type))
    each = np.broadcast_to(spread(tensor.block.exponents, shape, blocks), shape)
    index = [slice(None)] * len(shape)
    index[axis] = slice(None, None, length)
    return np.asarray(each[tuple(index)])


def _patches(
    op: Any, x: Array, exponents: Array, kernel: tuple[int, ...], strides: tuple[int, int], length: int
) -> BlockOperand:
    """All windows as rows of a matrix for each group, tap after tap; taps filled up to whole blocks."""
    def rows(array: Array, fill_to: int, fill: int) -> Array:
        view = windows(array, (kernel[1], kernel[2]), strides, op.dilations)
        n, height, width, channels, kh, kw = view.shape
        each = channels // op.groups
        taps = view.reshape(n * height * width, op.groups, each, kh * kw).transpose(1, 0, 3, 2)
        filled = np.pad(taps, ((0, 0), (0, 0), (0, 0), (0, fill_to - each)), constant_values=fill)
        return filled.reshape(op.groups, n * height * width, kh * kw * fill_to)

    each = kernel[3]
    blocks = -(-each // length)
    return BlockOperand(rows(x, blocks * length, 0), rows(exponents, blocks, NO_EXPONENT))


def weight_columns(op: Any, w: Tensor, length: int) -> tuple[Array, Array]:
    """Weights as matrices with a column for each output channel, of which a convolution has one for each group.

    Args:
        op: the contraction.
        w: its operand 1.
        length: terms in a block of the reduction.

    Returns:
        Mantissas ``[..., K, N]``, taps of a convolution filled up to whole blocks, and exponents ``[..., B, N]``.
    """
    axis = _reduced_axis(op, w.type.rank)
    exponents = _along(w, axis, length)
    if not isinstance(op, Conv2DBase):
        return (w.data.swapaxes(-1, -2), exponents.swapaxes(-1, -2)) if op.transpose_b else (w.data, exponents)

    def columns(array: Array, fill_to: int) -> Array:
        flipped = op.as_convolution(np.zeros((1, 1, 1, op.groups), np.int8), array, 0)[1]
        filled = np.pad(flipped, ((0, 0), (0, 0), (0, 0), (0, fill_to - array.shape[3])))
        grouped = filled.reshape(op.groups, array.shape[0] // op.groups, -1)
        return np.asarray(grouped.swapaxes(1, 2))

    blocks = -(-w.data.shape[3] // length)
    return columns(w.data, blocks * length), columns(exponents, blocks)


def _images(rows: Array, samples: int, height: int, width: int) -> Array:
    """``[groups, pixels, outputs of a group]`` as ``[N, H, W, O]``."""
    groups, _, outputs = rows.shape
    return rows.reshape(groups, samples, height, width, outputs).transpose(1, 2, 3, 0, 4).reshape(
        samples, height, width, groups * outputs
    )

