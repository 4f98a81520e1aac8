"""narrow-accumulators: split reductions compute the same, coarser weights fit, and both are proved."""

from __future__ import annotations

from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import pytest
from narrow_targets import CALIBRATED, REALIZED, target_with, wide_data, wide_program
from numpy.typing import NDArray

import qcompiler
from qcompiler.analysis.accumulators import contraction_sums
from qcompiler.analysis.reduction_parts import split_reduction
from qcompiler.errors import QCompilerError
from qcompiler.ir import Affine, Graph, Node, Value, parse, print_with_constants, walk
from qcompiler.ops.constant import constant_value
from qcompiler.ops.contraction import Contraction, Conv2DBase
from qcompiler.ops.fused import Fused
from qcompiler.ops.quantization import FakeQuant
from qcompiler.program import Program
from qcompiler.target import Target

SPLIT = f"{CALIBRATED},{REALIZED},narrow-accumulators,verify-legal"
COARSEN = f"{CALIBRATED},narrow-accumulators,{REALIZED},verify-legal"


def build(target: Target, pipeline: str) -> Program:
    return qcompiler.compile(wide_program(), target=target, data=wide_data(), pipeline=pipeline)


def contractions(graph: Graph) -> dict[str, tuple[Node, NDArray[np.int64]]]:
    """Each contraction with the integers of its weights, by layer."""
    found = {}
    outer: dict[Value, Value] = {}
    for node in graph.nodes:
        if isinstance(node.op, Fused):
            outer.update(zip(node.op.body.inputs, node.operands, strict=True))
    for node in walk(graph):
        if isinstance(node.op, Contraction):
            weights = constant_value(outer.get(node.operands[1], node.operands[1]))
            assert weights is not None
            found[node.loc[0]] = (node, weights.astype(np.int64))
    return found


def term_weights(op: Contraction, weights: NDArray[np.int64], start: int, stop: int) -> NDArray[np.int64]:
    """The weights with all terms but ``start`` to ``stop - 1`` as 0: taps row by row, then channels."""
    place = np.arange(int(np.prod(weights.shape))).reshape(weights.shape) * 0
    if isinstance(op, Conv2DBase):
        _, height, width, channels = weights.shape
        assert op.layout == "NHWC"
        place = place + (
            (np.arange(height)[:, None, None] * width + np.arange(width)[:, None]) * channels + np.arange(channels)
        )
    else:
        place = place + np.arange(weights.shape[0])[:, None]
    return np.where((place >= start) & (place < stop), weights, 0)


@pytest.mark.parametrize(("bits", "layers_split"), [(20, 2), (18, 4), (17, 5)])
def test_parts_fit_by_definition_and_the_program_stays(bits: int, layers_split: int) -> None:
    whole = build(target_with(), f"{CALIBRATED},{REALIZED},verify-legal")
    split = build(target_with(bits=bits, home="i32"), SPLIT)
    assert split.warnings == whole.warnings == []
    data = wide_data(5, seed=8)
    expected, found = whole.run(data, quantized=True), split.run(data, quantized=True)
    assert all(bool((expected[k] == found[k]).all()) for k in expected)
    rng = np.random.default_rng(bits)
    layers = contractions(split.graph)
    assert set(layers) == {"conv", "grouped", "transposed", "depthwise", "matmul"}
    assert sum(bool(node.op.parts) for node, _ in layers.values()) == layers_split  # type: ignore[attr-defined]
    for node, weights in layers.values():
        op, x = node.op, node.operands[0].type
        assert isinstance(op, Contraction)
        assert isinstance(x.elem, Affine)
        shape = (2, *(int(d) for d in x.shape[1:]))  # type: ignore[arg-type]
        zero_point = int(x.elem.zero_point.array)
        low, high = np.full(shape, x.elem.qmin - zero_point), np.full(shape, x.elem.qmax - zero_point)
        mixed, total = np.where(rng.random(shape) < 0.5, low, high), np.zeros((), np.int64)
        for start, stop in pairwise([0, *accumulate(op.parts)]):
            part = term_weights(op, weights, start, stop)
            positive, negative = np.maximum(part, 0), np.minimum(part, 0)
            # Elements are free of one another: each product can be the largest that it can be.
            assert (op.contract(high, positive) + op.contract(low, negative)).max() < 1 << (bits - 1)
            assert (op.contract(low, positive) + op.contract(high, negative)).min() >= -(1 << (bits - 1))
            total = total + op.contract(mixed, part)
        if op.parts:
            assert bool((total == op.contract(mixed, weights)).all())


def test_parts_are_as_long_as_they_can_be() -> None:
    program = build(target_with(bits=18, home="i32"), f"{CALIBRATED},realize,narrow-accumulators,verify-legal")
    for node, _ in contractions(program.graph).values():
        sums, op = contraction_sums(node), node.op
        assert isinstance(op, Contraction)
        for start, stop in pairwise([0, *accumulate(op.parts)]):
            assert sums.part(start, stop).bits <= 18
            assert stop == sums.length or sums.part(start, stop + 1).bits > 18


def test_a_product_that_does_not_fit_cannot_be_split() -> None:
    program = build(target_with(), f"{CALIBRATED},realize")
    node, _ = contractions(program.graph)["matmul"]
    sums = contraction_sums(node)
    widest = max(sums.part(i, i + 1).bits for i in range(sums.length))
    assert split_reduction(sums, widest - 1) is None
    parts = split_reduction(sums, widest)
    assert parts is not None
    assert sum(parts) == sums.length


def test_a_bias_that_alone_does_not_fit_is_added_in_the_home() -> None:
    """Then there is one part."""
    program = build(target_with(), f"{CALIBRATED},realize")
    node, _ = contractions(program.graph)["matmul"]
    sums = contraction_sums(node)
    assert split_reduction(sums, sums.products.bits) == (sums.length,)


def test_parts_read_back_and_are_checked() -> None:
    program = build(target_with(bits=20, home="i32"), SPLIT)
    text = str(program.graph)
    assert "parts = [" in text
    assert parse(*print_with_constants(program.graph)) == program.graph
    node, _ = contractions(program.graph)["matmul"]
    for parts in ((95,), (97,), (96, 0), (-1, 97)):
        with pytest.raises(Exception, match="parts must be positive and add to the 96 terms"):
            node.op.replace(parts=parts).verify([v.type for v in node.operands], [v.type for v in node.results])


def test_what_fits_is_left_alone() -> None:
    for target, pipeline in ((target_with(bits=32, home="i32"), SPLIT), (target_with(bits=32), COARSEN)):
        plain = build(target, pipeline.replace("narrow-accumulators,", ""))
        made = build(target, pipeline)
        assert str(made.graph) == str(plain.graph).replace(
            plain.graph.pipeline, made.graph.pipeline
        )


@pytest.mark.parametrize("bits", [20, 19, 17])
def test_coarser_weights_fit_and_the_warning_says_what_they_cost(bits: int) -> None:
    plain = build(target_with(), f"{CALIBRATED},{REALIZED},verify-legal")
    made = build(target_with(bits=bits), COARSEN)
    (warning,) = made.warnings
    assert f"{bits} bits" in warning
    coarser = contractions(made.graph)
    for layer, (node, weights) in contractions(plain.graph).items():
        elem, other = node.operands[1].type.elem, coarser[layer][0].operands[1].type.elem
        assert isinstance(elem, Affine)
        assert isinstance(other, Affine)
        same = elem.scale.array.reshape(-1) == other.scale.array.reshape(-1)
        assert bool((other.scale.array >= elem.scale.array).all())
        assert (f"'{layer}'" in warning) == (not same.all())
        # Channels that fitted keep their weights.
        axis = node.op.weight_channel_axis(weights.ndim)  # type: ignore[attr-defined]
        kept = np.compress(same, weights, axis)
        assert bool((kept == np.compress(same, coarser[layer][1], axis)).all())
    errors = {k: np.abs(v - plain.run(wide_data())[k]).max() for k, v in made.run(wide_data()).items()}
    assert all(0 < error < 0.2 * np.abs(plain.run(wide_data())[k]).max() for k, error in errors.items())


def test_scales_are_raised_no_further_than_needed() -> None:
    """The largest sum of a raised channel stays within a step of what the accumulator holds."""
    made = build(target_with(bits=18), f"{CALIBRATED},narrow-accumulators,realize,verify-legal")
    node, _ = contractions(made.graph)["conv"]
    bounds = contraction_sums(node).all
    used = [max(high / (2**17 - 1), low / -(2**17)) for low, high in zip(bounds.low, bounds.high, strict=True)]
    assert all(0.98 < share <= 1 for share in used)


def test_powers_of_two_stay_powers_of_two() -> None:
    target = target_with(bits=18)
    types = dict(target.descriptor.types)
    types["wt"] = types["wt"].model_copy(update={"scale": "power-of-two"})
    powers = Target(target.descriptor.model_copy(update={"types": types}))
    program = build(powers, f"{CALIBRATED},narrow-accumulators")
    marks = [n.op for n in program.graph.nodes if isinstance(n.op, FakeQuant)]
    scales = [mark.scale.array for mark in marks if mark.blocks and mark.scale]
    assert len(scales) == 5
    assert all(bool((np.frexp(s)[0] == 0.5).all()) for s in scales)
    assert any("18 bits" in warning for warning in program.warnings)
    build(powers, COARSEN)


def test_one_scale_for_all_weights() -> None:
    target = target_with(bits=18)
    types = dict(target.descriptor.types)
    types["wt"] = types["wt"].model_copy(update={"blocks": "tensor"})
    program = build(Target(target.descriptor.model_copy(update={"types": types})), COARSEN)
    assert "in 1 of 1 scales" in program.warnings[0]


@pytest.mark.parametrize(
    ("accumulator", "fix"),
    [({"bits": 18}, "between 'calibrate' and 'realize'"), ({"bits": 18, "home": "i32"}, "behind 'realize'")],
)
def test_without_the_pass_the_program_is_refused(accumulator: dict[str, Any], fix: str) -> None:
    with pytest.raises(QCompilerError, match=r"layer 'conv'") as caught:
        build(target_with(**accumulator), f"{CALIBRATED},{REALIZED},verify-legal")
    assert "bits too many" in str(caught.value.found)
    assert fix in str(caught.value.fix)
