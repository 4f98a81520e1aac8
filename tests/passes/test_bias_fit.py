"""calibrate raises a weight scale where a bias does not fit, for accumulators and biases of any width."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from float_programs import FloatProgram, N
from narrow_targets import CALIBRATED, target_with

import qcompiler
from qcompiler.ir import Graph
from qcompiler.ops.constant import constant_value
from qcompiler.ops.contraction import Matmul
from qcompiler.ops.quantization import FakeQuant
from qcompiler.program import Program
from qcompiler.target import Target


def target(types: dict[str, Any] | None = None, **accumulator: Any) -> Target:
    """tpu-int8 with other accumulators, and other entries of its types."""
    made = target_with(**accumulator)
    changed = {
        name: spec.model_copy(update=(types or {}).get(name, {})) for name, spec in made.descriptor.types.items()
    }
    return Target(made.descriptor.model_copy(update={"types": changed}))


def build(target: Target, bias: float) -> Program:
    """Three columns of which the second has a large bias, calibrated."""
    p = FloatProgram()
    x = p.input(N, 4)
    weights = p.constant(np.array([[1, 1, 1], [-1, 0.5, 0.25], [0.5, 1, 1], [0.25, -1, 0.5]]))
    p.graph.set_outputs([("y", p(Matmul(), x, weights, p.constant([0.5, bias, -0.5]), layer="fc"))])
    data = np.random.default_rng(4).uniform(-1, 1, (16, 4)).astype(np.float32)
    return qcompiler.compile(p.graph, target=target, data=data, pipeline=CALIBRATED)


def bias_warnings(program: Program) -> list[str]:
    """What was said of biases."""
    return [warning for warning in program.warnings if "bias" in warning]


def steps_of_bias(graph: Graph) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The bias in steps of the accumulator, and the weight scales."""
    (node,) = (n for n in graph.nodes if isinstance(n.op, Matmul))
    x, w = (v.producer.op for v in node.operands[:2] if v.producer)
    bias = constant_value(node.operands[2])
    assert isinstance(x, FakeQuant)
    assert isinstance(w, FakeQuant)
    assert x.scale is not None
    assert w.scale is not None
    assert bias is not None
    return np.abs(bias.astype(np.float64) / (float(x.scale.array) * w.scale.array.reshape(-1).astype(np.float64)))


WIDTHS = [
    ({"bits": 32}, {}, 30), ({"bits": 24}, {}, 22), ({"bits": 20}, {}, 18), ({"bits": 20, "home": "i32"}, {}, 30),
    ({"bits": 32}, {"bias": {"storage": "i16"}}, 14),
    ({"bits": 48}, {"bias": {"storage": "i64"}, "acc": {"storage": "i64"}}, 46),
    ({"bits": 40, "home": "i64"}, {"bias": {"storage": "i64"}, "acc": {"storage": "i64"}}, 62),
]


@pytest.mark.parametrize(("accumulator", "types", "limit"), WIDTHS)
def test_a_bias_stays_below_half_of_what_holds_it(
    accumulator: dict[str, Any], types: dict[str, Any], limit: int
) -> None:
    made = target(types, **accumulator)
    step = 1 / 127 * 2 / 255
    fits, too_large = 2.0 ** (limit - 1) * step, 2.0 ** (limit + 3) * step
    plain = build(made, fits)
    assert bias_warnings(plain) == []
    assert 2.0 ** (limit - 2) < steps_of_bias(plain.graph)[1] < 2.0**limit
    raised = build(made, too_large)
    (warning,) = bias_warnings(raised)
    assert "1 weight channels in 1 layers" in warning
    assert "'fc'" in warning
    found = steps_of_bias(raised.graph)
    assert found[1] == pytest.approx(2.0**limit, rel=1e-6)
    # The other channels keep their scales.
    assert bool((found[[0, 2]] == steps_of_bias(plain.graph)[[0, 2]]).all())


def test_one_scale_for_all_weights_is_raised_for_the_largest_bias() -> None:
    made = target({"wt": {"blocks": "tensor"}}, bits=20)
    assert bias_warnings(build(made, 2.0**10 / 127 / 127)) == []
    raised = build(made, 1e6)
    assert "'fc'" in bias_warnings(raised)[0]
    assert steps_of_bias(raised.graph).max() == pytest.approx(2.0**18, rel=1e-6)


def test_a_power_of_two_is_raised_to_the_next_one() -> None:
    made = target({"wt": {"scale": "power-of-two"}, "act": {"scale": "power-of-two"}}, bits=20)
    raised = build(made, 1e6)
    assert "'fc'" in bias_warnings(raised)[0]
    assert 2.0**17 < steps_of_bias(raised.graph)[1] <= 2.0**18
    (node,) = (n for n in raised.graph.nodes if isinstance(n.op, Matmul))
    assert node.operands[1].producer is not None
    mark = node.operands[1].producer.op
    assert isinstance(mark, FakeQuant)
    assert mark.scale is not None
    assert bool((np.frexp(mark.scale.array)[0] == 0.5).all())
