"""Which values must share scale and zero point, and where such a tie is cut by a requantize.

Ties come from the target's descriptor alone: an op row with ``ties = "all"`` ties its operands and results. Values
tied directly or through others form a group.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from qcompiler.ir import Builder, Graph, Node
from qcompiler.ops.quantization import FakeQuant
from qcompiler.target import Target, runs_on_host

Interval = tuple[float, float]


@dataclass
class _Group:
    """What is known of a group while it grows."""

    fixed: tuple[float | None, int | None] | None = None
    interval: Interval | None = None


def tie_scales(
    graph: Graph, target: Target, intervals: Mapping[Node, Interval] | None = None, cut_ratio: float = 4.0
) -> dict[int, list[Node]]:
    """Number the groups of fake_quant nodes, and cut ties that cannot or should not hold.

    An edge is cut by a second fake_quant, which realize turns into a requantize: where the parameters that the
    target prescribes disagree, where a group with prescribed parameters cannot hold the other side's values, and
    where one of several operands spans less than ``1 / cut_ratio`` of the result's interval, so that it would lose
    resolution for its other users.

    Args:
        graph: an annotated program.
        target: whose ties hold.
        intervals: real interval of each fake_quant node's values; None before calibration.
        cut_ratio: see above.

    Returns:
        The groups, by the number written on their fake_quant nodes; every node is in exactly one.
    """
    ties = _Ties(graph, intervals or {}, cut_ratio)
    for node in graph.nodes:
        row = target.row_for(node.op)
        tied = row is not None and row.tied and not isinstance(node.op, FakeQuant)
        if tied and not runs_on_host(target, node):
            ties.tie(node)
    return ties.number(final=intervals is not None)


class _Ties:
    def __init__(self, graph: Graph, intervals: Mapping[Node, Interval], cut_ratio: float) -> None:
        self.graph = graph
        self.intervals = intervals
        self.cut_ratio = cut_ratio
        # Imported where it is needed: it takes a seventh of the time in which a command starts.
        import networkx as nx

        self.sets = nx.utils.UnionFind()
        self.groups: dict[Node, _Group] = {}

    def tie(self, node: Node) -> None:
        results = [m for value in node.results for m in value.users if isinstance(m.op, FakeQuant)]
        operands = [(i, v.producer) for i, v in enumerate(node.operands)]
        quantized = [(i, p) for i, p in operands if p is not None and isinstance(p.op, FakeQuant)]
        if not results or not quantized:
            return
        anchor = results[0]
        for member in results[1:]:
            self.union(anchor, member)
        for index, member in quantized:
            if self.compatible(anchor, member, several=len(quantized) > 1):
                self.union(anchor, member)
            else:
                self.union(anchor, self.cut(node, index, anchor))

    def group(self, member: Node) -> _Group:
        root = self.sets[member]
        if root not in self.groups:
            op = root.op
            assert isinstance(op, FakeQuant)
            fixed = (op.fixed_scale, op.fixed_zero_point)
            self.groups[root] = _Group(None if fixed == (None, None) else fixed, self.intervals.get(root))
        return self.groups[root]

    def compatible(self, anchor: Node, member: Node, several: bool) -> bool:
        """Whether the member may join the anchor's group."""
        ours, theirs = self.group(anchor), self.group(member)
        if ours.fixed and theirs.fixed and ours.fixed != theirs.fixed:
            return False
        for fixed, free in ((ours, theirs), (theirs, ours)):
            if fixed.fixed and not free.fixed and free.interval and not _holds(member, fixed.fixed, free.interval):
                return False
        if not several or not self.intervals.get(member) or not self.intervals.get(anchor):
            return True
        return _span(self.intervals[member]) * self.cut_ratio >= _span(self.intervals[anchor])

    def union(self, anchor: Node, member: Node) -> None:
        ours, theirs = self.group(anchor), self.group(member)
        if ours is theirs:
            return
        merged = _Group(ours.fixed or theirs.fixed, _join(ours.interval, theirs.interval))
        self.sets.union(anchor, member)
        self.groups[self.sets[anchor]] = merged

    def cut(self, node: Node, index: int, anchor: Node) -> Node:
        """A fake_quant of its own on operand ``index`` of ``node``."""
        assert isinstance(anchor.op, FakeQuant)
        operand = node.operands[index]
        op = anchor.op.replace(fixed_scale=None, fixed_zero_point=None, scale=None, zero_point=None)
        own = Builder(self.graph, node, node.loc).create(op, [operand], origin=operand.origin)
        node.set_operand(index, own.result)
        return own

    def number(self, final: bool) -> dict[int, list[Node]]:
        """Write the groups' numbers on their members, and prescribed parameters once no tie can be cut any more."""
        members: dict[Node, list[Node]] = {}
        for node in self.graph.nodes:
            if isinstance(node.op, FakeQuant):
                members.setdefault(self.sets[node], []).append(node)
        groups: dict[int, list[Node]] = {}
        for number, (root, nodes) in enumerate(members.items()):
            groups[number] = nodes
            fixed = self.group(root).fixed or (None, None)
            for node in nodes:
                assert isinstance(node.op, FakeQuant)
                op = node.op.replace(group=number)
                if final:
                    op = op.replace(fixed_scale=fixed[0], fixed_zero_point=fixed[1])
                if op != node.op:
                    node.set_op(op)
        return groups


def _holds(member: Node, fixed: tuple[float | None, int | None], interval: Interval) -> bool:
    """Whether prescribed parameters represent an interval, up to one step."""
    scale, zero_point = fixed
    op = member.op
    assert isinstance(op, FakeQuant)
    if scale is None or zero_point is None:
        return True
    low, high = (op.qmin - zero_point - 1) * scale, (op.qmax - zero_point + 1) * scale
    return low <= interval[0] and interval[1] <= high


def _join(first: Interval | None, second: Interval | None) -> Interval | None:
    if first is None or second is None:
        return first or second
    return min(first[0], second[0]), max(first[1], second[1])


def _span(interval: Interval) -> float:
    """Length of an interval once it contains zero."""
    return max(interval[1], 0.0) - min(interval[0], 0.0)
