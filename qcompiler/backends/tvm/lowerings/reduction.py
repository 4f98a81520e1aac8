"""Pooling, sums, extremes, softmax."""

from __future__ import annotations

from functools import partial
from math import prod

import numpy as np

from qcompiler.backends.lowering import lowering
from qcompiler.backends.tvm.kernel_program import NoLowering, ProgramBuilder
from qcompiler.backends.tvm.kernels.epilogue import Epilogue
from qcompiler.backends.tvm.kernels.pooling import MaxPool, SumPool, Windows
from qcompiler.backends.tvm.kernels.reduction import ArgMax as ArgMaxKernel
from qcompiler.backends.tvm.kernels.reduction import Reducer, Reduction
from qcompiler.backends.tvm.kernels.softmax import GemmlowpSoftmaxRows, softmax_tables
from qcompiler.backends.tvm.kernels.table_softmax import TableSoftmaxRows, exponential_of_each_distance
from qcompiler.backends.tvm.lowerings.movement import dtype_of, shape_of
from qcompiler.backends.tvm.lowerings.tail import call_with_steps, epilogue_of, layers
from qcompiler.backends.tvm.regions import Region
from qcompiler.ir import Node
from qcompiler.ops.normalization import Softmax
from qcompiler.ops.pooling import Pool2D
from qcompiler.ops.quantized import affine, resolve
from qcompiler.ops.reduction import ArgMax
from qcompiler.ops.reduction import Reduction as ReductionOp


@lowering("tvm-root", "average_pool2d")
def lower_average_pool(region: Region, builder: ProgramBuilder) -> None:
    """Sums of windows, then the region's steps, the first of which divides."""
    windows, samples = _windows(region.root)
    kernel = SumPool(windows, dtype_of(region.root.operands[0]), _epilogue(region))
    _call(kernel, region, builder, samples)


@lowering("tvm-root", "mean", "reduce_sum")
def lower_sum(region: Region, builder: ProgramBuilder) -> None:
    """Sums over axes, then the region's steps, the first of which scales."""
    _lower_reduction(region, builder, Reducer.SUM)


@lowering("tvm-root", "reduce_max")
def lower_max(region: Region, builder: ProgramBuilder) -> None:
    """The largest over axes, then the region's steps."""
    _lower_reduction(region, builder, Reducer.MAX)


@lowering("tvm-root", "reduce_min")
def lower_min(region: Region, builder: ProgramBuilder) -> None:
    """The smallest over axes, then the region's steps."""
    _lower_reduction(region, builder, Reducer.MIN)


@lowering("tvm", "max_pool2d")
def lower_max_pool(node: Node, builder: ProgramBuilder) -> None:
    """The largest of each window."""
    windows, samples = _windows(node)
    kernel = MaxPool(windows, dtype_of(node.result))
    x, y = builder.view(node.operands[0]), builder.result(node.result)
    for sample in range(samples):
        parts = [
            view.behind(sample * (prod(shape_of(value)) // samples))
            for view, value in ((x, node.operands[0]), (y, node.result))
        ]
        builder.call(kernel, parts, layers(node))


@lowering("tvm", "argmax")
def lower_argmax(node: Node, builder: ProgramBuilder) -> None:
    """Places of the largest."""
    assert isinstance(node.op, ArgMax)
    shape = shape_of(node.operands[0])
    axis = node.op.axis % len(shape)
    kernel = ArgMaxKernel(prod(shape[:axis]), shape[axis], prod(shape[axis + 1 :]), dtype_of(node.operands[0]))
    builder.call(kernel, [builder.view(node.operands[0]), builder.result(node.result)], layers(node))


@lowering("tvm", "softmax", arithmetic="gemmlowp-softmax")
def lower_softmax(node: Node, builder: ProgramBuilder) -> None:
    """Rows along the last axis; tables hold what each distance from the largest contributes."""
    op, (source,) = node.op, node.operands
    assert isinstance(op, Softmax)
    shape = shape_of(source)
    if op.axis % len(shape) != len(shape) - 1:
        raise NoLowering("native code needs softmax along the last axis", layer=node.layer)
    kernel = GemmlowpSoftmaxRows(prod(shape[:-1]), shape[-1], dtype_of(source), dtype_of(node.result))
    tables = softmax_tables(resolve(op, op.arithmetic), op.constants.arrays(), dtype_of(source))
    elem = affine(node.result.type)
    constants = (*tables, np.array([elem.qmin, elem.qmax], np.int32))
    views = [builder.view(source), *map(builder.constant, constants), builder.result(node.result)]
    builder.call(kernel, views, layers(node))


@lowering("tvm", "softmax", arithmetic="table-softmax")
def lower_table_softmax(node: Node, builder: ProgramBuilder) -> None:
    """Rows along the last axis; a table holds what each distance from the largest contributes."""
    op, (source,) = node.op, node.operands
    assert isinstance(op, Softmax)
    shape, constants = shape_of(source), op.constants.arrays()
    if op.axis % len(shape) != len(shape) - 1:
        raise NoLowering("native code needs softmax along the last axis", layer=node.layer)
    kernel = TableSoftmaxRows(
        prod(shape[:-1]), shape[-1], dtype_of(source), dtype_of(node.result), int(constants["fraction_bits"])
    )
    elem = affine(node.result.type)
    exponentials = exponential_of_each_distance(resolve(op, op.arithmetic), constants, dtype_of(source))
    tables = (exponentials, constants["reciprocals"], np.array([elem.qmin, elem.qmax], np.int32))
    builder.call(
        kernel, [builder.view(source), *map(builder.constant, tables), builder.result(node.result)], layers(node)
    )


def _lower_reduction(region: Region, builder: ProgramBuilder, reducer: Reducer) -> None:
    op, source = region.root.op, region.root.operands[0]
    assert isinstance(op, ReductionOp)
    kernel = Reduction(shape_of(source), op.axes, reducer, dtype_of(source), _epilogue(region))
    _call(kernel, region, builder, 1)


def _call(kernel: SumPool | Reduction, region: Region, builder: ProgramBuilder, samples: int) -> None:
    views = {"x": builder.view(region.root.operands[0])}
    call_with_steps(builder, kernel, views, region, partial(kernel.pack_channels, isa=builder.isa), samples)


def _epilogue(region: Region) -> Epilogue:
    epilogue = epilogue_of(region)
    assert epilogue is not None, "regions end before a step that an epilogue cannot take"
    return epilogue


def _windows(node: Node) -> tuple[Windows, int]:
    """The windows of one sample, and how many samples there are."""
    op = node.op
    assert isinstance(op, Pool2D)
    if op.layout != "NHWC":
        raise NoLowering("native code pools channels-last images", layer=node.layer, found=op.layout)
    samples, height, width, channels = shape_of(node.operands[0])
    return Windows(height, width, channels, op.kernel, op.strides, op.dilations, op.pads), samples
