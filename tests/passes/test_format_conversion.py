"""annotate refuses formats that the target's requantize and dequantize do not take, as ``check`` foretells."""

from __future__ import annotations

import numpy as np
import pytest
from float_programs import FloatProgram, N

from qcompiler import QCompilerError, compile
from qcompiler.legality_report import check_legality
from qcompiler.ops.activation import Sigmoid
from qcompiler.ops.binary import Add
from qcompiler.ops.contraction import Matmul
from qcompiler.target import Target, load_target


@pytest.mark.parametrize("end", ["sigmoid", "sum"])
@pytest.mark.parametrize("zero_point", [0, -128])
def test_on_targets_that_cannot_convert_what_a_row_gives(end: str, zero_point: int) -> None:
    """sigmoid of tpu-int8 has zero point -128: with another one for activations nothing can take it."""
    descriptor = load_target("tpu-int8").descriptor
    act = descriptor.types["act"].model_copy(update={"zero_point": zero_point})
    target = Target(descriptor.model_copy(update={"types": {**descriptor.types, "act": act}}))
    p = FloatProgram()
    x = p.input(N, 8)
    gate = p(Sigmoid(), p(Matmul(), x, p.normal(8, 4)), layer="gate")
    p.finish(gate if end == "sigmoid" else p(Add(), gate, gate))
    data = {"x": np.random.default_rng(2).normal(0, 1, (4, 8)).astype(np.float32)}
    report = check_legality(p.graph, target=target)
    illegal = {layer.name: layer for layer in report.layers if layer.status == "illegal"}
    assert list(illegal) == ([] if zero_point else ["gate"])
    if zero_point:
        compile(p.graph, target=target, data=data, native=False)
        return
    assert "zero point -128" in illegal["gate"].violations[0].found
    with pytest.raises(QCompilerError, match="cannot convert what sigmoid gives") as refusal:
        compile(p.graph, target=target, data=data, native=False)
    assert refusal.value.layer == "gate"
