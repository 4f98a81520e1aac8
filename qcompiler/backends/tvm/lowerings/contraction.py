"""Convolutions and matrix products."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcompiler.backends.lowering import lowering
from qcompiler.backends.tvm.kernel import Kernel
from qcompiler.backends.tvm.kernel_program import NoLowering, ProgramBuilder, View
from qcompiler.backends.tvm.kernels.contraction import Convolution, Tile
from qcompiler.backends.tvm.kernels.contraction_weights import pack_channels as pack_convolution_channels
from qcompiler.backends.tvm.kernels.contraction_weights import pack_constants
from qcompiler.backends.tvm.kernels.depthwise import Depthwise
from qcompiler.backends.tvm.kernels.direct_contraction import DirectConvolution, DirectMatmul
from qcompiler.backends.tvm.kernels.epilogue import Epilogue
from qcompiler.backends.tvm.lowerings.int16_contraction import lower_int16_contraction
from qcompiler.backends.tvm.lowerings.table import lower_lookup
from qcompiler.backends.tvm.lowerings.tail import call_with_steps, epilogue_of, lower_elementwise
from qcompiler.backends.tvm.regions import Region
from qcompiler.backends.tvm.tile_choices import with_best_tile
from qcompiler.ir import Node, Value
from qcompiler.ir.dimension import static_shape
from qcompiler.ir.scalar import I8, I32, U8
from qcompiler.ops.constant import constant_value
from qcompiler.ops.contraction import Contraction, Conv2D, Conv2DBase, ConvTranspose2D, Matmul
from qcompiler.ops.quantized import affine

Array = NDArray[Any]


@lowering("tvm-root", "conv2d", "conv_transpose2d", "matmul")
def lower_contraction(region: Region, builder: ProgramBuilder) -> None:
    """The fast kernel where it fits, with the steps behind it; else sums from the definition, then the steps."""
    root = region.root
    weights, epilogue = _fast_weights(root), epilogue_of(region)
    if weights is not None and epilogue is not None:
        _lower_fast(region, builder, weights, epilogue)
        return
    if lower_int16_contraction(region, builder):
        return
    storage = root.result.type.storage
    accumulator = (
        builder.temporary(str(storage.dtype), prod(static_shape(root.result.type.shape)))
        if region.steps
        else builder.result(root.result)
    )
    if isinstance(root.op, Matmul):
        _lower_direct_matmul(root, builder, accumulator, region.label)
    else:
        _lower_direct_convolution(root, builder, accumulator, region.label)
    if region.steps:
        lower_elementwise(region, builder, accumulator)
    if region.table is not None:
        lower_lookup(region.table, builder)


def _fast_weights(node: Node) -> Array | None:
    """Weights that the fast kernels take, ``[O, KH, KW, C / groups]``; None where they do not serve this node."""
    x, w = node.operands[0].type, node.operands[1].type
    op, stored = node.op, constant_value(node.operands[1])
    assert isinstance(op, Contraction)
    fits = (
        stored is not None and stored.size and x.storage in (I8, U8) and affine(w).symmetric
        and node.result.type.storage == I32 and (len(node.operands) < 3 or _bias(node) is not None)
    )
    if not fits or stored is None:
        return None
    wide = op.integer_weights(w, stored)
    weights = wide.astype(np.int8)
    if (weights != wide).any():
        return None
    if isinstance(op, Conv2D):
        return weights if op.layout == "NHWC" else None
    if isinstance(op, Matmul) and prod(weights.shape[:-2]) == 1:
        matrix = weights.reshape(weights.shape[-2:])
        rows = matrix if op.transpose_b else matrix.T
        return np.ascontiguousarray(rows)[:, None, None, :]
    return None


def _lower_fast(region: Region, builder: ProgramBuilder, weights: Array, epilogue: Epilogue) -> None:
    root, isa = region.root, builder.isa
    x = root.operands[0]
    shape = static_shape(x.type.shape)
    activation = str(x.type.storage.dtype)
    outputs, kernel_height, kernel_width, _ = weights.shape
    if isinstance(root.op, Conv2D):
        op, (samples, height, width, channels) = root.op, shape
    else:
        op, samples, (height, width, channels) = Conv2D(layout="NHWC"), 1, (1, prod(shape[:-1]), shape[-1])
    zero_point = int(affine(x.type).zero_point.array)
    bias = _bias_or_zero(root, outputs)
    pack_channels: Callable[[Array], Array]
    kernel: Kernel
    if op.groups == channels == outputs > 1:
        kernel = depthwise = Depthwise(
            height, width, channels, (kernel_height, kernel_width), op.strides, op.dilations, op.pads, activation,
            epilogue,
        )
        names = ("weights", "bias", "fill")
        packed = dict(zip(names, depthwise.pack(weights[..., 0], bias, zero_point, isa), strict=False))
        pack_channels = partial(depthwise.pack_channels, isa=isa)
    else:
        kernel = convolution = with_best_tile(
            Convolution(
                height, width, channels, outputs, (kernel_height, kernel_width), op.strides, op.dilations, op.pads,
                op.groups, activation, epilogue, Tile(1, 1),
            ),
            isa, builder.tiles,
        )
        packed = pack_constants(convolution, isa, weights, bias, zero_point)
        pack_channels = partial(pack_convolution_channels, convolution, isa)
    views = {"x": builder.view(x), **{name: builder.constant(array) for name, array in packed.items()}}
    call_with_steps(builder, kernel, views, region, pack_channels, samples)


def _lower_direct_convolution(node: Node, builder: ProgramBuilder, accumulator: View, label: str) -> None:
    op = node.op
    assert isinstance(op, Conv2DBase)
    x, w, result = node.operands[0], node.operands[1], node.result
    weights = constant_value(w)
    if weights is None:
        raise NoLowering("native code needs constant weights of a convolution", layer=node.layer)
    centered = op.integer_weights(w.type, weights)
    last = op.layout == "NHWC"
    centered = centered if last else centered.transpose(0, 2, 3, 1)
    kernel_size = (centered.shape[1], centered.shape[2])
    weight = _narrowest(centered)
    samples, *source = static_shape(x.type.shape)
    _, *target = static_shape(result.type.shape)
    storage = str(result.type.storage.dtype)
    kernel = DirectConvolution(
        *_channels_last(source, last), *_channels_last(target, last), kernel_size, op.strides, op.dilations,
        (op.pads[0], op.pads[1]), op.groups, isinstance(op, ConvTranspose2D), str(x.type.storage.dtype), weight,
        storage,
    )
    x_view = builder.view(x)
    constants = [
        builder.constant(_number(affine(x.type).zero_point.array, storage)), builder.constant(centered.astype(weight)),
        builder.constant(_bias_or_zero(node, centered.shape[0])),
    ]
    for sample in range(samples):
        views = [x_view.behind(sample * prod(source)), *constants, accumulator.behind(sample * prod(target))]
        builder.call(kernel, views, label)


def _channels_last(sizes: list[int], last: bool) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Height, width, channels, and the elements between neighbours along each."""
    if last:
        height, width, channels = sizes
        return (height, width, channels), (width * channels, channels, 1)
    channels, height, width = sizes
    return (height, width, channels), (width, 1, height * width)


def _lower_direct_matmul(node: Node, builder: ProgramBuilder, accumulator: View, label: str) -> None:
    op, (x, w, *_) = node.op, node.operands
    assert isinstance(op, Matmul)
    if not (affine(w.type).is_per_tensor or affine(w.type).symmetric):
        raise NoLowering("native code needs one zero point for all weights of a matmul", layer=node.layer)
    result = static_shape(node.result.type.shape)
    leading, (rows, columns) = result[:-2], result[-2:]
    storage = str(node.result.type.storage.dtype)
    weights = _grouped_weights(op, w, builder) or builder.view(w)
    x_strides = _strides(static_shape(x.type.shape), leading)
    w_strides = _strides(static_shape(w.type.shape), leading)
    if not op.transpose_b:
        w_strides = (*w_strides[:-2], w_strides[-1], w_strides[-2])
    kernel = DirectMatmul(
        leading, rows, columns, static_shape(x.type.shape)[-1], x_strides, w_strides,
        prod(static_shape(x.type.shape)), prod(static_shape(w.type.shape)), str(x.type.storage.dtype),
        weights.buffer.dtype, storage,
    )
    views = [
        builder.view(x), weights, builder.constant(_number(affine(x.type).zero_point.array, storage)),
        builder.constant(_number(affine(w.type).zero_point.array.reshape(-1)[0], storage)),
        builder.constant(_bias_or_zero(node, columns)), accumulator,
    ]
    builder.call(kernel, views, label)


def _grouped_weights(op: Matmul, w: Value, builder: ProgramBuilder) -> View | None:
    """The integers that stand for weights in groups, each times its group's multiplier; None for other weights."""
    stored = constant_value(w)
    if op.group_multipliers is None or stored is None:
        return None
    weights = op.integer_weights(w.type, stored)
    return builder.constant(weights.astype(_narrowest(weights)))


def _narrowest(integers: NDArray[np.int64]) -> str:
    return next(d for d in ("int8", "int16", "int32") if np.abs(integers).max(initial=0) <= np.iinfo(d).max)


def _strides(shape: tuple[int, ...], leading: tuple[int, ...]) -> tuple[int, ...]:
    """Elements between neighbours along each axis of the result's rank; 0 where the operand is broadcast."""
    strides = [prod(shape[i + 1 :]) if size > 1 or i >= len(shape) - 2 else 0 for i, size in enumerate(shape)]
    return (*(0 for _ in range(len(leading) + 2 - len(shape))), *strides)


def _bias(node: Node) -> Array | None:
    return constant_value(node.operands[2]) if len(node.operands) == 3 else None


def _bias_or_zero(node: Node, outputs: int) -> Array:
    bias = _bias(node)
    if bias is None and len(node.operands) == 3:
        raise NoLowering("native code needs a constant bias", layer=node.layer)
    dtype = node.result.type.storage.dtype
    return np.zeros(outputs, dtype) if bias is None else bias.astype(dtype)


def _number(value: Any, dtype: str) -> Array:
    return np.asarray(value, dtype).reshape(1)
