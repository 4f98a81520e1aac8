"""Conversion: rewrite what is illegal until everything is legal, or say what is not."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from qcompiler.errors import QCompilerError
from qcompiler.ir import Graph, GraphListener, Node, clone
from qcompiler.ops.constant import Constant
from qcompiler.rewrite.rewriter import Rewriter
from qcompiler.rewrite.rule import Rule
from qcompiler.target import Violation

Legality = Callable[[Node], Violation | None]
"""Judges a node: None where it is legal, else the constraint that decides."""

_DEEPEST = 32
"""Decompositions of decompositions go no deeper than this."""


class Mode(enum.Enum):
    """What a conversion does with what it cannot make legal."""

    FULL = "full"
    """An illegal node that remains is an error."""
    PARTIAL = "partial"
    """Illegal nodes may remain; the result tells which."""
    ANALYSIS = "analysis"
    """The program stays as it is; the result tells what a conversion would do."""


@dataclass(frozen=True)
class Verdict:
    """What a conversion makes of one node.

    Attributes:
        node: the node; no longer in the graph if it was rewritten.
        rules: names of the rules applied to it and to its parts, in order.
        parts: the nodes that do its work now: the node itself where no rule was applied, none where it became part of
            what another node was converted to.
        illegal: those of ``parts`` that are not legal, each with the constraint that decides.
        op: the op's name before the conversion. Nodes may change later; names tell what was decided.
        layers: the node's layers before the conversion.
        part_ops: the ops of ``parts`` after it.
    """

    node: Node
    rules: tuple[str, ...]
    parts: tuple[Node, ...]
    illegal: tuple[tuple[Node, Violation], ...]
    op: str = ""
    layers: tuple[str, ...] = ()
    part_ops: tuple[str, ...] = ()


@dataclass(frozen=True)
class Conversion:
    """What a conversion did, or would do.

    Attributes:
        verdicts: in the order of the program, one for each node but constants and those that were gone before their
            turn came.
    """

    verdicts: tuple[Verdict, ...]

    @property
    def changed(self) -> bool:
        """Whether any rule was applied."""
        return any(verdict.rules for verdict in self.verdicts)

    @property
    def illegal(self) -> list[tuple[Node, Violation]]:
        """The nodes that are not legal in the end, each with the constraint that decides."""
        return [pair for verdict in self.verdicts for pair in verdict.illegal]


class NotLegal(QCompilerError):
    """A full conversion left illegal nodes.

    Attributes:
        illegal: the nodes, each with the constraint that decides.
    """

    def __init__(self, illegal: Sequence[tuple[Node, Violation]]) -> None:
        node, violation = illegal[0]
        super().__init__(
            f"{len(illegal)} nodes are not legal", layer=node.layer, expected=violation.constraint,
            found=violation.found,
        )
        self.illegal = tuple(illegal)


def convert(graph: Graph, rules: Iterable[Rule], legality: Legality, mode: Mode = Mode.FULL) -> Conversion:
    """Rewrite every illegal node by the first rule that applies, and what the rule makes of it in turn.

    No rule is tried at a legal node. Legal nodes may vanish with an illegal one that alone uses them.

    Args:
        graph: the program; changed in place, in the mode ANALYSIS not at all.
        rules: tried in this order at each illegal node.
        legality: judges nodes. Constants are always legal.
        mode: what to do with what remains illegal.

    Raises:
        NotLegal: in the mode FULL, illegal nodes remain. The graph keeps what was converted.
    """
    if mode is Mode.ANALYSIS:
        return _analyse(graph, rules, legality)
    rewriter = Rewriter(graph, rules)
    nodes = [node for node in graph.nodes if not isinstance(node.op, Constant)]
    verdicts = []
    for node in nodes:
        if node.graph is graph:
            op, layers = node.op.name, node.loc
            verdicts.append(replace(_convert(rewriter, node, legality), op=op, layers=layers))
    conversion = Conversion(tuple(_without_erased(verdict) for verdict in verdicts))
    if mode is Mode.FULL and conversion.illegal:
        raise NotLegal(conversion.illegal)
    return conversion


def _analyse(graph: Graph, rules: Iterable[Rule], legality: Legality) -> Conversion:
    """Convert a copy. Verdicts speak of the program's own nodes; parts that rules made belong to the copy."""
    copy = clone(graph)
    originals = dict(zip(copy.nodes, graph.nodes, strict=True))
    verdicts = convert(copy, rules, legality, Mode.PARTIAL).verdicts
    return Conversion(tuple(
        Verdict(
            originals[v.node], v.rules, tuple(originals.get(n, n) for n in v.parts),
            tuple((originals.get(n, n), violation) for n, violation in v.illegal), v.op, v.layers, v.part_ops,
        )
        for v in verdicts
    ))


def _convert(rewriter: Rewriter, node: Node, legality: Legality, depth: int = 0) -> Verdict:
    """Make ``node`` legal if a rule can, or its parts."""
    if depth > _DEEPEST:
        raise QCompilerError(
            f"decomposing {node.op.name} does not come to an end", layer=node.layer,
            found="most often applied: " + ", ".join(name for name, _ in rewriter.counts.most_common(3)),
        )
    violation = legality(node)
    if violation is None:
        return Verdict(node, (), (node,), ())
    made = _Inserted()
    with rewriter.graph.watched_by(made):
        rule = rewriter.rewrite(node)
    if rule is None:
        return Verdict(node, (), (node,), ((node, violation),))
    parts = [part for part in made.nodes if part.graph is not None and not isinstance(part.op, Constant)]
    if node.graph is not None:
        parts.append(node)
    verdicts = [_convert(rewriter, part, legality, depth + 1) for part in parts]
    return Verdict(
        node,
        (rule.name, *(name for v in verdicts for name in v.rules)),
        tuple(part for v in verdicts for part in v.parts),
        tuple(pair for v in verdicts for pair in v.illegal),
    )


def _without_erased(verdict: Verdict) -> Verdict:
    """A verdict without the parts that became part of what a later node was converted to."""
    parts = tuple(part for part in verdict.parts if part.graph is not None)
    return replace(
        verdict,
        parts=parts,
        part_ops=tuple(part.op.name for part in parts),
        illegal=tuple(pair for pair in verdict.illegal if pair[0].graph is not None),
    )


class _Inserted(GraphListener):
    """Collects new nodes, in order of creation."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []

    def node_inserted(self, node: Node) -> None:
        self.nodes.append(node)
