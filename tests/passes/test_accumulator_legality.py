"""verify-legal on sums: what the target does on overflow, calibrated proofs, homes, several widths."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from contraction_programs import CASES, contraction_program, output_channels
from float_programs import FloatProgram, N
from narrow_targets import CALIBRATED, REALIZED, target_with, without_data

import qcompiler
from qcompiler.analysis.accumulators import contraction_sums
from qcompiler.errors import QCompilerError
from qcompiler.ir import Affine, Graph, Scalar, TensorType, clone
from qcompiler.ir.scalar import I8, I16, I32, I64
from qcompiler.ops.contraction import Matmul
from qcompiler.passes.accumulator_legality import AccumulatorLegality
from qcompiler.pipeline import Pipeline
from qcompiler.program import Program

FORMATS: dict[int, tuple[Scalar, Scalar, Scalar]] = {
    20: (I8, I8, I32), 32: (I8, I8, I32), 40: (I16, I8, I64), 48: (I16, I16, I64), 64: (I16, I32, I64),
}
"""Storage of x, w and the result, by the width of the accumulator."""


@pytest.mark.parametrize("width", FORMATS)
@pytest.mark.parametrize("name", ["conv", "depthwise", "grouped", "transposed", "matmul"])
def test_one_bit_too_wide_is_refused_with_the_bits_named(name: str, width: int) -> None:
    """The largest sum is the largest of ``width`` bits; then of one bit more, and of three."""
    op, shape, weights_shape = CASES[name]
    x_storage, w_storage, storage = FORMATS[width]
    rng = np.random.default_rng(width)
    x = TensorType(shape, Affine.per_tensor(x_storage, 1.0, 1))
    weights = rng.integers(w_storage.minimum // 4, w_storage.maximum // 4, weights_shape)
    zeros = np.zeros(output_channels(op, weights_shape), np.int64)
    highs = contraction_sums(contraction_program(op, x, weights, zeros, w_storage, storage).node).products.high

    def prove(largest: int, accumulator: int) -> None:
        bias = np.array([largest - high for high in highs], object)
        if max(map(abs, bias)) > storage.maximum:
            bias = np.clip(bias, storage.minimum, storage.maximum)
        case = contraction_program(op, x, weights, bias.astype(np.int64), w_storage, storage)
        AccumulatorLegality(target_with(bits=accumulator)).check(case.node, {}, {})

    largest = (1 << (width - 1)) - 1
    prove(largest, width)
    for missing in (1, 3):
        with pytest.raises(QCompilerError, match="layer 'layer'") as caught:
            prove(largest, width - missing)
        assert f"{width - missing} bits" in str(caught.value.expected)
        assert str(caught.value.found).endswith(f"to {largest}: {missing} bits too many")
    if width < 64:
        with pytest.raises(QCompilerError, match="1 bits too many"):
            prove(largest + 1, width)


def test_the_storage_of_the_result_limits_wider_accumulators() -> None:
    x = TensorType((1, 4), Affine.per_tensor(I8, 1.0))
    case = contraction_program(Matmul(), x, np.full((4, 1), 100), np.array([2**31 - 1]), I8)
    with pytest.raises(QCompilerError, match="accumulators have 32 bits"):
        AccumulatorLegality(target_with(bits=64)).check(case.node, {}, {})


def program(**accumulator: Any) -> Program:
    """A matmul whose sums need more bits in the worst case than on its data; weights of both signs."""
    p = FloatProgram()
    x = p.input(N, 64)
    p.graph.set_outputs([("y", p(Matmul(), x, p.normal(64, 3), layer="fc"))])
    data = np.random.default_rng(2).normal(0, 1, (16, 64)).astype(np.float32)
    return qcompiler.compile(
        p.graph, target=target_with(**accumulator), data=data, pipeline=f"{CALIBRATED},{REALIZED},verify-legal"
    )


WORST = 20
SEEN = 17


@pytest.mark.parametrize("overflow", ["saturate", "wrap"])
def test_a_calibrated_proof_warns_of_inputs_that_were_not_seen(overflow: str) -> None:
    assert program(bits=WORST, overflow=overflow, proof="calibrated").warnings == []
    (warning,) = program(bits=SEEN, overflow=overflow, proof="calibrated").warnings
    assert f"could make them {overflow}" in warning
    assert f"'fc' ({WORST - SEEN} bits)" in warning
    with pytest.raises(QCompilerError, match="layer 'fc'") as caught:
        program(bits=SEEN - 1, overflow=overflow, proof="calibrated")
    assert "on calibration data: 1 bits too many" in str(caught.value.found)
    with pytest.raises(QCompilerError, match="layer 'fc'"):
        program(bits=WORST - 1, overflow=overflow)


def test_a_calibrated_proof_needs_data() -> None:
    graph = clone(program(bits=32).graph)
    target = target_with(bits=SEEN, overflow="saturate", proof="calibrated")
    with pytest.raises(QCompilerError, match="no data") as caught:
        Pipeline.parse("verify-legal").run(graph, without_data(target))
    assert "give calibration data" in str(caught.value.fix)


def _with_parts(graph: Graph, parts: tuple[int, ...]) -> Graph:
    graph = clone(graph)
    for node in graph.nodes:
        body = getattr(node.op, "body", None)
        for inner in body.nodes if isinstance(body, Graph) else ():
            if isinstance(inner.op, Matmul):
                inner.set_op(inner.op.replace(parts=parts))
    return graph


def test_each_part_is_proved_and_needs_a_home() -> None:
    graph = program(bits=32).graph
    prove = Pipeline.parse("verify-legal").run
    prove(_with_parts(graph, (32, 32)), without_data(target_with(bits=19, home="i32")))
    with pytest.raises(QCompilerError, match="names no home"):
        prove(_with_parts(graph, (32, 32)), without_data(target_with(bits=32)))
    with pytest.raises(QCompilerError, match="part 1 of 2: sums from"):
        prove(_with_parts(graph, (63, 1)), without_data(target_with(bits=19, home="i32")))
    with pytest.raises(QCompilerError, match="part 2 of 3: sums from"):
        prove(_with_parts(graph, (1, 62, 1)), without_data(target_with(bits=19, home="i32")))


def test_the_home_is_proved_too() -> None:
    x = TensorType((1, 4), Affine.per_tensor(I8, 1.0))
    case = contraction_program(Matmul(parts=(2, 2)), x, np.full((4, 1), 100), np.array([2**31 - 1]), I8)
    with pytest.raises(QCompilerError, match="partial sums are kept in 32 bits"):
        AccumulatorLegality(target_with(bits=20, home="i32")).check(case.node, {}, {})


def test_two_computed_operands_have_no_weights_to_rescale() -> None:
    p = FloatProgram()
    x, z = p.input(N, 4, 64), p.input(N, 64, 4, name="z")
    p.graph.set_outputs([("y", p(Matmul(), x, z, layer="scores"))])
    rng = np.random.default_rng(3)
    data = {"x": rng.normal(0, 1, (4, 4, 64)), "z": rng.normal(0, 1, (4, 64, 4))}
    samples = {key: array.astype(np.float32) for key, array in data.items()}
    narrow = f"{CALIBRATED},narrow-accumulators,{REALIZED},verify-legal"
    with pytest.raises(QCompilerError, match="layer 'scores'") as caught:
        qcompiler.compile(p.graph, target=target_with(bits=20), data=samples, pipeline=narrow)
    assert "both operands are computed" in str(caught.value.fix)
    split = f"{CALIBRATED},{REALIZED},narrow-accumulators,verify-legal"
    made = qcompiler.compile(p.graph, target=target_with(bits=20, home="i32"), data=samples, pipeline=split)
    whole = qcompiler.compile(p.graph, target=target_with(), data=samples, pipeline=split)
    assert "parts = [" in str(made.graph)
    assert bool((made.run(samples)["y"] == whole.run(samples)["y"]).all())
