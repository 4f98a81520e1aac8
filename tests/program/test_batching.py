"""Programs whose outputs do not have the samples along their first axis."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import qcompiler
from qcompiler.errors import QCompilerError


def compiled(operator: str, shape: list[Any], **attributes: Any) -> qcompiler.Program:
    """One operator on values between -1 and 1."""
    graph = helper.make_graph(
        [helper.make_node(operator, ["x"], ["y"], name="layer", **attributes)], "case",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)], [onnx.ValueInfoProto(name="y")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 12)], ir_version=7)
    rows = shape[0] if isinstance(shape[0], int) else 4
    data = np.linspace(-1, 1, rows * shape[1], dtype=np.float32).reshape(rows, shape[1])
    return qcompiler.compile(model, target="tpu-int8", data=data)


def samples(count: int, width: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng().uniform(-1, 1, (count, width)).astype(np.float32)


@pytest.mark.parametrize("count", [1, 64, 100, 128])
def test_samples_on_the_second_axis(count: int) -> None:
    program = compiled("Transpose", ["N", 8], perm=[1, 0])
    x = samples(count, 8)
    y = program.run(x)["y"]
    assert y.shape == (8, count)
    np.testing.assert_allclose(y, x.T, atol=1 / 255 + 1e-6)


def test_a_fixed_batch_with_another_axis_first_runs_one_batch() -> None:
    program = compiled("Transpose", [4, 8], perm=[1, 0])
    x = samples(4, 8)
    np.testing.assert_allclose(program.run(x)["y"], x.T, atol=1 / 255 + 1e-6)
    for count in (3, 8):
        with pytest.raises(QCompilerError, match="do not fill the program's fixed batch"):
            program.run(samples(count, 8))


@pytest.mark.parametrize("rows", [1, 4])
def test_a_scalar_output_runs_one_batch(rows: int) -> None:
    program = compiled("ReduceSum", [rows, 8], keepdims=0)
    assert program.run(samples(rows, 8))["y"].shape == ()
    with pytest.raises(QCompilerError, match="do not fill the program's fixed batch"):
        program.run(samples(rows + 1, 8))
