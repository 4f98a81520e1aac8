"""Evaluates one node on arrays known at import, with ONNX's own reference implementation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from qcompiler.frontends.onnx.layer import NONDETERMINISTIC, Layer, UnsupportedOperator, missing_operator
from qcompiler.frontends.onnx.tensor_data import tensor_array

Array = NDArray[Any]


def evaluate_node(layer: Layer, inputs: Sequence[Array | None]) -> list[Array]:
    """The node's results, in output order.

    Args:
        layer: the node.
        inputs: its operands in order; None for absent optional ones.

    Raises:
        UnsupportedOperator: it is random, has subgraphs, or ONNX cannot evaluate it on these operands.
    """
    node = layer.node
    subgraphs = any(a.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS) for a in node.attribute)
    if node.op_type in NONDETERMINISTIC or subgraphs or node.domain not in ("", "ai.onnx"):
        raise UnsupportedOperator(missing_operator(layer.op_type))
    names = {name: array for name, array in zip(node.input, inputs, strict=True) if array is not None}
    graph = onnx.helper.make_graph(
        [node], "node",
        [
            onnx.helper.make_tensor_value_info(n, onnx.helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
            for n, a in names.items()
        ],
        [onnx.helper.make_value_info(name, onnx.TypeProto()) for name in node.output if name],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", layer.opset)])
    try:
        with np.errstate(all="ignore"):
            results = ReferenceEvaluator(model).run(None, names)
    except Exception as error:  # the reference implementation has no common error type
        raise UnsupportedOperator(f"it cannot be evaluated at import: {error}") from error
    arrays = [np.asarray(result) for result in results]
    if any(array.dtype.kind in "OSU" for array in arrays):
        raise UnsupportedOperator("its result holds no numbers")
    return arrays


def constant_value(layer: Layer) -> Array:
    """The array of a Constant node.

    Raises:
        UnsupportedOperator: it holds strings or a sparse tensor.
    """
    for name, value in layer.attributes.items():
        if name == "value" and isinstance(value, onnx.TensorProto):
            return tensor_array(value, layer.name)
        if name in ("value_float", "value_floats"):
            return np.asarray(value, np.float32)
        if name in ("value_int", "value_ints"):
            return np.asarray(value, np.int64)
    held = ", ".join(layer.attributes) or "nothing"
    raise UnsupportedOperator(f"a constant must hold dense numbers, found {held}")
