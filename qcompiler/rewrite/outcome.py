"""Whether what a rule built and returned can replace what it matched."""

from __future__ import annotations

import traceback
from collections.abc import Sequence

from qcompiler.errors import QCompilerError
from qcompiler.ir import Node, Value
from qcompiler.rewrite.match import Match
from qcompiler.rewrite.rule import Outcome, Rule


def check_outcome(match: Match, outcome: Outcome, changed: bool) -> list[Value]:
    """The values that a rule returned, if they can replace what it matched.

    Args:
        match: what the rule matched.
        outcome: what it returned.
        changed: whether it changed the program in place.

    Raises:
        QCompilerError: they cannot; names neither rule nor layer.
    """
    replacements = [outcome] if isinstance(outcome, Value) else outcome
    if not isinstance(replacements, Sequence) or not all(isinstance(value, Value) for value in replacements):
        raise QCompilerError(
            "returns something else than values", found=repr(outcome),
            fix="return a value for each result of the roots, such as b(op, x), or m.fail(reason)",
        )
    results = [value for root in match.roots for value in root.results]
    if len(results) != len(replacements):
        raise QCompilerError(
            f"gives {len(replacements)} values", expected=f"{len(results)}, one for each result that it replaces"
        )
    for old, new in zip(results, replacements, strict=True):
        if new.type != old.type:
            raise QCompilerError(
                "replaces a value by one of another type", expected=str(old.type), found=str(new.type),
            )
    if results == list(replacements) and not changed:
        raise QCompilerError(
            "gives back what it was to replace, unchanged", fix="return m.fail(reason) where there is nothing to do"
        )
    return list(replacements)


def used_too_early(match: Match, replacements: Sequence[Value], created: Sequence[Node]) -> str | None:
    """The op of a value that does not exist yet where the rule uses it; None where there is none.

    Where several nodes are replaced, that may happen to any rule.

    Raises:
        QCompilerError: the rule is wrong, wherever it is applied; names neither rule nor layer.
    """
    results = [(root, value) for root in match.roots for value in root.results]
    replaced = {old for (_, old), new in zip(results, replacements, strict=True) if new is not old}
    uses = [(value, node) for node in created for value in node.operands]
    if any(value in replaced for value, _ in uses):
        raise QCompilerError(
            "builds on the value that it replaces, which would then depend on itself",
            fix="build the op anew from its operands, b(m.root.op, *m.root.operands), and build on that",
        )
    uses += [(new, root) for (root, _), new in zip(results, replacements, strict=True) if new.producer is not root]
    # What a single root was computed from comes before it, so that most rules need no comparison.
    known = {value for node in match.nodes for value in node.operands} if len(match.roots) == 1 else set()
    known.update(value for node in created if node.graph is not None for value in node.results)
    for value, user in uses:
        producer = value.producer
        if producer is None or user.graph is None or value in known:
            continue
        if producer.graph is not user.graph:
            raise QCompilerError(f"uses a result of {producer.op.name} that is not in the program (any more)")
        if not producer.is_before(user):
            if len(match.roots) > 1:
                return producer.op.name
            raise QCompilerError(f"uses a result of {producer.op.name} before it is computed")
    return None


def named_error(error: Exception, rule: Rule, match: Match) -> QCompilerError:
    """An error that a rule caused, with the names of the rule and of the layer."""
    if isinstance(error, QCompilerError):
        return QCompilerError(
            f"rule {rule.name!r} on {match.root.op.name}: {error.problem}", layer=match.root.layer,
            expected=error.expected, found=error.found, fix=error.fix,
        )
    place = traceback.extract_tb(error.__traceback__)[-1]
    return QCompilerError(
        f"rule {rule.name!r} on {match.root.op.name} failed: {type(error).__name__}: {error}", layer=match.root.layer,
        found=f"raised at {place.filename}:{place.lineno}",
    )
