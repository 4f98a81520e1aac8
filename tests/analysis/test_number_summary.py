"""The figures of arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from random_graphs import arrays

from qcompiler.analysis.number_summary import BINS, summarize
from qcompiler.analysis.value_description import describe_value, held_numbers
from qcompiler.ir import Graph, Tensor, parse, parse_type, value_names

dtypes = st.sampled_from(["float32", "float64", "int8", "uint8", "int32", "int64", "bool"])


@given(dtypes.flatmap(lambda dtype: arrays((7, 5), dtype)))
def test_figures_are_those_of_the_finite_numbers(array: NDArray[Any]) -> None:
    found = summarize(array)
    finite = [float(v) for v in array.reshape(-1) if np.isfinite(v)]
    assert found.count == array.size
    assert found.not_finite == array.size - len(finite)
    assert found.zeros == sum(v == 0 for v in finite) / array.size
    assert (found.minimum, found.maximum) == ((min(finite), max(finite)) if finite else (None, None))
    assert sum(found.histogram.counts) == len(finite)
    assert len(found.histogram.counts) <= BINS


def test_each_of_few_integers_has_a_bar() -> None:
    found = summarize(np.array([3, 3, 5, 3, 4], np.int8)).histogram
    assert found.counts == (3, 1, 1)
    assert found.edges == (3.0, 4.0, 5.0, 6.0)


def test_bars_of_many_integers_hold_equally_many() -> None:
    found = summarize(np.arange(-128, 128).astype(np.int8)).histogram
    assert found.counts == (22,) * 11 + (14,)
    assert found.edges[-1] == 128


@pytest.mark.parametrize("size", [0, 1])
def test_nothing_and_one_number(size: int) -> None:
    found = summarize(np.full(size, np.float32(2)))
    assert (found.count, found.zeros, sum(found.histogram.counts)) == (size, 0.0, size)


def test_saturated_integers_are_counted_at_the_ends_of_the_type() -> None:
    """-128 and -127 both lie at or below the lowest integer of the type."""
    stored = np.array([-128, -127, -126, 0, 99, 100, 100, 100], np.int8)
    tensor = Tensor(parse_type("q<i8[-127,100], 0.5:-3>[8]"), stored)
    found = held_numbers([tensor, tensor])
    assert (found.at_minimum, found.at_maximum) == (2 / 8, 3 / 8)
    assert found.stored
    assert (found.stored.minimum, found.stored.maximum) == (-128, 100)
    assert (found.real.minimum, found.real.maximum, found.real.count) == (-62.5, 51.5, 16)


def _constant(type: str, values: str) -> Graph:
    node = f"%w = constant {{value = dense<i8[3,1]>{values}}} -> {type}[3,1]"
    return parse("\n".join(["// qir 1", "graph @g() -> () {", node, "return", "}"]))


def test_ranges_of_a_type_are_the_widest_of_its_blocks() -> None:
    graph = _constant("q<i8[-127,127], blocks=[1,1], scale=[0.5,0.25,2.0], zero_point=[0,1,-3]>", "[-127,0,127]")
    (node,) = graph.nodes
    described = describe_value(graph, node.result, value_names(graph))
    quantization = described.quantization
    assert quantization
    assert (quantization.scale.minimum, quantization.scale.median, quantization.scale.maximum) == (0.25, 0.5, 2.0)
    assert (quantization.zero_point.minimum, quantization.zero_point.maximum) == (-3, 1)
    assert (quantization.real_minimum, quantization.real_maximum) == (2 * (-127 + 3), 2 * (127 + 3))
    assert described.constant
    assert (described.constant.at_minimum, described.constant.at_maximum) == (1 / 3, 1 / 3)
    assert (described.constant.real.minimum, described.constant.real.maximum) == (-63.5, 260.0)
    assert described.users == ()
