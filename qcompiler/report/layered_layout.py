"""Layered drawing of an acyclic graph, top down, after Sugiyama, Tagawa and Toda (IEEE Trans. SMC 11(2), 1981).

Rows by longest path, order within a row by barycenters, positions by isotonic regression.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

LANE_WIDTH = 14.0
"""Room for an edge that passes a row."""
LANE_WEIGHT = 1e-4
"""Of a lane's wish against a box's: a passing edge makes way, so that chains of boxes stay straight."""
_LANES_A_BOX = 8
"""Where every edge spans hundreds of rows, lanes would outnumber boxes; the longest edges then go without."""
_ORDER_SWEEPS = 6
_POSITION_SWEEPS = 6


@dataclass
class LayeredLayout:
    """Where each box stands. Items below the number of boxes are the boxes; the others are lanes of passing edges.

    Attributes:
        rows: items of each row, left to right.
        x: horizontal centre of each item.
        lanes: for each edge, in the order given, the lanes that it passes, top to bottom; none for an edge that
            is drawn straight behind the boxes.
    """

    rows: list[list[int]]
    x: list[float]
    lanes: list[list[int]]


def lay_out(widths: Sequence[float], edges: Sequence[tuple[int, int]], gap: float) -> LayeredLayout:
    """Place boxes in rows so that every edge leads down.

    Takes time linear in boxes, edges and lanes, apart from sorting rows. Edges of one source share their lanes.

    Args:
        widths: of the boxes.
        edges: pairs of source and destination with source < destination: boxes are in topological order.
        gap: least distance between neighbours in a row.

    Raises:
        ValueError: an edge does not lead from a lower to a higher number.
    """
    if any(source >= destination for source, destination in edges):
        raise ValueError("boxes are not in topological order")
    rank = _ranks(len(widths), edges)
    lanes: list[list[int]] = [[] for _ in edges]
    lane_of: dict[tuple[int, int], int] = {}
    size = list(widths)
    links: set[tuple[int, int]] = set()
    budget = _LANES_A_BOX * len(widths)
    by_span = sorted(range(len(edges)), key=lambda index: rank[edges[index][1]] - rank[edges[index][0]])
    for index in by_span:
        source, destination = edges[index]
        needed = [row for row in range(rank[source] + 1, rank[destination]) if (source, row) not in lane_of]
        if len(lane_of) + len(needed) > budget:
            continue
        for row in needed:
            lane_of[source, row] = len(size)
            size.append(LANE_WIDTH)
            rank.append(row)
        passed = lanes[index] = [lane_of[source, row] for row in range(rank[source] + 1, rank[destination])]
        chain = [source, *passed, destination]
        links.update(pairwise(chain))
    above: list[list[int]] = [[] for _ in size]
    below: list[list[int]] = [[] for _ in size]
    for upper, lower in sorted(links):
        below[upper].append(lower)
        above[lower].append(upper)
    rows: list[list[int]] = [[] for _ in range(max(rank, default=-1) + 1)]
    for item, row in enumerate(rank):
        rows[row].append(item)
    _order(rows, above, below)
    return LayeredLayout(rows, _positions(rows, above, below, size, gap, len(widths)), lanes)


def _ranks(count: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    """Longest path from the sources; what has no source above it moves down to its first user."""
    rank = [0] * count
    has_source = [False] * count
    for source, destination in sorted(edges):
        rank[destination] = max(rank[destination], rank[source] + 1)
        has_source[destination] = True
    first_user: dict[int, int] = {}
    for source, destination in edges:
        first_user[source] = min(first_user.get(source, rank[destination]), rank[destination])
    for box, row in first_user.items():
        if not has_source[box]:
            rank[box] = row - 1
    return rank


def _order(rows: list[list[int]], above: list[list[int]], below: list[list[int]]) -> None:
    """Sort rows by the mean position of their neighbours in the row before, downwards and upwards in turn."""
    place: dict[int, float] = {}
    for row in rows:
        _number(row, place)
    for sweep in range(_ORDER_SWEEPS):
        down = sweep % 2 == 0
        for row in rows[1:] if down else rows[-2::-1]:
            neighbours = above if down else below
            mean = {i: sum(place[n] for n in neighbours[i]) / len(neighbours[i]) for i in row if neighbours[i]}
            row.sort(key=lambda item: mean.get(item, place[item]))
            _number(row, place)


def _number(row: list[int], place: dict[int, float]) -> None:
    """Positions around 0, so that means of rows of different lengths compare."""
    for index, item in enumerate(row):
        place[item] = index - (len(row) - 1) / 2


def _positions(
    rows: list[list[int]], above: list[list[int]], below: list[list[int]], size: list[float], gap: float, boxes: int
) -> list[float]:
    x = [0.0] * len(size)
    weight = [1.0 if item < boxes else LANE_WEIGHT for item in range(len(size))]
    for row in rows:
        _place(row, [0.0] * len(row), size, weight, gap, x)
    for sweep in range(_POSITION_SWEEPS):
        neighbours = above if sweep % 2 == 0 else below
        for row in rows if sweep % 2 == 0 else reversed(rows):
            wanted = [_middle([x[n] for n in _boxes_first(neighbours[item], boxes)], x[item]) for item in row]
            _place(row, wanted, size, weight, gap, x)
    return x


def _place(
    row: list[int], wanted: list[float], size: list[float], weight: list[float], gap: float, x: list[float]
) -> None:
    centres = spread(wanted, [size[i] for i in row], gap, [weight[i] for i in row])
    for item, centre in zip(row, centres, strict=True):
        x[item] = centre


def _boxes_first(items: list[int], boxes: int) -> list[int]:
    """The boxes among ``items``; all of them where there are none."""
    return [item for item in items if item < boxes] or items


def _middle(values: list[float], otherwise: float) -> float:
    """The median, or ``otherwise`` of no values."""
    if not values:
        return otherwise
    ordered = sorted(values)
    return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2


def spread(wanted: Sequence[float], widths: Sequence[float], gap: float, weights: Sequence[float]) -> list[float]:
    """Centres nearest to those wanted, by weighted squares, at which neighbours keep their order and ``gap``.

    With the room to the left taken off, this is isotonic regression, which pooling adjacent violators solves.
    """
    offsets = [0.0]
    for left, right in pairwise(widths):
        offsets.append(offsets[-1] + (left + right) / 2 + gap)
    blocks: list[tuple[float, float, int]] = []
    for target, offset, own in zip(wanted, offsets, weights, strict=False):
        mean, weight, count = target - offset, own, 1
        while blocks and blocks[-1][0] >= mean:
            before, heavy, members = blocks.pop()
            mean, weight, count = (before * heavy + mean * weight) / (heavy + weight), heavy + weight, members + count
        blocks.append((mean, weight, count))
    means = [mean for mean, _, count in blocks for _ in range(count)]
    return [mean + offset for mean, offset in zip(means, offsets, strict=False)]
