"""Random contractions with weights in groups, with what may follow them in a kernel."""

from __future__ import annotations

from typing import Any

from contraction_cases import contraction, finished
from op_writer import OpWriter
from random_weight_groups import grouped_type, stored_integers

from qcompiler.ir import Value
from qcompiler.ir.dimension import Dim
from qcompiler.ir.scalar import I4, I8
from qcompiler.ops.contraction import Contraction, Conv2D, ConvTranspose2D, Matmul


def grouped(w: OpWriter, op: Contraction, x: Value, shape: tuple[int, ...]) -> Value:
    """A contraction with weights of 4 bits and multipliers of 4, at times with larger ones that leave int8."""
    storage = I8 if w.maybe(6) else I4
    elem, multipliers = grouped_type(w.rng, op, shape, storage, 255 if w.maybe(4) else 15)
    weights = w.constant(elem, shape, stored_integers(w.rng, elem, shape))
    return finished(w, contraction(w, op.replace(group_multipliers=multipliers), x, weights))


def grouped_convolution(w: OpWriter) -> Value:
    """Any channels, dense, in groups or depthwise, of either layout; transposed at times."""
    channels = w.size(40)
    groups, outputs = w.pick((1, w.size(40)), (1, w.size(40)), (channels, channels), (1, w.size(20)))
    kernel = w.pick((1, 1), (3, 3), (2, 3))
    op: Any = Conv2D((w.size(2), w.size(2)), pads=w.pick((0, 0, 0, 0), (1, 1, 1, 1)), groups=groups,
                     layout=w.pick("NHWC", "NHWC", "NCHW"))
    if groups == 1 and w.maybe(6):
        op = ConvTranspose2D(op.strides, layout=op.layout)
    size = (int(kernel[0]) + w.size(5), int(kernel[1]) + w.size(5))
    last = op.layout == "NHWC"
    shape: tuple[Dim, ...] = (w.batch, *size, channels) if last else (w.batch, channels, *size)
    x = w.input(shape, w.activation())
    inside = channels // groups
    return grouped(w, op, x, (outputs, *kernel, inside) if last else (outputs, inside, *kernel))


def grouped_matmul(w: OpWriter) -> Value:
    """Weights of rank 2, of either order."""
    op = Matmul(w.maybe())
    terms, columns = w.size(70), w.size(40)
    rows = (w.size(4),) if w.maybe() else ()
    x = w.input((w.batch, *rows, terms), w.activation())
    return grouped(w, op, x, (columns, terms) if op.transpose_b else (terms, columns))


CASES = (grouped_convolution, grouped_convolution, grouped_matmul)
