"""Matching a pattern against the graph, and what a rule is given of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from qcompiler.errors import QCompilerError, did_you_mean
from qcompiler.ir import Node, Op, Value
from qcompiler.ops.constant import constant_value
from qcompiler.rewrite.pattern import Operand, OpPattern, SubPattern, attribute_mismatch, value_mismatch

OpClass = TypeVar("OpClass", bound=Op)
Bound = Value | tuple[Value, ...] | None


@dataclass(frozen=True)
class Declined:
    """A rule's answer that it does not rewrite this match.

    Attributes:
        reason: why, in a few words.
        matched: how many nodes of the pattern fitted; all of them where the rule itself declined.
    """

    reason: str
    matched: int = 0


class Match:
    """A place in the graph that a pattern fits.

    Attributes:
        roots: the nodes whose results the rule replaces.
        nodes: all nodes of the match, the roots included.
    """

    def __init__(self) -> None:
        self.roots: list[Node] = []
        self.nodes: list[Node] = []
        self.operands: dict[str, Bound] = {}
        self.named: dict[str, Node] = {}
        self.explains = False
        self.mismatch = ""

    @property
    def root(self) -> Node:
        """The node whose results the rule replaces; the first of several."""
        return self.roots[0]

    def node(self, name: str) -> Node:
        """The node of the op with this name in the pattern.

        Raises:
            QCompilerError: the pattern gives no op this name.
        """
        if name not in self.named:
            raise _unknown(name, self.named)
        return self.named[name]

    def __contains__(self, name: str) -> bool:
        """Whether the way that matched has an op, or binds an operand, of this name."""
        return name in self.named or self.operands.get(name) is not None

    def __getitem__(self, name: str) -> Value:
        """The value of an operand, or the first result of the op, with this name in the pattern.

        Raises:
            QCompilerError: the pattern has no such name, or it does not stand for a single value here.
        """
        if name in self.named:
            return self.named[name].results[0]
        if name not in self.operands:
            raise _unknown(name, [*self.named, *self.operands])
        value = self.operands[name]
        if not isinstance(value, Value):
            raise QCompilerError(f"{name!r} is no single value here", found=repr(value))
        return value

    def op(self, name: str, cls: type[OpClass]) -> OpClass:
        """The op with this name in the pattern, as an instance of ``cls``.

        Raises:
            QCompilerError: the pattern gives no op this name, or it is of another class.
        """
        op = self.node(name).op
        if not isinstance(op, cls):
            raise QCompilerError(f"{name!r} is of another class", expected=cls.__name__, found=op.name)
        return op

    def array(self, value: Value | str) -> NDArray[Any]:
        """The numbers of a constant: the value itself, or its name in the pattern.

        Raises:
            QCompilerError: the value is computed.
        """
        array = constant_value(self[value] if isinstance(value, str) else value)
        if array is None:
            raise QCompilerError(f"{value!r} is no constant", fix="demand one in the pattern: x.where(is_constant)")
        return array

    def number(self, value: Value | str) -> float:
        """The only number of a constant."""
        return float(np.asarray(self.array(value)).reshape(-1)[0])

    def fail(self, reason: str) -> Declined:
        """Decline this match; return the result. The reason is shown by ``--explain``."""
        return Declined(reason, len(self.nodes) + 1)

    # Matching

    def fits(self, part: SubPattern, value: Value, place: str) -> bool:
        """Whether ``value`` is what ``part`` stands for; binds the names in it."""
        if isinstance(part, OpPattern):
            node = value.producer
            if node is None:
                return self.differs(f"{place} is a program input, not the result of {part.text}")
            if not part.accepts(type(node.op)):
                return self.differs(f"{place} comes from {node.op.name}, not {part.text}")
            if part.index >= len(node.results) or node.results[part.index] is not value:
                return self.differs(f"{place} is not result {part.index} of {node.op.name}")
            if not self.fits_node(part, node):
                return False
        else:
            assert isinstance(part, Operand)
            if not self.binds(part, value, place):
                return False
        unmet = value_mismatch(value, part.constraints) if part.constraints else None
        return unmet is None or self.differs(f"{place} is not {unmet.description}")

    def fits_root(self, part: OpPattern, node: Node) -> bool:
        """Whether ``node``, of an op that ``part`` accepts, is a root; each of its results must meet the demands."""
        if not self.fits_node(part, node):
            return False
        for value in node.results if part.constraints else ():
            unmet = value_mismatch(value, part.constraints)
            if unmet is not None:
                return self.differs(f"the result of {node.op.name} is not {unmet.description}")
        self.roots.append(node)
        return True

    def fits_node(self, part: OpPattern, node: Node) -> bool:
        """Whether ``node``, of an op that ``part`` accepts, has the attributes and operands that ``part`` demands."""
        for name, demand in part.attributes:
            mismatch = attribute_mismatch(part.text, node.op, name, demand)
            if mismatch:
                return self.differs(mismatch)
        operands = node.operands
        count = len(operands)
        if count < part.required or (part.variadic is None and count > len(part.operands)):
            return self.differs(f"{node.op.name} has another number of operands: {count}")
        if node not in self.nodes:
            self.nodes.append(node)
        if part.name:
            self.named[part.name] = node
        if part.variadic is None:
            pairs = zip(part.operands, operands, strict=False)
        else:
            behind = len(part.operands) - part.variadic - 1
            end = count - behind
            pairs = zip(
                (*part.operands[: part.variadic], *part.operands[part.variadic + 1 :]),
                (*operands[: part.variadic], *operands[end:]), strict=True,
            )
            if not self.binds_all(part.operands[part.variadic], operands[part.variadic : end], node):
                return False
        for index, (inner, value) in enumerate(pairs):
            if not self.fits(inner, value, f"operand {index} of {node.op.name}" if self.explains else ""):
                return False
        for absent in part.operands[count:] if part.variadic is None else ():
            assert isinstance(absent, Operand)
            if self.operands.setdefault(absent.name, None) is not None:
                return self.differs(f"{node.op.name} lacks the operand {absent.name}")
        return True

    def binds(self, variable: Operand, value: Value, place: str) -> bool:
        if not variable.name:
            return True
        bound = self.operands.setdefault(variable.name, value)
        return bound is value or self.differs(f"{place} is not the same value as {variable.name}")

    def binds_all(self, variable: SubPattern, values: tuple[Value, ...], node: Node) -> bool:
        assert isinstance(variable, Operand)
        for value in values:
            unmet = value_mismatch(value, variable.constraints)
            if unmet is not None:
                return self.differs(f"an operand of {node.op.name} is not {unmet.description}")
        if not variable.name:
            return True
        bound = self.operands.setdefault(variable.name, values)
        return bound == values or self.differs(f"the operands of {node.op.name} are not the same as {variable.name}")

    def differs(self, reason: str) -> bool:
        if self.explains:
            self.mismatch = reason
        return False

    def copied(self) -> Match:
        """A match of its own with the same bindings."""
        made = Match()
        made.roots, made.nodes = list(self.roots), list(self.nodes)
        made.operands, made.named = dict(self.operands), dict(self.named)
        made.explains = self.explains
        return made


def _unknown(name: str, known: Iterable[str]) -> QCompilerError:
    return QCompilerError(
        f"the pattern has no {name!r}", expected="one of " + ", ".join(known), fix=did_you_mean(name, known)
    )


def matches(roots: tuple[OpPattern, ...], node: Node, explains: bool = False) -> Iterator[Match | Declined]:
    """All ways in which ``node`` is the first of ``roots``; where there is none, why not.

    Args:
        roots: a pattern without choices.
        node: a node whose op the first root accepts.
        explains: whether mismatches are put into words.
    """
    match = Match()
    match.explains = explains
    if not match.fits_root(roots[0], node):
        yield Declined(match.mismatch, len(match.nodes))
        return
    if len(roots) == 1:
        yield match
        return
    found = False
    for complete in _further_roots(match, roots[1:]):
        found = True
        yield complete
    if not found:
        yield Declined("no other nodes fit the rest of the pattern", len(match.nodes))


def _further_roots(match: Match, roots: tuple[OpPattern, ...]) -> Iterator[Match]:
    """Extend a match by further roots: nodes that use, over some steps, a value that is bound already."""
    if not roots:
        yield match
        return
    for candidate in _candidates(match, roots[0]):
        if candidate in match.roots or not roots[0].accepts(type(candidate.op)):
            continue
        attempt = match.copied()
        if attempt.fits_root(roots[0], candidate):
            yield from _further_roots(attempt, roots[1:])


def _candidates(match: Match, root: OpPattern) -> list[Node]:
    """Nodes as far downstream of a bound value as the root stands above its variable."""
    shared = [(len(value.uses), depth, value) for depth, v in _variables(root)
              if isinstance(value := match.operands.get(v.name), Value)]
    if not shared:
        return []
    # From the value with the fewest users: with n users of one value, all pairs of them would be looked at.
    _, depth, value = min(shared, key=lambda item: item[:2])
    nodes = value.users
    for _ in range(depth - 1):
        nodes = list(dict.fromkeys(user for n in nodes for v in n.results for user in v.users))
    return [n for n in nodes if n.graph is not None and n is not n.graph.terminator]


def _variables(part: OpPattern, depth: int = 1) -> Iterator[tuple[int, Operand]]:
    """Variables below a part, each with its depth."""
    for operand in part.operands:
        if isinstance(operand, Operand):
            yield depth, operand
        elif isinstance(operand, OpPattern):
            yield from _variables(operand, depth + 1)
