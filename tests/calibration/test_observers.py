"""Observers see every value of every batch, and the runner names what is not finite."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcompiler.calibration.data import open_data
from qcompiler.calibration.observers import OBSERVERS, MinMax
from qcompiler.calibration.runner import batch_size, observe
from qcompiler.errors import QCompilerError
from qcompiler.ir import Builder, ConstantArray, Dim, Graph, Original, SymbolicDim, TensorType, Value
from qcompiler.ir.scalar import F32
from qcompiler.ops.activation import Exp, Relu
from qcompiler.ops.constant import Constant
from qcompiler.ops.quantization import FakeQuant
from qcompiler.pipeline import silent

BATCHES = st.lists(st.lists(st.floats(width=32, allow_nan=False), max_size=5), max_size=5)


@given(BATCHES)
def test_minmax_is_the_extremes_of_all(batches: list[list[float]]) -> None:
    observer = MinMax()
    for batch in batches:
        observer.update(np.array(batch, np.float32))
    everything = np.concatenate([np.array(b, np.float32) for b in batches] or [np.zeros(0, np.float32)])
    expected = (float(everything.min()), float(everything.max())) if everything.size else (0.0, 0.0)
    assert observer.interval() == expected


@pytest.mark.parametrize("order", [[[np.nan], [1.0]], [[1.0], [np.nan]], [[1.0, np.nan, 2.0]], [[np.inf], [np.nan]]])
def test_a_nan_is_not_forgotten(order: list[list[float]]) -> None:
    for cls in OBSERVERS.values():
        observer = cls()
        for batch in order:
            observer.update(np.array(batch, np.float32))
        assert math.isnan(sum(observer.interval()))


def test_an_infinity_is_not_forgotten() -> None:
    for cls in OBSERVERS.values():
        observer = cls()
        for batch in ([1.0, -np.inf], [0.0]):
            observer.update(np.array(batch, np.float32))
        assert not all(map(math.isfinite, observer.interval()))


def program(batch: Dim) -> tuple[Graph, Value, Value]:
    graph = Graph()
    x = graph.add_input("x", TensorType((batch, 3), F32), Original("x"))
    build = Builder(graph)
    rectified = build(Relu(), x, loc=("first",), origin=Original("r"))
    exponential = build(Exp(), rectified, loc=("second",), origin=Original("e"))
    graph.set_outputs([("y", exponential)])
    return graph, x, exponential


@pytest.mark.parametrize("batch", [SymbolicDim("N"), 1, 5])
def test_every_sample_is_observed(batch: Dim) -> None:
    graph, x, exponential = program(batch)
    data = np.random.default_rng(0).normal(0, 1, (70, 3)).astype(np.float32)
    observers = [MinMax(), MinMax()]
    seen: list[tuple[int, int]] = []
    watched = [x, exponential]
    observe(graph, watched, observers, open_data(data, graph), lambda text, done, total: seen.append((done, total)))
    assert observers[0].interval() == (float(data.min()), float(data.max()))
    np.testing.assert_allclose(observers[1].interval(), (1.0, np.exp(data.max())), rtol=1e-6)
    assert seen[-1] == (70, 70)
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})


def test_quantization_does_not_touch_what_is_observed() -> None:
    """Calibrating a calibrated program again sees the same float values."""
    graph, x, exponential = program(SymbolicDim("N"))
    (user,) = x.users
    coarse = FakeQuant(
        F32, 0, 1, scale=ConstantArray(np.float32(10)), zero_point=ConstantArray(np.int64(0))
    )
    user.set_operand(0, Builder(graph, user)(coarse, x))
    observer = MinMax()
    data = np.array([[0.1, 0.2, 0.7]], np.float32)
    observe(graph, [exponential], [observer], open_data(data, graph), silent)
    np.testing.assert_allclose(observer.interval(), (np.exp(0.1), np.exp(0.7)), rtol=1e-6)


def test_overflow_names_layer_and_value() -> None:
    graph, x, exponential = program(SymbolicDim("N"))
    data = np.zeros((40, 3), np.float32)
    data[35] = 200
    with pytest.raises(QCompilerError, match="layer 'second': calibration: value 'e' becomes NaN") as caught:
        observe(graph, [x, exponential], [MinMax(), MinMax()], open_data(data, graph), silent)
    assert caught.value.found == "in or after sample 32"


def test_batches_fit_in_memory() -> None:
    graph, x, exponential = program(SymbolicDim("N"))
    assert batch_size(graph, [x, exponential]) == 32
    assert batch_size(*program(7)[:1], [x]) == 7
    wide = Graph()
    large = wide.add_input("x", TensorType((SymbolicDim("N"), 1 << 22), F32))
    assert batch_size(wide, [large]) == 4
    larger = wide.add_input("z", TensorType((SymbolicDim("N"), 1 << 26), F32))
    assert batch_size(wide, [larger]) == 1


def test_constants_may_be_watched() -> None:
    graph, *_ = program(SymbolicDim("N"))
    value = Builder(graph, next(graph.nodes))(Constant(ConstantArray(np.array([-2, 5], np.float32))), elem=F32)
    observer = MinMax()
    observe(graph, [value], [observer], open_data(np.zeros((3, 3), np.float32), graph), silent)
    assert observer.interval() == (-2.0, 5.0)
