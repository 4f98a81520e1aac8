"""Drivers: they bring rules to all nodes of a program."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from qcompiler.errors import QCompilerError
from qcompiler.ir import Graph, GraphListener, Node, Op, Value
from qcompiler.pipeline import PassResult
from qcompiler.rewrite.rewriter import Rewriter
from qcompiler.rewrite.rule import Rule

_REWRITES_PER_NODE = 8
_REWRITES_AT_LEAST = 1000
"""Rules that need more rewrites than this are taken to undo each other. Real programs need less than two a node."""


@dataclass(frozen=True)
class RewriteResult(PassResult):
    """What a driver did.

    Attributes:
        rewrites: how often each rule was applied, by name.
    """

    rewrites: Mapping[str, int]


def apply(graph: Graph, rules: Iterable[Rule], *, limit: int | None = None) -> RewriteResult:
    """Apply rules, in place, until none applies anywhere.

    A worklist holds the nodes that rules may have a new chance at. The graph's changes feed it, so the work is
    proportional to the size of the program and the number of rewrites. At each node the first rule that rewrites it
    wins.

    Args:
        graph: the program.
        rules: tried in this order at each node.
        limit: stop after this many rewrites.

    Raises:
        QCompilerError: the rules undo each other's work for ever; or a rule is malformed, changes a type, or
            refuses the program.
    """
    rewriter = Rewriter(graph, rules)
    most = _REWRITES_AT_LEAST + _REWRITES_PER_NODE * len(graph)
    done = 0
    worklist = _Worklist()
    with graph.watched_by(worklist), _without_garbage_collection():
        while True:
            before = done
            worklist.fill(graph)
            while (node := worklist.pop()) is not None:
                if limit is not None and done >= limit:
                    return RewriteResult(graph, done > 0, rewriter.counts)
                if rewriter.rewrite(node) is None:
                    worklist.forget_changes()
                    continue
                worklist.wake_neighbours()
                done += 1
                if done > most:
                    raise _endless(rewriter, most, node)
            # Changes wake their neighbours; patterns that look further are found by another round over everything.
            if done == before:
                return RewriteResult(graph, done > 0, rewriter.counts)


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """A scope in which Python does not look for cycles; it does so again, if it did before, when the scope is left.

    A large program makes each search long, and few of them find much: erased nodes are small beside what stays.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def sweep(graph: Graph, rules: Iterable[Rule], *, reverse: bool = False) -> RewriteResult:
    """Visit every node once, in order, and apply the first rule that rewrites it.

    Nodes made on the way are not visited. For rules that move things along the program, and for those whose result
    they would rewrite again.

    Args:
        graph: the program, changed in place.
        rules: tried in this order at each node.
        reverse: visit the last node first.
    """
    rewriter = Rewriter(graph, rules)
    for node in list(graph.reversed_nodes if reverse else graph.nodes):
        if node.graph is graph:
            rewriter.rewrite(node)
    return RewriteResult(graph, bool(rewriter.counts), rewriter.counts)


class _Worklist(GraphListener):
    """Nodes to visit, the latest first; filled with all nodes so that the first in the program comes first."""

    def __init__(self) -> None:
        self._stack: list[Node] = []
        self._waiting: set[Node] = set()
        self._near_changes: list[Node] = []

    def fill(self, graph: Graph) -> None:
        self._stack = list(graph.reversed_nodes)
        self._waiting = set(self._stack)

    def pop(self) -> Node | None:
        while self._stack:
            node = self._stack.pop()
            if node in self._waiting:
                self._waiting.discard(node)
                return node
        return None

    def wake_neighbours(self) -> None:
        """Put the nodes near the latest changes on the list."""
        for node in self._near_changes:
            if node.graph is not None and node not in self._waiting and node is not node.graph.terminator:
                self._waiting.add(node)
                self._stack.append(node)
        self._near_changes.clear()

    def forget_changes(self) -> None:
        """What a rule built before it declined is gone. If it woke the nodes around, they could decline for ever."""
        self._near_changes.clear()

    def node_inserted(self, node: Node) -> None:
        self._near_changes.append(node)

    def node_erased(self, node: Node) -> None:
        self._waiting.discard(node)
        for value in node.operands:
            # One user will be left: it may be what a rule that wants a single user waits for.
            if len(value.uses) == 2:
                for user in value.users:
                    if user is not node:
                        self._near_changes.append(user)
            # Rules may look at the users of what they replace. Where there are many, each change would cost a visit.
            if len(value.uses) <= 2 and value.producer is not None:
                self._near_changes.append(value.producer)

    def operand_changed(self, node: Node, index: int, before: Value) -> None:
        self._near_changes.append(node)
        if len(before.uses) == 1:
            self._near_changes.append(before.users[0])

    def op_changed(self, node: Node, before: Op) -> None:
        self._near_changes.append(node)
        for value in node.results:
            for user in value.users:
                self._near_changes.append(user)


def _endless(rewriter: Rewriter, most: int, node: Node) -> QCompilerError:
    busiest = [f"{name} ({count} times)" for name, count in rewriter.counts.most_common(3)]
    return QCompilerError(
        f"rewriting does not come to an end: {most} rewrites", layer=node.layer or None,
        found="most often applied: " + ", ".join(busiest),
        fix="let a rule decline what another one made, or apply the rules with 'sweep'",
    )
