"""Rounding of weights by what it does to a layer's results."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler.calibration.data import open_data
from qcompiler.calibration.patch_moments import PatchMoments
from qcompiler.calibration.weight_rounding import round_weights
from qcompiler.ir import BlockFloat, Builder, ConstantArray, Graph, SymbolicDim, Tensor, TensorType, Value, verify
from qcompiler.ir.scalar import F32
from qcompiler.numerics import BlockFormat
from qcompiler.ops.block_conversion import FakeBlock
from qcompiler.ops.constant import Constant, constant_value
from qcompiler.ops.contraction import Contraction, Conv2D, ConvTranspose2D, Matmul
from qcompiler.passes.round_weights import RoundWeights
from qcompiler.pipeline import Context

N = SymbolicDim("N")
KERNELS = {
    "dense": (Conv2D(pads=(1, 1, 1, 1), layout="NHWC"), (6, 3, 3, 8)),
    "grouped": (Conv2D(groups=2, strides=(2, 1), layout="NHWC"), (6, 3, 2, 4)),
    "depthwise": (Conv2D(groups=8, pads=(1, 1, 1, 1), layout="NHWC"), (8, 3, 3, 1)),
    "dilated, channels first": (Conv2D(dilations=(2, 1), layout="NCHW"), (4, 8, 2, 3)),
    "transposed": (ConvTranspose2D(strides=(2, 2), layout="NHWC"), (5, 2, 2, 8)),
    "matmul": (Matmul(), (12, 7)),
    "matmul of rows": (Matmul(transpose_b=True), (7, 12)),
}


def layer(op: Contraction, weights: np.ndarray, bias: np.ndarray) -> tuple[Graph, TensorType]:
    """A contraction whose weights are marked to be held in 4 bits."""
    graph = Graph("layer")
    shape: tuple[int | SymbolicDim, ...] = (N, weights.shape[0 if not getattr(op, "transpose_b", False) else 1])
    if not isinstance(op, Matmul):
        shape = (N, 7, 8, 8) if op.layout == "NHWC" else (N, 8, 7, 8)  # type: ignore[attr-defined]
    x = graph.add_input("x", TensorType(shape, F32))
    build = Builder(graph, loc=("layer",))
    held = TensorType(weights.shape, BlockFloat(BlockFormat(4), (1,) * (weights.ndim - 1) + (weights.shape[-1],)))
    w = build(FakeBlock(held), build(Constant(ConstantArray(weights)), elem=F32))
    b = build(Constant(ConstantArray(bias)), elem=F32)
    graph.set_outputs([("y", build(op, x, w, b))])
    return graph, x.type


def marked_weights(graph: Graph) -> tuple[Value, np.ndarray]:
    (mark,) = (n for n in graph.nodes if isinstance(n.op, FakeBlock))
    weights = constant_value(mark.operands[0])
    assert weights is not None
    return mark.result, weights


def results(graph: Graph, x: np.ndarray, weights: np.ndarray, bias: np.ndarray) -> np.ndarray:
    (node,) = (n for n in graph.nodes if isinstance(n.op, Contraction))
    op = node.op
    assert isinstance(op, Contraction)
    total = op.contract(x.astype(np.float64), weights.astype(np.float64))
    shape = [1] * total.ndim
    shape[op.result_channel_axis(total.ndim)] = -1
    return np.asarray(total + bias.reshape(shape))


@pytest.mark.parametrize("name", KERNELS)
def test_results_are_nearer_than_with_nearest_weights(name: str) -> None:
    """On correlated inputs with a mean, for every kind of contraction; weights stay on their grid."""
    op, shape = KERNELS[name]
    rng = np.random.default_rng(7)
    weights = rng.normal(0, 1, shape).astype(np.float32)
    outputs = shape[1] if isinstance(op, Matmul) and not op.transpose_b else shape[0]
    bias = rng.normal(0, 1, outputs).astype(np.float32)
    graph, type = layer(op, weights, bias)
    size = (64, *(int(d) for d in type.shape[1:]))  # type: ignore[arg-type]
    x = (rng.normal(0, 0.3, size) + rng.normal(2, 1, (64, *[1] * (len(size) - 1)))).astype(np.float32)
    mark, _ = marked_weights(graph)
    (nearest,) = mark.producer.op.compute(  # type: ignore[union-attr]
        [tensor_of(weights)], [mark.type]
    )
    wanted = results(graph, x, weights, bias)
    context = Context(None, open_data({"x": x}, graph))
    assert RoundWeights().run(graph, context).changed
    verify(graph)
    mark, found = marked_weights(graph)
    (again,) = mark.producer.op.compute([tensor_of(found)], [mark.type])  # type: ignore[union-attr]
    np.testing.assert_array_equal(again, found)
    (node,) = (n for n in graph.nodes if isinstance(n.op, Contraction))
    shifted = constant_value(node.operands[2])
    assert shifted is not None
    errors = [
        np.square(results(graph, x, w, b) - wanted).sum()
        for w, b in ((np.asarray(nearest), bias), (found, shifted))
    ]
    assert errors[1] < 0.5 * errors[0]


def tensor_of(array: np.ndarray) -> Tensor:
    return Tensor(TensorType(array.shape, F32), array)


def test_uncorrelated_inputs_round_to_nearest() -> None:
    rng = np.random.default_rng()
    weights = rng.normal(0, 3, (2, 5, 100))
    covariances = np.stack([np.diag(rng.uniform(0.5, 2, 100)) for _ in range(2)])
    rounded = round_weights(weights, covariances, lambda values, term: np.rint(values))
    np.testing.assert_array_equal(rounded, np.rint(weights))


def test_inputs_that_are_always_zero() -> None:
    """A covariance of zeros has no inverse; weights go to nearest."""
    weights = np.random.default_rng().normal(0, 3, (1, 4, 6))
    rounded = round_weights(weights, np.zeros((1, 6, 6)), lambda values, term: np.rint(values))
    np.testing.assert_array_equal(rounded, np.rint(weights))


def test_moments_do_not_depend_on_batches() -> None:
    """With all patches of a matrix product taken, mean and covariance are those of numpy."""
    rng = np.random.default_rng()
    x = rng.normal(1, 2, (2500, 6)).astype(np.float32)
    graph, _ = layer(Matmul(), np.ones((6, 2), np.float32), np.zeros(2, np.float32))
    (node,) = (n for n in graph.nodes if isinstance(n.op, Contraction))
    moments = PatchMoments(node)
    for part in np.array_split(x, [7, 1200, 1201]):
        moments.update(part)
    np.testing.assert_allclose(moments.means[0], x.mean(0), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(moments.covariances[0], np.cov(x.T, bias=True), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [1e-6, 0.1, 3.0, 1e6])
def test_inputs_that_hardly_vary(size: float) -> None:
    """Constants, and changes of a few steps of float32 on top of them, have no covariance of rounding errors."""
    rng = np.random.default_rng()
    graph, _ = layer(Matmul(), np.ones((6, 2), np.float32), np.zeros(2, np.float32))
    (node,) = (n for n in graph.nodes if isinstance(n.op, Contraction))
    constant = rng.normal(0, size, 6).astype(np.float32)
    steps = rng.integers(-2, 3, (2000, 6)) * (2.0**-22 * size)
    for x in (np.tile(constant, (2000, 1)), (constant + steps).astype(np.float32)):
        moments = PatchMoments(node)
        for part in np.array_split(x, 3):
            moments.update(part)
        np.testing.assert_allclose(moments.means[0], x.mean(0, dtype=np.float64), rtol=1e-6)
        spread = np.cov(x.T.astype(np.float64), bias=True)
        np.testing.assert_allclose(moments.covariances[0], spread, atol=1e-3 * max(spread.max(), 1e-300))
        rounded = round_weights(rng.normal(0, 3, (1, 4, 6)), moments.covariances, lambda values, term: np.rint(values))
        assert np.isfinite(rounded).all()


def test_without_data_nothing_changes_and_the_user_is_told() -> None:
    graph, _ = layer(Matmul(), np.ones((6, 2), np.float32), np.zeros(2, np.float32))
    context = Context(None, None)
    assert not RoundWeights().run(graph, context).changed
    assert any("rounded to nearest" in warning for warning in context.warnings)
