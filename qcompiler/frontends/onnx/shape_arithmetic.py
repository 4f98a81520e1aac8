"""Arithmetic on shapes that hold the free batch: object arrays of integers and symbolic dimensions.

Exporters compute shapes with ordinary operators. As long as every element stays a multiple of the batch, these
computations are done while importing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from qcompiler.frontends.onnx.layer import Layer, UnsupportedOperator
from qcompiler.ir import Dim, Shape, SymbolicDim
from qcompiler.ir.dimension import divide, element_count, format_shape

Array = NDArray[Any]
FIX_BATCH = "if the model was exported for one batch size, fix the batch to that size"

Item = Any
"""A SymbolicDim, int, float or bool."""


def shape_array(shape: Shape) -> Array:
    """A shape as ONNX's Shape operator gives it."""
    array = np.empty(len(shape), object)
    array[:] = shape
    return settle(array) if shape else np.zeros(0, np.int64)


def size_array(shape: Shape) -> Array:
    """A shape's element count as ONNX's Size operator gives it."""
    array = np.empty((), object)
    array[()] = element_count(shape)
    return settle(array)


def settle(array: Array) -> Array:
    """``array`` as plain numbers where no symbol is left in it."""
    items = array.reshape(-1).tolist()
    if any(isinstance(item, SymbolicDim) for item in items):
        return array
    if any(isinstance(item, float) for item in items):
        return array.astype(np.float32)
    return array.astype(np.bool_ if items and all(isinstance(item, bool) for item in items) else np.int64)


def evaluate(layer: Layer, inputs: Sequence[Array | None]) -> Array | None:
    """The result of a node on shape arrays; None where the operator has no meaning on them.

    Raises:
        UnsupportedOperator: the result is no multiple of the batch.
    """
    rule = STRUCTURAL.get(layer.op_type)
    if rule is not None and inputs[0] is not None and (inputs[0].dtype == object or layer.op_type in ANY_OPERAND):
        try:
            return settle(rule(layer, inputs))
        except (ValueError, IndexError) as error:
            raise layer.invalid(f"a computed shape does not fit: {error}") from error
    function = ELEMENTWISE.get(layer.op_type)
    if function is None:
        return None
    operands = [np.asarray(a).astype(object) for a in inputs if a is not None]
    try:
        if len(operands) == 1:
            result = np.frompyfunc(function, 1, 1)(operands[0])
        else:
            result = reduce(np.frompyfunc(function, 2, 1), operands)
    except TypeError as error:
        raise layer.invalid(f"has {len(operands)} operands") from error
    except ValueError as error:
        raise UnsupportedOperator(f"a computed shape is no multiple of the batch size: {error}") from error
    return settle(np.asarray(result, dtype=object))


# Element by element


def _add(a: Item, b: Item) -> Item:
    if isinstance(a, SymbolicDim) and isinstance(b, SymbolicDim) and a.symbol == b.symbol:
        total = a.coefficient + b.coefficient
        return SymbolicDim(a.symbol, total) if total else 0
    if not isinstance(a, SymbolicDim) and not isinstance(b, SymbolicDim):
        return a + b
    if a == 0:
        return b
    if b == 0:
        return a
    raise ValueError(f"{a} + {b}")


def _negate(a: Item) -> Item:
    return SymbolicDim(a.symbol, -a.coefficient) if isinstance(a, SymbolicDim) else -a


def _multiply(a: Item, b: Item) -> Item:
    if isinstance(a, SymbolicDim) and isinstance(b, SymbolicDim):
        raise ValueError(f"{a} * {b}")
    if not isinstance(a, SymbolicDim) and not isinstance(b, SymbolicDim):
        return a * b
    symbol, factor = (a, b) if isinstance(a, SymbolicDim) else (b, a)
    coefficient = symbol.coefficient * factor
    if coefficient != int(coefficient):
        raise ValueError(f"{a} * {b}")
    return SymbolicDim(symbol.symbol, int(coefficient)) if coefficient else 0


def _divide(a: Item, b: Item) -> Item:
    if isinstance(a, SymbolicDim) and isinstance(b, float) and b:
        quotient = a.coefficient / b
        if quotient != int(quotient):
            raise ValueError(f"{a} / {b}")
        return SymbolicDim(a.symbol, int(quotient))
    if isinstance(a, SymbolicDim) or isinstance(b, SymbolicDim):
        return divide(a, b)
    if b == 0:
        raise ValueError(f"{a} / 0")
    # ONNX integer division truncates toward zero.
    return a / b if isinstance(a, float) or isinstance(b, float) else int(abs(a) // abs(b)) * (1 if a * b >= 0 else -1)


def _select(larger: bool) -> Callable[[Item, Item], Item]:
    def choose(a: Item, b: Item) -> Item:
        if a == b:
            return a
        if isinstance(a, SymbolicDim) or isinstance(b, SymbolicDim):
            # The batch is at least 1, which decides against numbers up to the coefficient.
            symbol, other = (a, b) if isinstance(a, SymbolicDim) else (b, a)
            if isinstance(other, SymbolicDim) or other > symbol.coefficient:
                raise ValueError(f"{'max' if larger else 'min'}({a}, {b})")
            return symbol if larger else other
        return max(a, b) if larger else min(a, b)

    return choose


def _equal(a: Item, b: Item) -> bool:
    if a != b and (isinstance(a, SymbolicDim) or isinstance(b, SymbolicDim)):
        symbol, other = (a, b) if isinstance(a, SymbolicDim) else (b, a)
        if isinstance(other, SymbolicDim) or other >= symbol.coefficient:
            raise ValueError(f"{a} == {b}")
    return bool(a == b)


ELEMENTWISE: dict[str, Callable[..., Item]] = {
    "Add": _add,
    "Sub": lambda a, b: _add(a, _negate(b)),
    "Mul": _multiply,
    "Div": _divide,
    "Max": _select(larger=True),
    "Min": _select(larger=False),
    "Equal": _equal,
    "Identity": lambda a: a,
    "Floor": lambda a: a,
    "Ceil": lambda a: a,
}


# Structure


def _cast(layer: Layer, inputs: Sequence[Array | None]) -> Array:
    to = layer.integer("to", onnx.TensorProto.INT64)
    floating = to in (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16)
    integral = to in (onnx.TensorProto.INT64, onnx.TensorProto.INT32)
    if not floating and not integral:
        raise UnsupportedOperator("a shape is cast to a format that cannot hold it")

    def convert(item: Item) -> Item:
        return item if isinstance(item, SymbolicDim) else (float(item) if floating else int(item))

    return np.asarray(np.frompyfunc(convert, 1, 1)(_data(inputs)), dtype=object)


def _data(inputs: Sequence[Array | None], index: int = 0) -> Array:
    array = inputs[index]
    if array is None:
        raise IndexError(f"operand {index} is missing")
    return array


def _gather(layer: Layer, inputs: Sequence[Array | None]) -> Array:
    return np.asarray(np.take(_data(inputs), _plain(inputs, 1), layer.integer("axis", 0)), dtype=object)


def _plain(inputs: Sequence[Array | None], index: int) -> NDArray[np.int64]:
    array = _data(inputs, index)
    if array.dtype == object:
        raise UnsupportedOperator("a parameter of the computed shape depends on the batch size")
    return array.astype(np.int64)


def _concat(layer: Layer, inputs: Sequence[Array | None]) -> Array:
    return np.concatenate([a.astype(object) for a in inputs if a is not None], layer.integer("axis", 0))


def _unsqueeze(layer: Layer, inputs: Sequence[Array | None]) -> Array:
    data = _data(inputs)
    axes = layer.axes(1, 13) or []
    rank = data.ndim + len(axes)
    return np.expand_dims(data, tuple(layer.axis(a, rank) for a in axes))


def _squeeze(layer: Layer, inputs: Sequence[Array | None]) -> Array:
    axes = layer.axes(1, 13)
    return np.squeeze(_data(inputs), None if axes is None else tuple(axes))


def _slice(layer: Layer, inputs: Sequence[Array | None]) -> Array:
    data = _data(inputs)
    index = [slice(None)] * data.ndim
    for axis, start, end, step in zip(*slice_parameters(layer, data.ndim), strict=True):
        if isinstance(start, SymbolicDim) or isinstance(end, SymbolicDim):
            raise UnsupportedOperator("a computed shape is sliced by the batch size")
        # A negative step that runs past element 0 has no end in Python's notation.
        index[axis] = slice(start, None if step < 0 and end < -data.shape[axis] else end, step)
    return data[tuple(index)]


def _reshape(layer: Layer, inputs: Sequence[Array | None]) -> Array:
    data = _data(inputs)
    target = [int(d) if d else data.shape[i] for i, d in enumerate(_plain(inputs, 1).tolist())]
    return data.reshape(target)


def _transpose(layer: Layer, inputs: Sequence[Array | None]) -> Array:
    return np.transpose(_data(inputs), layer.integers("perm"))


def _product(layer: Layer, inputs: Sequence[Array | None]) -> Array:
    data = _data(inputs)
    if data.ndim != 1:
        raise UnsupportedOperator("the product of a computed shape over several axes")
    total: Dim = element_count(data.tolist())
    keep = layer.integer("keepdims", 1)
    result = np.empty((1,) if keep else (), object)
    result[...] = total
    return result


def _where(layer: Layer, inputs: Sequence[Array | None]) -> Array:
    condition, a, b = (_data(inputs, i) for i in range(3))
    return np.where(condition.astype(bool), a.astype(object), b.astype(object))


STRUCTURAL: dict[str, Callable[[Layer, Sequence[Array | None]], Array]] = {
    "Cast": _cast, "Gather": _gather, "Concat": _concat, "Unsqueeze": _unsqueeze, "Squeeze": _squeeze,
    "Slice": _slice, "Reshape": _reshape, "Transpose": _transpose, "ReduceProd": _product, "Where": _where,
}

ANY_OPERAND = ("Concat", "Where")
"""Structural operators whose symbolic entries may stand in any operand."""


def slice_parameters(layer: Layer, rank: int) -> tuple[list[int], list[Item], list[Item], list[int]]:
    """Axes (counted from the front), starts, ends and steps of a Slice; starts and ends may be symbolic."""
    if layer.opset < 10:
        starts: list[Item] = list(layer.integers("starts") or [])
        ends: list[Item] = list(layer.integers("ends") or [])
        axes, steps = layer.integers("axes"), None
    else:
        starts = layer.parameter(1, "the starts operand").reshape(-1).tolist()
        ends = layer.parameter(2, "the ends operand").reshape(-1).tolist()
        axes = layer.fixed_integers(3, "the axes operand") if layer.has(3) else None
        steps = layer.fixed_integers(4, "the steps operand") if layer.has(4) else None
    axes = list(range(len(starts))) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    if not len(starts) == len(ends) == len(axes) == len(steps):
        raise layer.invalid("starts, ends, axes and steps differ in length")
    return [layer.axis(a, rank) for a in axes], starts, ends, steps


def resolve_reshape(layer: Layer, source: Shape, target: Sequence[Item]) -> Shape:
    """The shape that a Reshape's target asks for: 0 copies a dimension of ``source``, -1 is what remains.

    Raises:
        QCompilerError: the target does not fit.
    """
    keep_zeros = layer.integer("allowzero", 0) == 1
    shape: list[Item] = []
    for index, dim in enumerate(target):
        if not isinstance(dim, SymbolicDim) and dim == 0 and not keep_zeros:
            if index >= len(source):
                raise layer.invalid(f"entry {index} copies a dimension that the operand does not have")
            shape.append(source[index])
        else:
            shape.append(dim)
    unknown = [i for i, d in enumerate(shape) if d == -1]
    if len(unknown) > 1:
        raise layer.invalid("more than one entry is -1")
    if unknown:
        try:
            rest = element_count(d for i, d in enumerate(shape) if i != unknown[0])
            shape[unknown[0]] = divide(element_count(source), rest)
        except ValueError as error:
            raise layer.invalid(
                f"the entry -1 has no solution: {error}",
                found=f"operand shape {format_shape(source)}, target {format_shape(target)}", fix=FIX_BATCH,
            ) from error
    resolved = tuple(d if isinstance(d, SymbolicDim) else int(d) for d in shape)
    free = sum(isinstance(d, SymbolicDim) for d in resolved)
    if free > 1 or element_count(resolved) != element_count(source):
        raise layer.invalid(
            f"{format_shape(source)} and {format_shape(resolved)} differ in their number of elements", fix=FIX_BATCH
        )
    return resolved
