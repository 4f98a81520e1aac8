"""Layers and rows: every edge leads down, nothing overlaps, layers form no cycle."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcompiler.report.layer_groups import group_nodes
from qcompiler.report.layered_layout import LANE_WIDTH, lay_out, spread

Edges = list[tuple[int, int]]


@st.composite
def graphs(draw: st.DrawFn) -> tuple[int, Edges]:
    """A number of boxes and edges among them, in topological order."""
    count = draw(st.integers(1, 14))
    pairs = [(a, b) for b in range(count) for a in range(b)]
    return count, draw(st.lists(st.sampled_from(pairs), unique=True, max_size=30)) if pairs else []


@given(graphs())
def test_edges_lead_down_through_their_lanes(graph: tuple[int, Edges]) -> None:
    count, edges = graph
    layout = lay_out([100.0] * count, edges, 10)
    row_of = {item: number for number, row in enumerate(layout.rows) for item in row}
    assert sorted(row_of) == list(range(len(layout.x)))
    for (source, destination), lanes in zip(edges, layout.lanes, strict=True):
        assert row_of[source] < row_of[destination]
        rows = [row_of[lane] for lane in lanes]
        if lanes:
            assert rows == list(range(row_of[source] + 1, row_of[destination]))
            assert min(lanes) >= count


@given(graphs())
def test_boxes_of_a_row_do_not_overlap(graph: tuple[int, Edges]) -> None:
    count, edges = graph
    widths = [60.0 + 10 * (i % 4) for i in range(count)]
    layout = lay_out(widths, edges, 8)
    size = [*widths, *[LANE_WIDTH] * (len(layout.x) - count)]
    for row in layout.rows:
        for left, right in pairwise(row):
            assert layout.x[right] - layout.x[left] >= (size[left] + size[right]) / 2 + 8 - 1e-6


def test_a_chain_stays_straight_beside_its_shortcut() -> None:
    layout = lay_out([100.0] * 5, [(0, 1), (1, 2), (2, 3), (3, 4), (0, 4)], 10)
    assert np.ptp(layout.x[:5]) < 1
    (lane, *_) = layout.lanes[4]
    assert abs(layout.x[lane] - layout.x[1]) >= (100 + LANE_WIDTH) / 2 + 10 - 1e-6


def test_a_box_without_operands_stands_above_its_user() -> None:
    layout = lay_out([100.0] * 5, [(0, 1), (1, 2), (2, 4), (3, 4)], 10)
    row_of = {item: number for number, row in enumerate(layout.rows) for item in row}
    assert row_of[3] == row_of[4] - 1


def test_edges_against_the_order_are_refused() -> None:
    with pytest.raises(ValueError, match="topological"):
        lay_out([1.0, 1.0], [(1, 0)], 1)


def test_lanes_do_not_outgrow_the_boxes() -> None:
    edges = [(i, i + 1) for i in range(999)] + [(i, i + 400) for i in range(600)]
    layout = lay_out([100.0] * 1000, edges, 10)
    assert len(layout.x) < 10_000


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=8))
def test_spread_is_nearest_to_what_is_wanted(wanted: list[float]) -> None:
    widths = [10.0 + i for i in range(len(wanted))]
    weights = [1.0 + (i % 3) for i in range(len(wanted))]
    found = np.array(spread(wanted, widths, 2, weights))
    least = np.array([(a + b) / 2 + 2 for a, b in pairwise(widths)])
    assert (np.diff(found) >= least - 1e-9).all()

    def cost(x: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
        return float((np.array(weights) * (x - wanted) ** 2).sum())

    # A convex problem: no feasible point is nearer. Try points around the one found and the wishes pushed apart.
    rng = np.random.default_rng(len(wanted))
    for _ in range(50):
        steps = np.maximum(np.diff(found + rng.normal(0, 3, len(wanted))), least)
        other = np.concatenate([[found[0] + rng.normal(0, 3)], steps]).cumsum()
        assert cost(other) >= cost(found) - 1e-6


@given(graphs(), st.data())
def test_layers_hold_every_node_once_and_form_no_cycle(graph: tuple[int, Edges], data: st.DataObject) -> None:
    count, edges = graph
    keys = data.draw(st.lists(st.sampled_from("abc"), min_size=count, max_size=count))
    groups = group_nodes(keys, edges)
    assert sorted(node for group in groups for node in group) == list(range(count))
    assert all(len({keys[node] for node in group}) == 1 for group in groups)
    owner = {node: index for index, group in enumerate(groups) for node in group}
    # Groups come in topological order.
    assert all(owner[source] <= owner[destination] for source, destination in edges)


def test_a_layer_is_cut_only_where_a_path_leaves_it_and_comes_back() -> None:
    assert group_nodes("aab", [(0, 1), (1, 2)]) == [[0, 1], [2]]
    assert group_nodes("aba", [(0, 1), (1, 2)]) == [[0], [1], [2]]
    assert group_nodes("aba", [(0, 1), (0, 2)]) == [[0, 2], [1]]
