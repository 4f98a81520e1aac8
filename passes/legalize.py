"""The pass ``legalize``."""

from __future__ import annotations

import difflib
from collections.abc import Iterator

from qcompiler.analysis.rewriting import replace_node
from qcompiler.errors import QCompilerError
from qcompiler.ir import Builder, Graph, Node
from qcompiler.ops.constant import Constant
from qcompiler.passes.decompositions import DECOMPOSITIONS, Decomposition
from qcompiler.pipeline import Context, Pass, PassResult, compiler_pass
from qcompiler.target import Target, Violation, check_float_node


@compiler_pass("legalize")
class Legalize(Pass):
    """Spell out, still in float, what the target lacks in ops that it has.

    A node that is illegal on the target is replaced by the first decomposition of the descriptor's list that applies
    to it. What then remains illegal is reported at once, each node by the user's layer, with the constraint that
    decides.
    """

    def run(self, graph: Graph, context: Context) -> PassResult:
        target = context.require_target(self.name)
        rules = decompositions_of(target)
        illegal: list[tuple[Node, Violation]] = []
        changed = False
        for node in graph.nodes:
            changed |= _legalize(graph, node, target, rules, illegal)
        if illegal:
            raise _error(target, illegal)
        return PassResult(graph, changed)


def decompositions_of(target: Target) -> dict[str, list[Decomposition]]:
    """The decompositions that a target's descriptor lists, by the op that they replace.

    Raises:
        QCompilerError: the descriptor names one that does not exist.
    """
    rules: dict[str, list[Decomposition]] = {}
    for name in target.descriptor.decompositions:
        if name not in DECOMPOSITIONS:
            near = difflib.get_close_matches(name, DECOMPOSITIONS, 1)
            raise QCompilerError(
                f"{target.source_text}: decompositions: unknown decomposition {name!r}",
                expected="one of " + ", ".join(DECOMPOSITIONS),
                fix=f"did you mean {near[0]!r}?" if near else None,
            )
        rules.setdefault(DECOMPOSITIONS[name].op, []).append(DECOMPOSITIONS[name])
    return rules


def _legalize(
    graph: Graph, node: Node, target: Target, rules: dict[str, list[Decomposition]],
    illegal: list[tuple[Node, Violation]],
) -> bool:
    """Make ``node`` legal, or note why it is not. Returns whether it was replaced."""
    if isinstance(node.op, Constant):
        return False
    violation = check_float_node(target, node)
    if violation is None:
        return False
    for rule in rules.get(node.op.name, ()):
        before = node.previous
        replacement = rule.build(Builder(graph, node, node.loc), node)
        if replacement is None:
            continue
        made = list(_between(graph, before, node))
        replacement.origin = node.result.origin
        replace_node(graph, node, replacement)
        for part in made:
            _legalize(graph, part, target, rules, illegal)
        return True
    illegal.append((node, violation))
    return False


def _between(graph: Graph, before: Node | None, end: Node) -> Iterator[Node]:
    """The nodes after ``before`` and before ``end``."""
    node = before.next if before is not None else next(graph.nodes)
    while node is not None and node is not end:
        yield node
        node = node.next


def _error(target: Target, illegal: list[tuple[Node, Violation]]) -> QCompilerError:
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
