"""Random pools, reductions and softmax."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from contraction_cases import tail
from elementwise_cases import any_shape
from op_writer import SHARED_FORMS, OpWriter

from qcompiler.ir import Affine, Arithmetic, Value
from qcompiler.ir.scalar import I8, I16, U8, U16
from qcompiler.numerics.rounding import DIVISION_ROUNDINGS
from qcompiler.ops.normalization import Softmax
from qcompiler.ops.pooling import AveragePool2D, MaxPool2D
from qcompiler.ops.quantization import Dequantize
from qcompiler.ops.quantized import affine
from qcompiler.ops.reduction import ArgMax, Mean, ReduceMax, ReduceMin, ReduceSum

TIES = tuple(DIVISION_ROUNDINGS)
"""Roundings of divisions by whole numbers."""


def pool(w: OpWriter) -> Value:
    """Windows of any size, some of them mostly in the padding."""
    kernel = w.pick((2, 2), (3, 3), (w.size(6), w.size(6)))
    pads = tuple(int(w.rng.integers(0, kernel[i % 2])) for i in range(4)) if w.maybe() else (0, 0, 0, 0)
    height, width = (max(w.size(12), kernel[i] - pads[i] - pads[i + 2], 1) for i in (0, 1))
    strides = w.pick(kernel, (1, 1), (w.size(3), w.size(3)))
    x = w.input((w.batch, height, width, w.size(70)), w.activation())
    op: Any
    if w.maybe():
        dilations = w.pick((1, 1), (1, 1), (2, 2))
        reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
        if height + pads[0] + pads[2] < reach[0] or width + pads[1] + pads[3] < reach[1]:
            dilations = (1, 1)
        op = MaxPool2D(kernel, strides, dilations, pads, "NHWC")  # type: ignore[arg-type]
        return tail(w, w.make(op, x))
    citation = w.pick(Arithmetic("average-half-away"), *(Arithmetic.parse(f"average{{rounding={r}}}") for r in TIES))
    op = AveragePool2D(kernel, strides, pads, "NHWC", citation)  # type: ignore[arg-type]
    return tail(w, w.make(op, x))


def summed(w: OpWriter) -> Value:
    """Mean and sum over any axes, in any form of rounding."""
    shape = any_shape(w, int(w.rng.integers(2, 6)))
    axes = _axes(w, len(shape))
    x = w.input(shape, w.activation())
    keep = w.maybe()
    op: Any = w.pick(Mean(axes, keep), ReduceSum(axes, keep))
    citation = w.arithmetic("litert-mean" if isinstance(op, Mean) else "litert-sum", rounding=True)
    scale = affine(x.type).scale.array * np.float32(w.pick(0.25, 0.5, 1.0, 1.0, w.rng.uniform(0.5, 2)))
    if isinstance(op, ReduceSum):
        scale = scale * np.float32(2.0 ** w.rng.integers(0, 4))
    if "shift" in str(citation):
        # A mean of n divides by n: only powers of two have this form.
        scale = affine(x.type).scale.array * np.float32(2.0 ** w.rng.integers(-2, 4))
    return tail(w, w.cite(op, citation, [x], w.activation(scale=scale)))


def every_mean_and_sum(w: OpWriter) -> list[Value]:
    """Each form of rounding, on scales whose ratios are powers of two: many results are ties."""
    found = []
    for op, name, roundings in (
        (Mean((1,)), "litert-mean", SHARED_FORMS), (ReduceSum((1,)), "litert-sum", SHARED_FORMS),
        # Each rounding of these has its own test in test_stages.py.
        (Mean((1,)), "shift-mean", [w.pick(*TIES)]), (ReduceSum((1,)), "shift-sum", [w.pick(*TIES)]),
    ):
        found += [w.retried(partial(_tied, w, op, Arithmetic.parse(f"{name}{{rounding={r}}}"))) for r in roundings]
    return found


def _tied(w: OpWriter, op: Any, citation: Arithmetic) -> Value:
    source = w.activation(w.storage(wide=False), np.float32(0.25))
    x = w.input((w.batch, w.pick(2, 4, 8), w.size(30), w.size(30) + 20), source)
    scale = np.float32(w.pick(0.25, 0.5) if isinstance(op, Mean) else w.pick(0.5, 1.0, 2.0))
    return w.cite(op, citation, [x], w.activation(w.storage(wide=False), scale))


def extreme(w: OpWriter) -> Value:
    """The largest or smallest over any axes."""
    shape = any_shape(w, int(w.rng.integers(2, 6)))
    op: Any = w.pick(ReduceMax, ReduceMin)(_axes(w, len(shape)), w.maybe())
    return tail(w, w.make(op, w.input(shape, w.activation())))


def largest_index(w: OpWriter) -> Value:
    """Ties on purpose: few different numbers."""
    shape = any_shape(w, int(w.rng.integers(2, 6)))
    axis = int(w.rng.integers(1, len(shape)))
    elem = w.pick(w.activation(), Affine.per_tensor(I8, 0.1, 0, 0, 2), Affine.per_tensor(U8, 0.1, 128, 126, 128))
    return w.make(ArgMax(w.pick(axis, axis - len(shape)), w.maybe()), w.input(shape, elem))


def softmax(w: OpWriter) -> Value:
    """Rows of 1 and more, with scales from flat to one that is all or nothing."""
    shape = any_shape(w, int(w.rng.integers(2, 5)))
    source = w.activation(w.pick(I8, U8), np.float32(2.0 ** w.rng.uniform(-10, 3)))
    storage = w.pick(I8, U8)
    elem = Affine.per_tensor(storage, np.float32(1 / 256), storage.minimum)
    axis = w.pick(-1, len(shape) - 1)
    y = w.cite(Softmax(axis), Arithmetic("gemmlowp-softmax"), [w.input(shape, source)], elem)
    return w.make(Dequantize(), y) if w.maybe() else y


def table_softmax(w: OpWriter) -> Value:
    """The same of 16-bit numbers, for results of both widths."""
    shape = any_shape(w, int(w.rng.integers(2, 5)))
    source = w.activation(w.pick(I16, U16), np.float32(2.0 ** w.rng.uniform(-16, -3)))
    elem = w.pick(Affine.per_tensor(I16, np.float32(2.0**-15), 0), Affine.per_tensor(U16, np.float32(2.0**-16), 0))
    return w.cite(Softmax(-1), Arithmetic("table-softmax"), [w.input(shape, source)], elem)


def _axes(w: OpWriter, rank: int) -> tuple[int, ...]:
    found = tuple(axis for axis in range(1, rank) if w.maybe())
    return found or (int(w.rng.integers(1, rank)),)


CASES = (pool, pool, pool, summed, summed, extreme, largest_index, softmax, table_softmax)
