"""Outputs that do not depend on the input, such as the anchor boxes of a detector."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import qcompiler


def detector(anchors: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> onnx.ModelProto:
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Mul", ["half", "two"], ["boxes"])], "detector",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4]),
            helper.make_tensor_value_info("boxes", TensorProto.FLOAT, list(anchors.shape)),
        ],
        [numpy_helper.from_array(anchors / 2, "half"), numpy_helper.from_array(np.array([2.0], np.float32), "two")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def test_a_constant_output_is_returned_as_it_is() -> None:
    rng = np.random.default_rng()
    anchors = rng.normal(size=(3, 4)).astype(np.float32)
    x = rng.normal(size=(200, 4)).astype(np.float32)
    outputs = qcompiler.compile(detector(anchors), target="tpu-int8", data=x).run(x)
    assert outputs["y"].shape == (200, 4)
    np.testing.assert_array_equal(outputs["boxes"], anchors / 2 * 2)
