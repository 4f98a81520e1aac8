"""Contractions with weights in groups: what the definition gives, in Python's integers, and true types."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_weight_groups import defined_sums, grouped_type, stored_integers

from qcompiler.analysis.accumulators import accumulator_bounds
from qcompiler.backends import reference
from qcompiler.errors import QCompilerError
from qcompiler.ir import (
    Affine,
    Builder,
    ConstantArray,
    Graph,
    Scalar,
    TensorType,
    parse,
    print_with_constants,
    structural_hash,
    verify,
)
from qcompiler.ir.scalar import F32, I4, I8, I16, I32, I64, U8
from qcompiler.ops.constant import Constant
from qcompiler.ops.contraction import Contraction, Conv2D, ConvTranspose2D, Matmul

LAYERS: dict[str, tuple[Contraction, tuple[int, ...], tuple[int, ...]]] = {
    "convolution": (Conv2D(pads=(1, 0, 1, 2), layout="NHWC"), (2, 4, 3, 7), (3, 2, 3, 7)),
    "strides and groups": (Conv2D((2, 1), (1, 2), groups=2, layout="NHWC"), (1, 5, 5, 6), (4, 2, 2, 3)),
    "depthwise": (Conv2D(groups=4, pads=(1, 1, 1, 1), layout="NHWC"), (1, 3, 3, 4), (4, 3, 3, 1)),
    "channels first": (Conv2D(layout="NCHW"), (1, 5, 3, 3), (2, 5, 2, 2)),
    "transposed": (ConvTranspose2D((2, 2), pads=(0, 1, 1, 0), layout="NHWC"), (1, 3, 2, 5), (3, 2, 3, 5)),
    "matmul": (Matmul(), (3, 11), (11, 4)),
    "matmul of rows": (Matmul(True), (3, 11), (4, 11)),
}
ACTIVATIONS: tuple[Scalar, ...] = (I8, U8, I16)
seeds = st.integers(0, (1 << 32) - 1)


def program(seed: int, name: str, activation: Scalar, largest: int = 15) -> tuple[Graph, Any]:
    """A contraction of random weights in groups, and the operands' numbers."""
    rng = np.random.default_rng(seed)
    op, x_shape, w_shape = LAYERS[name]
    elem, multipliers = grouped_type(rng, op, w_shape, largest=largest)
    op = op.replace(group_multipliers=multipliers)
    x_elem = Affine.per_tensor(activation, 0.5, int(rng.integers(activation.minimum, activation.maximum + 1)))
    graph = Graph("groups")
    x = graph.add_input("x", TensorType(x_shape, x_elem))
    build = Builder(graph, loc=("layer",))
    stored = stored_integers(rng, elem, w_shape)
    w = build(Constant(ConstantArray(stored)), elem=elem)
    shape = op.infer_shapes([x.type, w.type])[0]
    storage = I64 if activation is I16 else I32
    types = [x.type, w.type]
    bias_type = op.accumulator(types, shape, storage, of_bias=True)
    channels = w_shape[op.weight_channel_axis(len(w_shape))]
    bias = rng.integers(-(1 << 20), 1 << 20, channels).astype(storage.dtype)
    b = build(Constant(ConstantArray(bias)), elem=bias_type)
    graph.set_outputs([("y", build(op, x, w, b, elem=op.accumulator(types, shape, storage)))])
    return graph, (stored_integers(rng, x_elem, x_shape), stored, bias)


def node_of(graph: Graph) -> Any:
    return next(n for n in graph.nodes if isinstance(n.op, Contraction))


@pytest.mark.parametrize("name", LAYERS)
@given(seed=seeds, activation=st.sampled_from(ACTIVATIONS), largest=st.sampled_from([2, 15, 255]))
@settings(max_examples=6)
def test_sums_are_those_of_the_definition(name: str, seed: int, activation: Scalar, largest: int) -> None:
    graph, (x, w, bias) = program(seed, name, activation, largest)
    verify(graph)
    node = node_of(graph)
    elem, x_elem = node.operands[1].type.elem, node.operands[0].type.elem
    sums = defined_sums(
        node.op, x, int(x_elem.zero_point.array), w, elem.blocks, node.op.group_multipliers.array
    )
    found = reference.run(graph, {"x": x})["y"]
    axis = node.op.result_channel_axis(found.ndim)
    bounds = np.broadcast_to(accumulator_bounds(node), bias.shape)
    for index in np.ndindex(found.shape):
        assert int(found[index]) == sums.get(index, 0) + int(bias[index[axis]])
        assert abs(int(found[index])) <= bounds[index[axis]]


@pytest.mark.parametrize("name", LAYERS)
@given(seed=seeds)
@settings(max_examples=4)
def test_types_are_true(name: str, seed: int) -> None:
    """The float contraction of dequantized operands is the dequantized sum, up to float64's rounding."""
    graph, (x, w, bias) = program(seed, name, I8)
    node = node_of(graph)
    x_elem, w_elem = (v.type.elem for v in node.operands[:2])
    real_x = (x.astype(np.float64) - int(x_elem.zero_point.array)) * float(x_elem.scale.array)
    real_w = w * w_elem.scale_for(w.shape).astype(np.float64)
    shape = [-1 if i == node.op.result_channel_axis(x.ndim) else 1 for i in range(x.ndim)]
    acc = node.result.type.elem
    wanted = node.op.contract(real_x, real_w) + (bias * acc.scale.array.reshape(-1).astype(np.float64)).reshape(shape)
    found = reference.run(graph, {"x": x})["y"] * acc.scale.array.astype(np.float64)
    # The accumulator's scale is a float32 product, rounded once.
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=np.abs(wanted).max() * 1e-6)


def test_the_bound_of_an_accumulator_is_reached() -> None:
    """Weights, multipliers and activations at their ends."""
    op = Matmul(group_multipliers=ConstantArray(np.full((2, 1), 15, np.uint8)))
    elem = Affine.blocked(I4, np.full((2, 1), 15 * 0.25, np.float32), 0, (3, 1))
    graph = Graph()
    x = graph.add_input("x", TensorType((1, 5), Affine.per_tensor(I8, 1.0, 127)))
    build = Builder(graph)
    w = build(Constant(ConstantArray(np.full((5, 1), -8, np.int8))), elem=elem)
    y = build(op, x, w, elem=op.accumulator([x.type, w.type], (1, 1), I32))
    graph.set_outputs([("y", y)])
    verify(graph)
    found = reference.run(graph, {"x": np.full((1, 5), -128, np.int8)})["y"]
    assert found.item() == 5 * 255 * 8 * 15 == accumulator_bounds(node_of(graph)).item()


@pytest.mark.parametrize("name", LAYERS)
@given(seed=seeds)
@settings(max_examples=4)
def test_text_and_hash_hold_the_multipliers(name: str, seed: int) -> None:
    graph, _ = program(seed, name, I8)
    again = parse(*print_with_constants(graph))
    assert node_of(again).op == node_of(graph).op
    assert structural_hash(again) == structural_hash(graph)
    node = node_of(again)
    other = np.where(node.op.group_multipliers.array == 1, 2, 1).astype(np.uint8)
    node.set_op(node.op.replace(group_multipliers=ConstantArray(other)))
    assert structural_hash(again) != structural_hash(graph)


def of_rows(multipliers: Any, scale: Any, blocks: tuple[int, ...] = (1, 4), zero_point: int = 0) -> None:
    """Verify a matrix product of two rows of six weights with these groups."""
    op = Matmul(True, group_multipliers=None if multipliers is None else ConstantArray(multipliers))
    types = [
        TensorType((1, 6), Affine.per_tensor(I8, 0.5)),
        TensorType((2, 6), Affine.blocked(I4, np.asarray(scale, np.float32), zero_point, blocks)),
    ]
    op.verify(types, [TensorType((1, 2), op.accumulator(types, (1, 2), I32))])


GOOD = np.array([[1, 15], [3, 2]], np.uint8)
SCALES = [[0.25, 3.75], [1.5, 1.0]]
BROKEN: dict[str, tuple[Any, Any, str]] = {
    "no multipliers": (None, SCALES, "one scale, or one for each index of axis 0"),
    "another format": (GOOD.astype(np.int8), SCALES, "are uint8"),
    "another grid": (GOOD[:, :1], SCALES, r"shape \(2, 1\) do not fit a grid of \(2, 2\)"),
    "a multiplier of 0": (np.array([[0, 15], [3, 2]], np.uint8), SCALES, "at least 1"),
    "scales of other ratios": (GOOD, [[0.25, 3.75], [1.5, 1.25]], "one number for each channel"),
    "a scale that rounding changed": (GOOD, [[0.25, np.nextafter(np.float32(3.75), np.float32(4))], SCALES[1]],
                                      "one number for each channel"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_multipliers_that_do_not_fit_the_types_are_refused(name: str) -> None:
    of_rows(GOOD, SCALES)
    multipliers, scale, problem = BROKEN[name]
    with pytest.raises(Exception, match=problem):
        of_rows(multipliers, scale)


def test_groups_have_zero_point_0_and_one_channel() -> None:
    with pytest.raises(Exception, match="zero point 0"):
        of_rows(GOOD, SCALES, zero_point=1)
    with pytest.raises(Exception, match="groups of one index of axis 0"):
        of_rows(GOOD[:1], SCALES[:1], (2, 4))


def test_float_weights_have_no_multipliers() -> None:
    graph = Graph()
    x = graph.add_input("x", TensorType((1, 6), F32))
    w = Builder(graph)(Constant(ConstantArray(np.ones((2, 6), np.float32))), elem=F32)
    graph.set_outputs([("y", Builder(graph, loc=("fc",))(Matmul(True), x, w))])
    node_of(graph).set_op(Matmul(True, group_multipliers=ConstantArray(GOOD)))
    with pytest.raises(QCompilerError, match=r"layer 'fc'.*weights are not quantized"):
        verify(graph)


def test_integer_weights_of_other_types() -> None:
    """Without groups they are the stored integers less their zero point."""
    elem = Affine.blocked(I8, [[0.5], [0.25]], [[3], [-128]], (1, 2))
    stored = np.array([[127, -128], [5, 127]], np.int8)
    found = Matmul(True).integer_weights(TensorType((2, 2), elem), stored)
    np.testing.assert_array_equal(found, [[124, -131], [133, 255]])
