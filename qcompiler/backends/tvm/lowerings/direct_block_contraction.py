"""Contractions of block floating point by slow kernels that follow the definition."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcompiler.backends.tvm.block_regions import BlockRegion
from qcompiler.backends.tvm.kernel_program import NoLowering, ProgramBuilder, View, exponent_count
from qcompiler.backends.tvm.kernels.block_direct_convolution import DirectBlockConvolution
from qcompiler.backends.tvm.kernels.block_direct_matmul import DirectBlockMatmul, MatrixOperand
from qcompiler.backends.tvm.kernels.block_direct_sums import (
    LARGEST_DOT,
    LARGEST_SHIFTED_DOT,
    DotSums,
    FixedDotSums,
    FloatDotSums,
)
from qcompiler.backends.tvm.kernels.exponent_maximum import LargestExponents
from qcompiler.backends.tvm.kernels.mantissa_realignment import RealignMantissas
from qcompiler.backends.tvm.lowerings.block_contraction_operands import (
    ConvolutionOperands,
    block_length,
    constant_bias,
    exponents_from,
    largest_magnitude,
)
from qcompiler.backends.tvm.lowerings.block_exponents import exponent_places
from qcompiler.backends.tvm.lowerings.block_results import finish_region, source_of, write_result
from qcompiler.ir import Node, Tensor, Value
from qcompiler.ir.dimension import static_shape
from qcompiler.numerics.block_arithmetic import FixedPointSum, Float32Sum
from qcompiler.ops.block_values import block_float
from qcompiler.ops.contraction import Matmul

Array = NDArray[Any]


def lower_direct_convolution(
    region: BlockRegion, rule: FixedPointSum | Float32Sum, operands: ConvolutionOperands, builder: ProgramBuilder
) -> None:
    """A convolution with constant weights, of any kind.

    Raises:
        NoLowering: mantissas or sums are too wide.
    """
    isa, root = builder.isa, region.root
    sums = _sums(region, rule, operands.pairs, operands.largest_dot)
    kernel = DirectBlockConvolution(
        operands.input_size, operands.output_size, operands.channels, operands.outputs, operands.kernel,
        operands.strides, operands.dilations, (operands.pads[0], operands.pads[1]), operands.groups,
        operands.transposed, operands.length, str(operands.x.type.storage.dtype),
        "float32" if np.array_equal(operands.weights.astype(np.float32), operands.weights) else "float64", sums,
    )
    arrays = kernel.pack(isa, operands.weights, operands.block_exponents)
    arrays |= _limit_constants(region, sums)
    for name, array in _bias_constants(operands.bias, sums).items():
        arrays[name] = kernel.pack_outputs(isa, array) if name == "bias" else array
    constants = {name: builder.constant(array) for name, array in arrays.items()}
    x = builder.view(operands.x)
    exponents = exponents_from(operands.x, operands.block_starts, builder, region.label)
    pixels, results = prod(operands.input_size), prod(operands.output_size) * operands.outputs
    targets = _targets(region, sums, builder)
    for sample in range(operands.samples):
        views = {
            **constants, "x": x.behind(sample * pixels * operands.channels),
            "x_exponents": exponents.behind(sample * pixels * len(operands.block_starts)),
            **{name: view.behind(sample * results) for name, view in targets.items()},
        }
        builder.call_by_name(kernel, views, region.label)
    _finish(region, root, targets, builder)


def lower_direct_matmul(region: BlockRegion, rule: FixedPointSum | Float32Sum, builder: ProgramBuilder) -> None:
    """A product of matrices of which both may be computed.

    Raises:
        NoLowering: mantissas or sums are too wide, or the bias is computed.
    """
    root = region.root
    op, (x, w) = root.op, root.operands[:2]
    assert isinstance(op, Matmul)
    bias, length = constant_bias(root), block_length(root)
    result, x_shape = static_shape(root.result.type.shape), static_shape(x.type.shape)
    starts = list(range(0, x_shape[-1], length))
    sums = _sums(region, rule, len(starts), largest_magnitude(x) * largest_magnitude(w) * length)
    leading, w_axis = result[:-2], -1 if op.transpose_b else -2
    kernel = DirectBlockMatmul(
        leading, result[-2], result[-1], x_shape[-1], length,
        _matrix(x, -1, len(starts), leading), _matrix(w, w_axis, len(starts), leading), sums,
    )
    targets = _targets(region, sums, builder)
    arrays = _bias_constants(bias, sums) | _limit_constants(region, sums)
    views = {name: builder.constant(array) for name, array in arrays.items()}
    for name, operand, axis in (("x", x, -1), ("w", w, w_axis)):
        views[name] = builder.view(operand)
        views[f"{name}_exponents"] = exponents_from(operand, starts, builder, region.label, axis)
    builder.call_by_name(kernel, {**views, **targets}, region.label)
    _finish(region, root, targets, builder)


def _sums(region: BlockRegion, rule: FixedPointSum | Float32Sum, count: int, largest: int) -> DotSums:
    """How so many dots, at most ``largest`` in magnitude, are added."""
    root = region.root
    has_bias = len(root.operands) == 3
    if largest >= LARGEST_DOT:
        raise NoLowering(
            "the products of these mantissas are too wide for native code", layer=root.layer,
            expected=f"dots of a block below 2**{LARGEST_DOT.bit_length() - 1}", found=f"up to {largest}",
            fix="run the program with the reference backend",
        )
    if isinstance(rule, Float32Sum):
        return FloatDotSums(count, has_bias, rule.order, region.limit is not None)
    if largest << rule.fraction >= LARGEST_SHIFTED_DOT:
        raise NoLowering(
            "the products of these mantissas, with their binary places, are too wide for native code",
            layer=root.layer, expected=f"below 2**{LARGEST_SHIFTED_DOT.bit_length() - 1}",
            found=f"up to {largest << rule.fraction}", fix="run the program with the reference backend",
        )
    elem = block_float(root.result.type)
    return FixedDotSums(
        count, has_bias, elem.format.mantissa, rule.overflow, elem.format.rounding, rule.fraction,
        elem.format.exponent_range[0], str(elem.storage.dtype),
    )


def _targets(region: BlockRegion, sums: DotSums, builder: ProgramBuilder) -> dict[str, View]:
    """Where the kernel writes."""
    root = region.root
    if isinstance(sums, FloatDotSums):
        return {"y": builder.result((region.limit or root).result)}
    if _has_exponent_each(root.result):
        return {"y": builder.result(root.result), "y_exponents": builder.exponents_result(root.result)}
    elements, stored = prod(static_shape(root.result.type.shape)), str(root.result.type.storage.dtype)
    return {"y": builder.temporary(stored, elements), "y_exponents": builder.temporary("int32", elements)}


def _finish(region: BlockRegion, root: Node, targets: dict[str, View], builder: ProgramBuilder) -> None:
    """What follows the sums in a region."""
    if "y_exponents" not in targets:
        if region.conversion is not None:
            found = source_of((region.limit or root).result, builder)
            write_result(found, None, region.conversion, region.result, builder, region.label)
        return
    if not _has_exponent_each(root.result):
        _align(root.result, targets, builder, region.label)
    if region.limit is not None or region.conversion is not None:
        finish_region(region, source_of(root.result, builder), builder)


def _align(result: Value, sums: dict[str, View], builder: ProgramBuilder, label: str) -> None:
    """Sums with an exponent each, at the largest exponent of each block of the result."""
    elem, blocks, places = block_float(result.type), exponent_count(result), exponent_places(result).reshape(-1)
    order = np.argsort(places, kind="stable").astype(np.int32)
    count = len(places)
    views = {
        "x_exponents": sums["y_exponents"], "x_places": builder.constant(order),
        "starts": builder.constant(np.searchsorted(places[order], np.arange(blocks + 1)).astype(np.int32)),
        "y_exponents": builder.exponents_result(result),
    }
    largest = LargestExponents(blocks, count, count, 0, False, elem.format.exponent_range[0])
    builder.call_by_name(largest, views, label)
    realign = RealignMantissas(
        count, count, blocks, str(elem.storage.dtype), elem.format.mantissa, elem.format.rounding
    )
    views |= {
        "x": sums["y"], "x_places": builder.constant(np.arange(count, dtype=np.int32)),
        "y_places": builder.constant(places), "y": builder.result(result),
    }
    builder.call_by_name(realign, views, label)


def _has_exponent_each(value: Value) -> bool:
    return exponent_count(value) == prod(static_shape(value.type.shape))


def _matrix(value: Value, axis: int, blocks: int, leading: tuple[int, ...]) -> MatrixOperand:
    """Where an operand's numbers stand, whose terms lie along ``axis`` and come in so many blocks."""
    shape = static_shape(value.type.shape)
    grid = list(shape)
    grid[axis] = blocks
    return MatrixOperand(
        str(value.type.storage.dtype), _strides(shape, axis, leading), _strides(tuple(grid), axis, leading),
        prod(shape), prod(grid),
    )


def _strides(shape: tuple[int, ...], axis: int, leading: tuple[int, ...]) -> tuple[int, ...]:
    """Numbers between neighbours along the leading axes of a result, 0 where broadcast, then across and along terms."""
    dense = [prod(shape[i + 1 :]) for i in range(len(shape))]
    outer = [0 if size == 1 else stride for size, stride in zip(shape[:-2], dense, strict=False)]
    across = dense[-1] if axis == -2 else dense[-2]
    return (*[0] * (len(leading) + 2 - len(shape)), *outer, across, dense[axis])


def _bias_constants(bias: Tensor | None, sums: DotSums) -> dict[str, Array]:
    if bias is None:
        return {}
    if isinstance(sums, FloatDotSums):
        return {"bias": bias.data}
    return {"bias": bias.data.astype(np.int64), "bias_exponent": bias.block.exponents.reshape(1)}


def _limit_constants(region: BlockRegion, sums: DotSums) -> dict[str, Array]:
    """Bounds of sums in float32; others are limited behind the sums."""
    if region.limit is None or not isinstance(sums, FloatDotSums):
        return {}
    limits = region.limit.op.limits  # type: ignore[attr-defined]
    return {name: np.array([limit], np.float32) for name, limit in zip(("low", "high"), limits, strict=True)}
