"""The reference interpreter: numpy, exact for every op, type and arithmetic. It defines what a program means."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcompiler.errors import QCompilerError
from qcompiler.ir import Graph, Node, OpTypeError, Tensor, Value
from qcompiler.ir.types import TensorType
from qcompiler.ops.fused import bound_symbols, evaluate_node

Array = NDArray[Any]
Observe = Callable[[Value, Tensor], None]


def run(graph: Graph, feeds: Mapping[str, Array], observe: Observe | None = None) -> dict[str, Array]:
    """Run a program.

    Args:
        graph: any verified program.
        feeds: stored numbers of each graph input, by name, in the input's storage format.
        observe: called with every value as soon as it is computed, those in fused bodies included.

    Returns:
        Stored numbers of each output, by name.

    Raises:
        QCompilerError: a feed is missing or does not fit its input; an op meets numbers it is not defined on.
    """
    values, symbols = _bind_inputs(graph, feeds)
    if observe:
        for value, tensor in values.items():
            observe(value, tensor)
    remaining = {value: len(value.uses) for value in values}
    for node in graph.nodes:
        _evaluate(node, values, symbols, observe)
        for value in node.results:
            remaining[value] = len(value.uses)
        # A value is dropped after its last use, so that peak memory is that of the widest cut.
        for value in node.operands:
            remaining[value] -= 1
            if not remaining[value]:
                values.pop(value, None)
    return {output.name: values[output.value].data for output in graph.outputs}


def _evaluate(node: Node, values: dict[Value, Tensor], symbols: dict[str, int], observe: Observe | None) -> None:
    body = getattr(node.op, "body", None)
    try:
        if isinstance(body, Graph):
            inner = {inside: values[outside] for inside, outside in zip(body.inputs, node.operands, strict=True)}
            for part in body.nodes:
                _evaluate(part, inner, symbols, observe)
            for outside, output in zip(node.results, body.outputs, strict=True):
                values[outside] = inner[output.value]
        else:
            evaluate_node(node, values, symbols)
    except OpTypeError as error:
        raise QCompilerError(f"{node.op.name}: {error}", layer=node.layer) from error
    if observe:
        for value in node.results:
            observe(value, values[value])


def _bind_inputs(graph: Graph, feeds: Mapping[str, Array]) -> tuple[dict[Value, Tensor], dict[str, int]]:
    unknown = set(feeds) - {v.name for v in graph.inputs}
    if unknown:
        raise QCompilerError(
            f"the program has no input {sorted(unknown)[0]!r}", expected=", ".join(v.name for v in graph.inputs)
        )
    arrays = []
    for value in graph.inputs:
        if value.name not in feeds:
            raise QCompilerError(f"input {value.name!r} is missing")
        array = np.asarray(feeds[value.name])
        if array.dtype != value.type.storage.dtype or array.ndim != value.type.rank:
            raise QCompilerError(
                f"input {value.name!r} does not fit", expected=str(value.type), found=f"{array.dtype}{array.shape}"
            )
        arrays.append(array)
    types = [v.type for v in graph.inputs]
    symbols = bound_symbols(types, [TensorType(a.shape, t.elem) for a, t in zip(arrays, types, strict=True)])
    values = {}
    for value, array in zip(graph.inputs, arrays, strict=True):
        bound = value.type.bind(symbols)
        if bound.shape != array.shape:
            raise QCompilerError(
                f"input {value.name!r} has the wrong shape", expected=str(value.type), found=str(list(array.shape))
            )
        values[value] = Tensor(bound, array)
    return values, symbols
