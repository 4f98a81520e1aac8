"""One QLinear operator as an ONNX model, run by ONNX Runtime as it stands, without graph optimizations."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import helper, numpy_helper

Array = NDArray[Any]


def run_operator(
    op_type: str,
    operands: Sequence[str],
    feeds: Mapping[str, Array],
    constants: Mapping[str, Any],
    *,
    domain: str = "",
    result: Any = np.uint8,
    **attributes: Any,
) -> Array:
    """The operator's result.

    Args:
        op_type: its name.
        operands: names of its operands, in order.
        feeds: the operands that are model inputs.
        constants: the others; their number formats count.
        domain: of the operator; "com.microsoft" for ONNX Runtime's own.
        result: number format of the result.
        attributes: of the operator.
    """
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in feeds.items()
    ]
    output = helper.make_tensor_value_info("result", helper.np_dtype_to_tensor_dtype(np.dtype(result)), None)
    graph = helper.make_graph(
        [helper.make_node(op_type, list(operands), ["result"], domain=domain, **attributes)], "oracle",
        inputs, [output], [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    opsets = [helper.make_opsetid("", 19), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets)
    model.ir_version = 9
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, dict(feeds))
    assert isinstance(found, np.ndarray)
    return found


def runs_x86_kernels() -> bool:
    """Whether ONNX Runtime takes its kernels for x86 with AVX2, whose roundings the target states."""
    return platform.machine() in ("x86_64", "AMD64")
