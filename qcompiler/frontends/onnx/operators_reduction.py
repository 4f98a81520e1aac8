"""Handlers of reductions."""

from __future__ import annotations

from collections.abc import Callable

from qcompiler.frontends.onnx.layer import HANDLERS, Layer, UnsupportedOperator, handles
from qcompiler.frontends.onnx.operators_elementwise import float_operand
from qcompiler.ir import Op, Value
from qcompiler.ops.activation import Abs, Sqrt
from qcompiler.ops.binary import Mul
from qcompiler.ops.reduction import ArgMax, Mean, ReduceMax, ReduceMin, ReduceProduct, ReduceSum

REDUCTIONS: dict[str, Callable[[tuple[int, ...], bool], Op]] = {
    "ReduceMean": Mean, "ReduceSum": ReduceSum, "ReduceMax": ReduceMax, "ReduceMin": ReduceMin,
    "ReduceProd": ReduceProduct, "ReduceL1": ReduceSum, "ReduceL2": ReduceSum, "ReduceSumSquare": ReduceSum,
}


def _reduce(layer: Layer) -> Value:
    x = layer.operand(0) if layer.op_type in ("ReduceMax", "ReduceMin") else float_operand(layer)
    # ReduceSum got its axes as an operand in opset 13, the others in 18.
    axes = layer.axes(1, 13 if layer.op_type == "ReduceSum" else 18)
    if not axes and layer.integer("noop_with_empty_axes", 0):
        if layer.op_type in ("ReduceL1", "ReduceL2", "ReduceSumSquare"):
            raise UnsupportedOperator("noop_with_empty_axes")
        return x
    rank = x.type.rank
    chosen = tuple(sorted({layer.axis(a, rank) for a in axes})) if axes else tuple(range(rank))
    if not chosen:
        return x
    if layer.op_type == "ReduceL1":
        x = layer.emit(Abs(), x)
    elif layer.op_type in ("ReduceL2", "ReduceSumSquare"):
        x = layer.emit(Mul(), x, x)
    result = layer.emit(REDUCTIONS[layer.op_type](chosen, bool(layer.integer("keepdims", 1))), x)
    return layer.emit(Sqrt(), result) if layer.op_type == "ReduceL2" else result


HANDLERS.update(dict.fromkeys(REDUCTIONS, _reduce))


@handles("ArgMax")
def _argmax(layer: Layer) -> Value:
    if layer.integer("select_last_index", 0):
        raise UnsupportedOperator("select_last_index=1")
    x = layer.operand(0)
    axis = layer.axis(layer.integer("axis", 0), x.type.rank)
    return layer.emit(ArgMax(axis, bool(layer.integer("keepdims", 1))), x)
