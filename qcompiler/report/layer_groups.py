"""Nodes gathered by the user's layers, so that the groups form no cycle."""

from __future__ import annotations

from collections.abc import Hashable, Sequence


def group_nodes(keys: Sequence[Hashable], edges: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Gather nodes of one key. A key whose nodes would make a cycle with others is cut where the path comes back.

    Args:
        keys: of the nodes, which are in topological order.
        edges: pairs of source and destination, source < destination.

    Returns:
        Nodes of each group, groups in topological order.
    """
    number = {key: index for index, key in enumerate(dict.fromkeys(keys))}
    group = [number[key] for key in keys]
    component = _components(len(number), sorted({(group[s], group[d]) for s, d in edges if group[s] != group[d]}))
    # Within a cycle of groups, count how often the longest path to a node has changed its group. Edges between groups
    # raise the count and no edge lowers it, so that pieces of equal group and count cannot form a cycle.
    changes = [0] * len(keys)
    for source, destination in sorted(edges, key=lambda edge: edge[1]):
        if component[group[source]] == component[group[destination]]:
            step = int(group[source] != group[destination])
            changes[destination] = max(changes[destination], changes[source] + step)
    pieces: dict[tuple[int, int], list[int]] = {}
    for node, piece in enumerate(zip(group, changes, strict=True)):
        pieces.setdefault(piece, []).append(node)
    return _sorted_groups(list(pieces.values()), len(keys), edges)


def _components(count: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    """The strongly connected component of each vertex, by Tarjan's algorithm without recursion."""
    followers: list[list[int]] = [[] for _ in range(count)]
    for source, destination in edges:
        followers[source].append(destination)
    index, lowest, component = [-1] * count, [0] * count, [-1] * count
    visited, stack = 0, []
    for root in range(count):
        if index[root] >= 0:
            continue
        path = [(root, iter(followers[root]))]
        index[root] = lowest[root] = visited
        visited += 1
        stack.append(root)
        while path:
            vertex, rest = path[-1]
            following = next(rest, None)
            if following is None:
                path.pop()
                if path:
                    lowest[path[-1][0]] = min(lowest[path[-1][0]], lowest[vertex])
                if lowest[vertex] == index[vertex]:
                    while component[vertex] < 0:
                        component[stack.pop()] = vertex
            elif index[following] < 0:
                index[following] = lowest[following] = visited
                visited += 1
                stack.append(following)
                path.append((following, iter(followers[following])))
            elif component[following] < 0:
                lowest[vertex] = min(lowest[vertex], index[following])
    return component


def _sorted_groups(groups: list[list[int]], count: int, edges: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Topological order by Kahn's algorithm."""
    owner = [0] * count
    for index, members in enumerate(groups):
        for node in members:
            owner[node] = index
    links = {(owner[s], owner[d]) for s, d in edges if owner[s] != owner[d]}
    followers: list[list[int]] = [[] for _ in groups]
    waiting = [0] * len(groups)
    for source, destination in sorted(links):
        followers[source].append(destination)
        waiting[destination] += 1
    ready = [index for index, open_edges in enumerate(waiting) if not open_edges]
    ordered = []
    for index in ready:
        ordered.append(groups[index])
        for following in followers[index]:
            waiting[following] -= 1
            if not waiting[following]:
                ready.append(following)
    return ordered
