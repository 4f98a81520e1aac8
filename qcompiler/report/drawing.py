"""Boxes gathered into layers and placed, within each layer and all together."""

from __future__ import annotations

from collections.abc import Sequence

from qcompiler.report.layer_groups import group_nodes
from qcompiler.report.layered_layout import lay_out
from qcompiler.report.page_data import EdgeData, GroupData, NodeData, Stage

BOX_WIDTH = 270.0
BOX_HEIGHT = 56.0
BOX_GAP = 24.0
"""Horizontal distance of boxes."""
ROW_GAP = 26.0
"""Vertical distance of boxes within a layer."""


def draw(title: str, subtitle: str, nodes: list[NodeData], edges: Sequence[tuple[int, int]]) -> Stage:
    """Gather ``nodes`` by their first layer and place them.

    Args:
        title, subtitle: of the stage.
        nodes: boxes in topological order; their positions are filled in.
        edges: pairs of source and destination, source < destination.
    """
    keys = [node.layers[0] if node.layers else index for index, node in enumerate(nodes)]
    members = group_nodes(keys, edges)
    owner = {node: group for group, inside in enumerate(members) for node in inside}
    within: dict[int, list[tuple[int, int]]] = {}
    between: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for source, destination in edges:
        if owner[source] == owner[destination]:
            within.setdefault(owner[source], []).append((source, destination))
        else:
            between.setdefault((owner[source], owner[destination]), []).append((source, destination))
    drawn: list[EdgeData] = []
    groups = []
    for index, inside in enumerate(members):
        groups.append(_draw_group(nodes, inside, within.get(index, []), drawn))
    layout = lay_out([BOX_WIDTH] * len(groups), list(between), BOX_GAP)
    for lanes, pairs in zip(layout.lanes, between.values(), strict=True):
        drawn.extend(EdgeData(source, destination, lanes) for source, destination in pairs)
    return Stage(title, subtitle, nodes, groups, drawn, layout.rows, [round(x, 1) for x in layout.x])


def _draw_group(
    nodes: list[NodeData], inside: list[int], edges: list[tuple[int, int]], drawn: list[EdgeData]
) -> GroupData:
    """Place the boxes of one layer around x = 0 and below y = 0, and add the edges among them to ``drawn``."""
    local = {node: index for index, node in enumerate(inside)}
    layout = lay_out([BOX_WIDTH] * len(inside), [(local[s], local[d]) for s, d in edges], BOX_GAP)
    boxes = layout.x[: len(inside)]
    middle = (min(boxes) + max(boxes)) / 2
    row_of = {item: number for number, row in enumerate(layout.rows) for item in row}
    for node, index in local.items():
        nodes[node].x = round(layout.x[index] - middle, 1)
        nodes[node].y = row_of[index] * (BOX_HEIGHT + ROW_GAP)
    for (source, destination), lanes in zip(edges, layout.lanes, strict=True):
        points = [(round(layout.x[lane] - middle, 1), row_of[lane] * (BOX_HEIGHT + ROW_GAP)) for lane in lanes]
        drawn.append(EdgeData(source, destination, points=points))
    reach = max(abs(x - middle) for x in layout.x)
    height = len(layout.rows) * (BOX_HEIGHT + ROW_GAP) - ROW_GAP
    return GroupData(_name(nodes, inside), inside, 2 * reach + BOX_WIDTH, height)


def _name(nodes: list[NodeData], inside: list[int]) -> str:
    """All layers of a group, or the title of its only box."""
    layers = dict.fromkeys(layer for node in inside for layer in nodes[node].layers)
    return " + ".join(layers) or nodes[inside[0]].title
