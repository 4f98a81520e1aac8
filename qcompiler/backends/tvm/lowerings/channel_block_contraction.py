"""Contractions of 8-bit block floating point with constant weights, blocks along the channels: the fast kernels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcompiler.backends.tvm.block_regions import BlockRegion
from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.kernel import Kernel
from qcompiler.backends.tvm.kernel_program import (
    NoLowering,
    ProgramBuilder,
    View,
    elements,
    exponent_count,
    is_block,
)
from qcompiler.backends.tvm.kernels.block_alignment import LARGEST_ALIGNED
from qcompiler.backends.tvm.kernels.block_fixed_constants import bias_bits, pack_fixed_constants
from qcompiler.backends.tvm.kernels.block_fixed_convolution import FixedBlockConvolution
from qcompiler.backends.tvm.kernels.block_fixed_depthwise import FixedBlockDepthwise
from qcompiler.backends.tvm.kernels.block_float_constants import dots_are_exact, pack_float_constants
from qcompiler.backends.tvm.kernels.block_float_convolution import FloatBlockConvolution
from qcompiler.backends.tvm.kernels.block_float_depthwise import FloatBlockDepthwise, products_are_exact
from qcompiler.backends.tvm.kernels.block_geometry import choose_block_tile
from qcompiler.backends.tvm.lowerings.block_contraction_operands import ConvolutionOperands, exponents_from
from qcompiler.backends.tvm.lowerings.block_results import finish_region, source_of, write_result
from qcompiler.ir.scalar import I8
from qcompiler.numerics.block_arithmetic import FixedPointSum, Float32Sum
from qcompiler.ops.block_values import block_float, blocks_of

Array = NDArray[Any]

_EXPONENTS = -141, 127
"""Exponents of activations that the kernels' powers of two reach."""
_LARGEST_PRODUCT = 128 * 128
_DEPTHWISE_PIXELS = 6
"""Pixels side by side whose sums stay in registers."""


@dataclass(frozen=True)
class ChannelKernel:
    """A kernel with its constants by name, and the channels at which the blocks of x begin whose exponents it takes."""

    kernel: Kernel
    constants: Mapping[str, Array]
    block_starts: list[int]


def choose_float_kernel(
    region: BlockRegion, rule: Float32Sum, operands: ConvolutionOperands, isa: InstructionSet
) -> ChannelKernel | None:
    """What computes sums in float32, limited where the region limits them; None where no kernel covers this."""
    lowest, highest = block_float(operands.x.type).format.exponent_range
    fits = _EXPONENTS[0] <= lowest and highest <= _EXPONENTS[1]
    if not (_has_bytes(operands) and fits and rule.order == "sequential"):
        return None
    try:
        return _float_kernel(region, operands, isa, lowest)
    except NoLowering:
        # Weights are too large or too small for these kernels.
        return None


def choose_fixed_kernel(
    region: BlockRegion, rule: FixedPointSum, operands: ConvolutionOperands, isa: InstructionSet
) -> ChannelKernel | None:
    """What computes sums in fixed point with an exponent each; None where no kernel covers this."""
    result = region.root.result
    elem, bias = block_float(result.type), operands.bias
    accumulator = str(elem.storage.dtype)
    is_covered = (
        _has_bytes(operands) and rule.overflow == "forbidden" and accumulator in ("int32", "int64")
        and exponent_count(result) == elements(result) and (bias is None or bias.data.dtype.itemsize <= 4)
        and _LARGEST_PRODUCT * operands.length << rule.fraction < LARGEST_ALIGNED
    )
    if not is_covered:
        return None
    numbers = None if bias is None else bias.data.astype(np.int32)
    exponent = 0 if bias is None else int(bias.block.exponents.reshape(()))
    fields: dict[str, Any] = {
        "accumulator": accumulator, "rounding": elem.format.rounding, "fraction": rule.fraction,
        "bias_bits": bias_bits(numbers),
    }
    weights, exponents, starts = operands.weights, operands.block_exponents, operands.block_starts
    if _is_depthwise(operands):
        starts, each = _depthwise_blocks(operands)
        depthwise = FixedBlockDepthwise(**_depthwise_fields(operands, each), **fields)
        packed = depthwise.pack(isa, weights[..., 0], exponents[..., 0], numbers, exponent)
        kernel: Kernel = depthwise
    else:
        kernel = convolution = FixedBlockConvolution(**_fields(operands), **fields)
        packed = pack_fixed_constants(convolution, isa, weights, exponents, numbers, exponent)
    # Sums of padding alone are zeros at the lowest exponent of the format.
    packed["lowest"] = np.maximum(packed["lowest"], np.int32(elem.format.exponent_range[0]))
    return ChannelKernel(kernel, packed, starts)


def lower_channel_contraction(
    region: BlockRegion, chosen: ChannelKernel, operands: ConvolutionOperands, builder: ProgramBuilder
) -> None:
    """The chosen kernel for each sample, and what follows in the region."""
    root = region.root
    if is_block(root.result):
        targets = {"y": builder.result(root.result), "y_exponents": builder.exponents_result(root.result)}
        _call(chosen, operands, targets, region, builder)
        if region.limit is not None or region.conversion is not None:
            finish_region(region, source_of(root.result, builder), builder)
        return
    sums = (region.limit or root).result
    _call(chosen, operands, {"y": builder.result(sums)}, region, builder)
    if region.conversion is not None:
        write_result(source_of(sums, builder), None, region.conversion, region.result, builder, region.label)


def _float_kernel(
    region: BlockRegion, operands: ConvolutionOperands, isa: InstructionSet, lowest: int
) -> ChannelKernel:
    limits = None if region.limit is None else region.limit.op.limits  # type: ignore[attr-defined]
    bias = None if operands.bias is None else operands.bias.data
    weights, exponents, starts = operands.weights, operands.block_exponents, operands.block_starts
    is_limited = limits is not None
    if _is_depthwise(operands):
        starts, each = _depthwise_blocks(operands)
        taps, scales = weights[..., 0], exponents[..., 0]
        kernel: Kernel
        kernel = depthwise = FloatBlockDepthwise(
            **_depthwise_fields(operands, each), limited=is_limited, exact=products_are_exact(taps, scales, lowest)
        )
        packed = depthwise.pack(isa, taps, scales, bias)
    else:
        is_exact = dots_are_exact(weights, exponents, operands.length, lowest)
        kernel = convolution = FloatBlockConvolution(**_fields(operands), limited=is_limited, exact=is_exact)
        packed = pack_float_constants(convolution, isa, weights, exponents, bias)
    if limits is not None:
        packed |= {name: np.array([limit], np.float32) for name, limit in zip(("low", "high"), limits, strict=True)}
    return ChannelKernel(kernel, packed, starts)


def _has_bytes(operands: ConvolutionOperands) -> bool:
    """Whether the fast kernels take these mantissas."""
    return not operands.transposed and operands.x.type.storage == I8 and operands.weights.dtype == np.int8


def _is_depthwise(operands: ConvolutionOperands) -> bool:
    return operands.groups == operands.channels == operands.outputs > 1


def _depthwise_blocks(operands: ConvolutionOperands) -> tuple[list[int], int]:
    """Channels that the blocks of a depthwise convolution's input begin with, and how many each has."""
    each = min(blocks_of(operands.x.type)[-1], operands.channels)
    return list(range(0, operands.channels, each)), each


def _fields(operands: ConvolutionOperands) -> dict[str, Any]:
    """The fields of a convolution's geometry."""
    is_flat = operands.kernel == (1, 1) and operands.strides == (1, 1) and not any(operands.pads)
    row_pixels = prod(operands.output_size) if is_flat else operands.output_size[1]
    return {
        **_image_fields(operands), "outputs": operands.outputs, "groups": operands.groups, "length": operands.length,
        "tile": choose_block_tile(row_pixels),
    }


def _depthwise_fields(operands: ConvolutionOperands, length: int) -> dict[str, Any]:
    """The fields of a depthwise convolution's geometry."""
    return {**_image_fields(operands), "length": length, "pixels": _DEPTHWISE_PIXELS}


def _image_fields(operands: ConvolutionOperands) -> dict[str, Any]:
    height, width = operands.input_size
    return {
        "height": height, "width": width, "channels": operands.channels, "kernel": operands.kernel,
        "strides": operands.strides, "dilations": operands.dilations, "pads": operands.pads,
    }


def _call(
    chosen: ChannelKernel, operands: ConvolutionOperands, targets: Mapping[str, View], region: BlockRegion,
    builder: ProgramBuilder,
) -> None:
    """The kernel's call for each sample."""
    x = builder.view(operands.x)
    exponents = exponents_from(operands.x, chosen.block_starts, builder, region.label)
    constants = {name: builder.constant(array) for name, array in chosen.constants.items()}
    pixels, results = prod(operands.input_size), prod(operands.output_size) * operands.outputs
    for sample in range(operands.samples):
        views = {
            **constants, "x": x.behind(sample * pixels * operands.channels),
            "x_exponents": exponents.behind(sample * pixels * len(chosen.block_starts)),
            **{name: view.behind(sample * results) for name, view in targets.items()},
        }
        builder.call_by_name(chosen.kernel, views, region.label)
