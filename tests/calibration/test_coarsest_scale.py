"""Values that cancel on the calibration data get a scale that hardware can requantize to."""

from __future__ import annotations

import models
import numpy as np

import qcompiler
from qcompiler.ir import Affine, walk


def test_a_difference_that_cancels_compiles_and_is_reported() -> None:
    """x minus its mean, averaged again, is rounding noise in float and must not get a scale of its size."""
    w = models.ModelWriter(7)
    centred = w.node("Sub", "x", w.node("ReduceMean", "x", axes=[1]))
    model = w.model({"x": ["batch", 8]}, [w.node("ReduceMean", centred, axes=[1])])
    x = np.random.default_rng().normal(size=(20, 8)).astype(np.float32)
    program = qcompiler.compile(model, target="tpu-int8", data=x)
    (warning,) = program.warnings
    assert "nearly cancel" in warning
    means = [n for n in walk(program.graph) if n.op.name == "mean"]
    source, result = means[-1].operands[0].type.elem, means[-1].result.type.elem
    assert isinstance(source, Affine)
    assert isinstance(result, Affine)
    assert float(result.scale.array) >= float(source.scale.array) / 256
    (outputs,) = program.run(x).values()
    assert np.abs(outputs).max() <= float(source.scale.array)
