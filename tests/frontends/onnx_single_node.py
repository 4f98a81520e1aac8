"""Builds small ONNX models, runs them imported, and compares them with ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from qcompiler.backends.reference import run
from qcompiler.frontends.onnx import import_model
from qcompiler.ir import Graph, verify

Array = NDArray[Any]
Dims = Sequence[int | str]
"""Sizes, and names of dynamic dimensions."""


def model_of(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Any],
    outputs: Sequence[str],
    constants: Mapping[str, Any] | None = None,
    opset: int = 17,
) -> onnx.ModelProto:
    """A model of ``nodes``; inputs are (dtype, shape) by name, constants are initializers."""
    graph = helper.make_graph(
        list(nodes), "case",
        [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), list(shape))
            for name, (dtype, shape) in inputs.items()
        ],
        [helper.make_value_info(name, onnx.TypeProto()) for name in outputs],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in (constants or {}).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = 4 if opset < 11 else 8
    return onnx.shape_inference.infer_shapes(model)


def node_model(
    op_type: str,
    inputs: Mapping[str, Any],
    constants: Mapping[str, Any] | None = None,
    *,
    order: Sequence[str] | None = None,
    outputs: Sequence[str] = ("y",),
    opset: int = 17,
    **attributes: Any,
) -> onnx.ModelProto:
    """A model of one node named "layer" whose operands are the inputs and then the constants, or ``order``."""
    operands = [*inputs, *(constants or {})] if order is None else list(order)
    node = helper.make_node(op_type, operands, list(outputs), name="layer", **attributes)
    return model_of([node], inputs, outputs, constants, opset)


def compare(
    model: onnx.ModelProto,
    feeds: Mapping[str, Array],
    *,
    exact: bool = False,
    shapes: Mapping[str, Sequence[int]] | None = None,
    batch: int | None = None,
) -> Graph:
    """Import ``model`` and require ONNX Runtime's results: bit for bit if ``exact``, else to float rounding."""
    graph = import_model(model, shapes=shapes, batch=batch)
    verify(graph)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = session.run(None, dict(feeds))
    results = run(graph, feeds)
    assert list(results) == [output.name for output in model.graph.output]
    for result, wanted in zip(results.values(), expected, strict=True):
        assert result.shape == wanted.shape
        assert result.dtype == wanted.dtype
        if exact:
            np.testing.assert_array_equal(result, wanted)
        else:
            np.testing.assert_allclose(result, wanted, rtol=2e-5, atol=2e-6 * max(1.0, float(np.abs(wanted).max())))
    return graph


def op_names(graph: Graph) -> list[str]:
    """Names of the ops in order, constants left out."""
    return [node.op.name for node in graph.nodes if node.op.name != "constant"]


