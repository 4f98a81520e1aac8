"""Bounds of sums of products: no input breaks them, and a constructed one reaches them, for every op and width."""

from __future__ import annotations

import numpy as np
import pytest
from contraction_programs import CASES, ContractionProgram, contraction_program, output_channels
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.analysis.accumulators import SumBounds, contraction_sums
from qcompiler.ir import Affine, Builder, Graph, Scalar, TensorType
from qcompiler.ir.scalar import I8, I16, I32, I64, U8
from qcompiler.ops.contraction import Conv2D, Matmul

FORMATS: dict[int, tuple[Scalar, Scalar, Scalar]] = {
    20: (I8, I8, I32), 32: (U8, I8, I32), 40: (I16, I8, I64), 48: (I16, I16, I64), 64: (I16, I32, I64),
}
"""Storage of x, w and the result, by the width of the sums."""


def program(name: str, width: int, seed: int, bias: bool = True) -> ContractionProgram:
    """Random weights and zero point, and a bias at which the largest sum needs exactly ``width`` bits."""
    op, shape, weights_shape = CASES[name]
    rng = np.random.default_rng(seed)
    x_storage, w_storage, storage = FORMATS[width]
    zero_point = int(rng.choice([x_storage.minimum, 0, 3, x_storage.maximum]))
    x = TensorType(shape, Affine.per_tensor(x_storage, 1.0, zero_point))
    weights = rng.integers(w_storage.minimum // 2, w_storage.maximum // 2, weights_shape)
    weights[rng.random(weights_shape) < 0.2] = 0
    channels = output_channels(op, weights_shape)
    plain = contraction_program(op, x, weights, np.zeros(channels, np.int64), w_storage, storage)
    if not bias:
        return plain
    highs = contraction_sums(plain.node).products.high
    assert max(highs) < 1 << (width - 1)
    biases = np.array([(1 << (width - 1)) - 1 - high for high in highs], np.int64)
    return contraction_program(op, x, weights, biases, w_storage, storage)


@pytest.mark.parametrize("width", FORMATS)
@pytest.mark.parametrize("name", CASES)
def test_some_input_reaches_the_bound(name: str, width: int) -> None:
    case = program(name, width, seed=width)
    sums = contraction_sums(case.node)
    assert sums.all.bits == width
    assert sums.all.high == tuple([(1 << (width - 1)) - 1] * len(case.bias))
    elem = case.x.elem
    assert isinstance(elem, Affine)
    matrix, channels = case.coefficients(), case.channels()
    zero_point = int(elem.zero_point.array)
    for largest, bounds in ((True, sums.whole.high), (False, sums.whole.low)):
        for channel, bound in enumerate(bounds):
            rows = np.flatnonzero(channels == channel)
            ends = np.where((matrix[rows] > 0) == largest, elem.qmax, elem.qmin)
            totals = (matrix[rows] * (ends - zero_point)).sum(1)
            best = int(totals.argmax() if largest else totals.argmin())
            found = case.run(ends[best].reshape(case.shape)).reshape(-1)[rows[best]]
            assert int(found) == bound


@pytest.mark.parametrize("width", [20, 40])
@pytest.mark.parametrize("name", CASES)
def test_partial_sums_reach_the_bound_of_products(name: str, width: int) -> None:
    """Terms whose element is at the zero point are as good as left out."""
    case = program(name, width, seed=3 * width, bias=False)
    elem = case.x.elem
    assert isinstance(elem, Affine)
    matrix, zero_point = case.coefficients(), int(elem.zero_point.array)
    ends = np.stack([np.full(matrix.shape, end - zero_point) for end in (elem.qmin, elem.qmax, zero_point)])
    products = matrix * ends
    assert contraction_sums(case.node).products.interval == (
        int(products.min(0).sum(1).min()), int(products.max(0).sum(1).max())
    )


@settings(max_examples=30, deadline=None)
@given(
    name=st.sampled_from(sorted(CASES)), width=st.sampled_from(sorted(FORMATS)), seed=st.integers(0, 2**32 - 1),
    data=st.data(),
)
def test_no_input_breaks_the_bound(name: str, width: int, seed: int, data: st.DataObject) -> None:
    case = program(name, width, seed)
    elem = case.x.elem
    assert isinstance(elem, Affine)
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    ends = np.array([elem.qmin, elem.qmax, int(elem.zero_point.array)])
    lean = data.draw(st.sampled_from([(1, 0, 0), (0, 1, 0), (0.5, 0.5, 0), (0.4, 0.4, 0.2)]))
    x = rng.choice(ends, case.shape, p=lean)
    loose = rng.random(case.shape) < data.draw(st.sampled_from([0, 0.1, 1]))
    x = np.where(loose, rng.integers(elem.qmin, elem.qmax, case.shape, endpoint=True), x)
    found = case.run(x).reshape(-1)
    bounds, channels = contraction_sums(case.node).whole, case.channels()
    for channel in range(len(case.bias)):
        mine = found[channels == channel]
        assert bounds.low[channel] <= int(mine.min())
        assert int(mine.max()) <= bounds.high[channel]


@pytest.mark.parametrize("name", CASES)
def test_parts_add_to_the_whole(name: str) -> None:
    case = program(name, 32, seed=8, bias=False)
    sums = contraction_sums(case.node)
    cut = sums.length // 3
    parts = [sums.part(a, b) for a, b in ((0, cut), (cut, cut + 1), (cut + 1, sums.length))]
    low = sum(part.interval[0] for part in parts)
    high = sum(part.interval[1] for part in parts)
    # Channels and places differ in where their products stand, so that parts may bound more than the whole.
    assert low <= sums.products.interval[0]
    assert sums.products.interval[1] <= high


def test_terms_are_taps_row_by_row_and_at_each_tap_channels() -> None:
    weights = np.zeros((1, 2, 3, 4), np.int64)
    weights[0, 1, 0, 2] = 5
    x = TensorType((1, 4, 4, 4), Affine.per_tensor(I8, 1.0))
    place = (1 * 3 + 0) * 4 + 2
    for op, array, shape in (
        (Conv2D(layout="NHWC"), weights, (1, 4, 4, 4)), (Conv2D(), weights.transpose(0, 3, 1, 2), (1, 4, 4, 4)),
    ):
        case = contraction_program(op, TensorType(shape, x.elem), array, np.zeros(1, np.int64), I8)
        sums = contraction_sums(case.node)
        assert sums.part(place, place + 1) == SumBounds((-640,), (635,))
        assert sums.part(0, place).interval == sums.part(place + 1, sums.length).interval == (0, 0)


@pytest.mark.parametrize(("x_zero", "w_zero"), [(-128, -128), (0, 0), (127, -5), (127, 127)])
def test_two_computed_operands(x_zero: int, w_zero: int) -> None:
    graph = Graph("case")
    x = graph.add_input("x", TensorType((2, 7), Affine.per_tensor(I8, 1.0, x_zero)))
    w = graph.add_input("w", TensorType((7, 3), Affine.per_tensor(I8, 1.0, w_zero)))
    op = Matmul()
    y = Builder(graph)(op, x, w, elem=op.accumulator([x.type, w.type], (2, 3), I32))
    assert y.producer is not None
    products = [(a - x_zero) * (b - w_zero) for a in (-128, 127, x_zero) for b in (-128, 127, w_zero)]
    assert contraction_sums(y.producer).all == SumBounds((7 * min(products),), (7 * max(products),))


def test_known_ranges_narrow_the_bound() -> None:
    """Partial sums begin at 0, and padding adds 0, even where no element is at the zero point."""
    x = TensorType((1, 2), Affine.per_tensor(I8, 1.0, 3))
    case = contraction_program(Matmul(), x, np.array([[2], [-3]]), np.zeros(1, np.int64), I8)
    value = case.node.operands[0]
    assert contraction_sums(case.node, ranges={value: (7, 9)}).all == SumBounds((-18,), (12,))
    assert contraction_sums(case.node, ranges={value: (-9, -7)}).all == SumBounds((-24,), (36,))
    assert contraction_sums(case.node, ranges={value: (-9, 4)}).all == SumBounds((-27,), (38,))


def test_bounds_leave_64_bits_without_wrapping() -> None:
    x = TensorType((1, 5), Affine.per_tensor(I32, 1.0))
    weights = np.full((5, 1), -(2**31))
    case = contraction_program(Matmul(), x, weights, np.zeros(1, np.int64), I32, I64)
    assert contraction_sums(case.node).all == SumBounds((5 * -(2**31) * (2**31 - 1),), (5 * 2**62,))
