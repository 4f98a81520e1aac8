"""Resize by interpolation."""

from __future__ import annotations

from math import prod

import numpy as np

from qcompiler.backends.lowering import lowering
from qcompiler.backends.tvm.kernel_program import ProgramBuilder
from qcompiler.backends.tvm.kernels.resize import ResizeBilinear, resize_coordinates
from qcompiler.backends.tvm.lowerings.movement import dtype_of, lower_nearest_resize, shape_of
from qcompiler.backends.tvm.lowerings.tail import layers
from qcompiler.ir import Node
from qcompiler.ops.quantized import affine, resolve
from qcompiler.ops.resize import Resize


@lowering("tvm", "resize", arithmetic="litert-resize-bilinear")
def lower_bilinear_resize(node: Node, builder: ProgramBuilder) -> None:
    """Coordinates and weights are constants of the program."""
    op, (source,) = node.op, node.operands
    assert isinstance(op, Resize)
    if op.mode == "nearest":
        lower_nearest_resize(node, builder)
        return
    shape, (first, last) = shape_of(source), op.axes
    sizes = (shape[first], shape[last])
    kernel = ResizeBilinear(dtype_of(source), prod(shape[:first]), *sizes, *op.sizes, prod(shape[last + 1 :]))
    constants = resize_coordinates(
        resolve(op, op.arithmetic), sizes, op.sizes, op.coordinates in ("half_pixel", "pytorch_half_pixel"),
        op.coordinates == "align_corners",
    )
    elem = affine(node.result.type)
    constants["bounds"] = np.array([elem.qmin, elem.qmax], np.int32)
    views = {"x": builder.view(source), "y": builder.result(node.result)}
    views |= {name: builder.constant(array) for name, array in constants.items()}
    builder.call_by_name(kernel, views, layers(node))
