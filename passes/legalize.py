"""The pass ``legalize``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from qcompiler.analysis.rewriting import replace_node
from qcompiler.errors import QCompilerError, did_you_mean
from qcompiler.ir import Builder, Graph, Node
from qcompiler.ops.constant import Constant
from qcompiler.passes.decompositions import DECOMPOSITIONS, Decomposition
from qcompiler.pipeline import Context, Pass, PassResult, compiler_pass
from qcompiler.target import Target, Violation, check_float_node


@dataclass(frozen=True)
class Verdict:
    """What ``legalize`` makes of one node.

    Attributes:
        node: the node; no longer in the graph if it was decomposed.
        rules: names of the decompositions applied to it and to its parts, in order.
        parts: the nodes that do its work now: the node itself where no rule was applied.
        illegal: those of ``parts`` that the target cannot run, each with the constraint that decides.
    """

    node: Node
    rules: tuple[str, ...]
    parts: tuple[Node, ...]
    illegal: tuple[tuple[Node, Violation], ...]


@compiler_pass("legalize")
class Legalize(Pass):
    """Spell out, still in float, what the target lacks in ops that it has.

    A node that is illegal on the target is replaced by the first decomposition of the descriptor's list that applies
    to it. What then remains illegal is reported at once, each node by the user's layer, with the constraint that
    decides.
    """

    def run(self, graph: Graph, context: Context) -> PassResult:
        target = context.require_target(self.name)
        verdicts = legalize(graph, target)
        illegal = [pair for verdict in verdicts for pair in verdict.illegal]
        if illegal:
            raise _error(target, illegal)
        return PassResult(graph, any(verdict.rules for verdict in verdicts))


def legalize(graph: Graph, target: Target) -> list[Verdict]:
    """Decompose, in place, what the target lacks. Returns a verdict on each node but constants, in order.

    Raises:
        QCompilerError: the descriptor names a decomposition that does not exist. An illegal node is no error here.
    """
    rules = decompositions_of(target)
    return [_legalize(graph, node, target, rules) for node in graph.nodes if not isinstance(node.op, Constant)]


def decompositions_of(target: Target) -> dict[str, list[Decomposition]]:
    """The decompositions that a target's descriptor lists, by the op that they replace.

    Raises:
        QCompilerError: the descriptor names one that does not exist.
    """
    rules: dict[str, list[Decomposition]] = {}
    for name in target.descriptor.decompositions:
        if name not in DECOMPOSITIONS:
            raise QCompilerError(
                f"{target.source_text}: decompositions: unknown decomposition {name!r}",
                expected="one of " + ", ".join(DECOMPOSITIONS),
                fix=did_you_mean(name, DECOMPOSITIONS),
            )
        rules.setdefault(DECOMPOSITIONS[name].op, []).append(DECOMPOSITIONS[name])
    return rules


def _legalize(graph: Graph, node: Node, target: Target, rules: dict[str, list[Decomposition]]) -> Verdict:
    """Make ``node`` legal if the target is able to run it, or its parts."""
    violation = check_float_node(target, node)
    if violation is None:
        return Verdict(node, (), (node,), ())
    for rule in rules.get(node.op.name, ()):
        before = node.previous
        replacement = rule.build(Builder(graph, node, node.loc), node)
        if replacement is None:
            continue
        made = [part for part in _between(graph, before, node) if not isinstance(part.op, Constant)]
        replacement.origin = node.result.origin
        replace_node(graph, node, replacement)
        verdicts = [_legalize(graph, part, target, rules) for part in made]
        return Verdict(
            node,
            (rule.name, *(name for v in verdicts for name in v.rules)),
            tuple(part for v in verdicts for part in v.parts),
            tuple(pair for v in verdicts for pair in v.illegal),
        )
    return Verdict(node, (), (node,), ((node, violation),))


def _between(graph: Graph, before: Node | None, end: Node) -> Iterator[Node]:
    """The nodes after ``before`` and before ``end``."""
    node = before.next if before is not None else next(graph.nodes)
    while node is not None and node is not end:
        yield node
        node = node.next


def _error(target: Target, illegal: Sequence[tuple[Node, Violation]]) -> QCompilerError:
    node, violation = illegal[0]
    if len(illegal) == 1:
        return QCompilerError(
            f"not legal on target {target.name!r}", layer=node.layer,
            expected=violation.constraint, found=violation.found, fix=_way_out(target),
        )
    lines = [f"    {n.layer}: {v.constraint} (found {v.found})" for n, v in illegal]
    return QCompilerError(
        f"{len(illegal)} layers are not legal on target {target.name!r}:\n" + "\n".join(lines), fix=_way_out(target)
    )


def _way_out(target: Target) -> str:
    return f"change these layers, or use another target; 'qcompiler targets show {target.name}' lists what it can do"
