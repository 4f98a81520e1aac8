"""Which boxes of two stages hold the same values, and which are new, gone or changed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable

from qcompiler.report.page_data import NodeData, Part, Stage

Entry = tuple[int, int]
"""A box and one of its parts."""


def mark_changes(before: Stage, after: Stage) -> None:
    """Fill in ``change`` and ``matches`` of all boxes.

    Ops match by name and the original value that they compute; then by name and layer, in order; then by original
    value alone, since an op may be replaced by another. A kernel of several ops matches with the boxes of all of
    them. A box is "same" if all its ops have a partner of equal name, attributes and type.
    """
    open_before, open_after = _entries(before), _entries(after)
    pairs: list[tuple[Entry, Entry]] = []
    for key in (_op_and_original, _op_and_layer, _original):
        groups: dict[Hashable, list[Entry]] = defaultdict(list)
        for entry in open_before:
            identity = key(before, entry)
            if identity is not None:
                groups[identity].append(entry)
        for entry in list(open_after):
            waiting = groups.get(key(after, entry))
            if waiting:
                partner = waiting.pop(0)
                pairs.append((partner, entry))
                del open_before[partner], open_after[entry]
    matched: dict[str, set[tuple[int, int]]] = {"before": set(), "after": set()}
    equal = {"before": set[Entry](), "after": set[Entry]()}
    for left, right in pairs:
        matched["before"].add((left[0], right[0]))
        matched["after"].add((right[0], left[0]))
        if _part(before, left) == _part(after, right):
            equal["before"].add(left)
            equal["after"].add(right)
    _mark(before.nodes, matched["before"], equal["before"], "removed")
    _mark(after.nodes, matched["after"], equal["after"], "added")


def _mark(nodes: list[NodeData], matched: set[tuple[int, int]], equal: set[Entry], alone: str) -> None:
    for own, other in sorted(matched):
        nodes[own].matches.append(other)
    for index, node in enumerate(nodes):
        if not node.matches:
            node.change = alone
        elif all((index, part) in equal for part in range(len(node.parts))) and len(node.matches) == 1:
            node.change = "same"
        else:
            node.change = "changed"


def _entries(stage: Stage) -> dict[Entry, None]:
    return {(index, part): None for index, node in enumerate(stage.nodes) for part in range(len(node.parts))}


def _part(stage: Stage, entry: Entry) -> Part:
    return stage.nodes[entry[0]].parts[entry[1]]


def _op_and_original(stage: Stage, entry: Entry) -> Hashable | None:
    part = _part(stage, entry)
    return (part.op, part.original) if part.original else None


def _original(stage: Stage, entry: Entry) -> Hashable | None:
    """Only ops that compute: a quantize at the edge stands for the same value as the input, yet is new."""
    part = _part(stage, entry)
    return part.original if part.original and part.op not in ("input", "output") else None


def _op_and_layer(stage: Stage, entry: Entry) -> Hashable | None:
    part = _part(stage, entry)
    return (part.op, part.layer) if part.layer else None
