"""Rounding of weights in groups by what it does to a layer's results."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler.calibration.data import open_data
from qcompiler.ir import Builder, ConstantArray, Graph, Node, SymbolicDim, TensorType, verify
from qcompiler.ir.scalar import F32, I4
from qcompiler.ops.constant import Constant, constant_value
from qcompiler.ops.contraction import Contraction, Conv2D, ConvTranspose2D, Matmul
from qcompiler.ops.quantization import FakeQuant
from qcompiler.passes.grouped_weights import raise_group_scales, set_group_scales
from qcompiler.passes.round_weights import RoundWeights
from qcompiler.pipeline import Context

N = SymbolicDim("N")
LAYERS: dict[str, tuple[Contraction, tuple[int, ...], tuple[int, ...], tuple[int, ...]]] = {
    "dense": (Conv2D(pads=(1, 1, 1, 1), layout="NHWC"), (6, 6, 20), (6, 3, 3, 20), (1, 1, 1, 8)),
    "grouped": (Conv2D(groups=2, layout="NHWC"), (6, 6, 20), (6, 3, 2, 10), (1, 1, 1, 4)),
    "transposed, channels first": (ConvTranspose2D((2, 2)), (20, 4, 4), (5, 20, 2, 2), (1, 16, 1, 1)),
    "matmul": (Matmul(), (30,), (30, 7), (16, 1)),
    "matmul of rows": (Matmul(True), (30,), (7, 30), (1, 16)),
}


def layer(name: str, weights: np.ndarray, bias: np.ndarray) -> tuple[Graph, Node]:
    """A contraction whose weights are marked to be held in 4 bits, in groups, with scales chosen without data."""
    op, size, _, blocks = LAYERS[name]
    graph = Graph("layer")
    x = graph.add_input("x", TensorType((N, *size), F32))
    build = Builder(graph, loc=("layer",))
    mark = FakeQuant(I4, -8, 7, blocks, fixed_zero_point=0, multiplier_range=(1, 15))
    w = build(mark, build(Constant(ConstantArray(weights)), elem=F32))
    node = build.create(op, [x, w, build(Constant(ConstantArray(bias)), elem=F32)])
    graph.set_outputs([("y", node.result)])
    assert w.producer is not None
    set_group_scales(w.producer)
    return graph, node


def held(node: Node) -> tuple[np.ndarray, np.ndarray]:
    """Weights as they are held, and the bias, in float64."""
    mark = node.operands[1].producer
    assert mark is not None
    assert isinstance(mark.op, FakeQuant)
    stored, bias = constant_value(mark.operands[0]), constant_value(node.operands[2])
    assert stored is not None
    assert bias is not None
    steps = mark.op.elem.scale_for(stored.shape).astype(np.float64)
    return np.clip(np.rint(stored / steps), -8, 7) * steps, bias.astype(np.float64)


def results(node: Node, x: np.ndarray, weights: np.ndarray, bias: np.ndarray) -> np.ndarray:
    op = node.op
    assert isinstance(op, Contraction)
    total = op.contract(x.astype(np.float64), weights)
    shape = [-1 if i == op.result_channel_axis(total.ndim) else 1 for i in range(total.ndim)]
    return np.asarray(total + bias.reshape(shape))


@pytest.mark.parametrize("name", LAYERS)
def test_results_are_nearer_than_with_nearest_weights(name: str) -> None:
    """On inputs that correlate, have a mean, and matter unequally."""
    _, size, shape, _ = LAYERS[name]
    rng = np.random.default_rng(11)
    weights = rng.normal(0, 1, shape).astype(np.float32)
    op = LAYERS[name][0]
    channels = shape[op.weight_channel_axis(len(shape))]
    bias = rng.normal(0, 1, channels).astype(np.float32)
    graph, node = layer(name, weights, bias)
    x = rng.normal(0, 0.3, (64, *size)) + rng.normal(2, 1, (64, *[1] * len(size)))
    x = (x * rng.lognormal(0, 0.7, size)).astype(np.float32)
    wanted = results(node, x, weights.astype(np.float64), bias.astype(np.float64))
    nearest = np.square(results(node, x, *held(node)) - wanted).sum()
    assert RoundWeights().run(graph, Context(None, open_data({"x": x}, graph))).changed
    verify(graph)
    mark = node.operands[1].producer
    assert mark is not None
    found, shifted = held(node)
    stored = constant_value(mark.operands[0])
    # On the grid: holding the numbers changes none.
    np.testing.assert_array_equal(found.astype(np.float32), stored)
    assert np.square(results(node, x, found, shifted) - wanted).sum() < 0.5 * nearest


def test_raised_scales_keep_their_multipliers() -> None:
    rng = np.random.default_rng()
    _, node = layer("matmul of rows", rng.normal(0, 1, (7, 30)).astype(np.float32), np.zeros(7, np.float32))
    mark = node.operands[1].producer
    assert mark is not None
    before = mark.op
    assert isinstance(before, FakeQuant)
    least = np.full((7, 1), 1e-9)
    least[2] = 3.0
    raise_group_scales(mark, least)
    after = mark.op
    assert isinstance(after, FakeQuant)
    assert after.multipliers == before.multipliers
    assert after.integer_scale[2].min() >= 3.0
    others = [i for i in range(7) if i != 2]
    np.testing.assert_array_equal(after.elem.scale.array[others], before.elem.scale.array[others])
    base = after.elem.scale.array.astype(np.float64) / after.multipliers.array  # type: ignore[union-attr]
    assert (base == base[:, :1]).all()
