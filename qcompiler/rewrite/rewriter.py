"""Applies rules to one node: finds a match, lets the rule build, and puts what it built in place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from qcompiler.errors import QCompilerError
from qcompiler.ir import Graph, GraphListener, Node, Op, Remark, Untraced, Value
from qcompiler.ir.node import Loc, in_order
from qcompiler.ops.constant import Constant
from qcompiler.rewrite.builder import RewriteBuilder
from qcompiler.rewrite.match import Declined, Match, matches
from qcompiler.rewrite.outcome import check_outcome, named_error, used_too_early
from qcompiler.rewrite.rule import Outcome, Rule, TracedRule, trace


class Rewriter:
    """Rules by the ops that they may replace.

    Args:
        graph: the program to rewrite.
        rules: tried in this order at each node.

    Attributes:
        counts: how often each rule was applied, by name.
    """

    def __init__(self, graph: Graph, rules: Iterable[Rule]) -> None:
        self.graph = graph
        self.counts: Counter[str] = Counter()
        self._rules = [trace(rule) for rule in ([rules] if isinstance(rules, Rule) else rules)]
        self._by_op: dict[type[Op], list[TracedRule]] = {}
        # Worked out once: putting reasons into words for nobody would cost more than the rewriting.
        self._curious = [
            listener for listener in graph.listeners
            if type(listener).wants_remarks_on is not GraphListener.wants_remarks_on
        ]

    def rules_for(self, op: type[Op]) -> list[TracedRule]:
        """The rules whose first root may be of this op."""
        rules = self._by_op.get(op)
        if rules is None:
            rules = [r for r in self._rules if any(variant[0].accepts(op) for variant in r.variants)]
            self._by_op[op] = rules
        return rules

    def rewrite(self, node: Node) -> Rule | None:
        """Apply the first rule that rewrites ``node``; None where none does."""
        rules = self.rules_for(type(node.op))
        if not rules:
            return None
        explains = bool(self._curious) and any(listener.wants_remarks_on(node) for listener in self._curious)
        for traced in rules:
            if self._apply(traced, node, explains):
                self.counts[traced.rule.name] += 1
                return traced.rule
        return None

    def _apply(self, traced: TracedRule, node: Node, explains: bool) -> bool:
        declined: dict[Declined, None] = {}
        looked_at: dict[Node, None] = {node: None}
        for variant in traced.variants:
            if not variant[0].accepts(type(node.op)):
                continue
            for match in matches(variant, node, explains):
                if isinstance(match, Declined):
                    declined[match] = None
                    continue
                outcome = self._build(traced, match)
                if not isinstance(outcome, Declined):
                    if self._curious:
                        self._remark(traced.rule, match.nodes, True, "applied")
                    return True
                declined[outcome] = None
                looked_at.update(dict.fromkeys(match.nodes))
        if self._curious:
            # Of several ways to match, those that came furthest tell most.
            furthest = max((d.matched for d in declined), default=0)
            reasons = dict.fromkeys(d.reason for d in declined if d.matched == furthest)
            self._remark(traced.rule, looked_at, False, "; or ".join(reasons))
        return False

    def _remark(self, rule: Rule, nodes: Iterable[Node], applied: bool, text: str) -> None:
        for node in nodes:
            self.graph.remark(Remark(rule.name, node, applied, text))

    def _build(self, traced: TracedRule, match: Match) -> Outcome:
        """Let the rule build at a match, and put the result in place. Nothing is left behind where it declines."""
        anchor = match.root
        if len(match.roots) > 1:
            anchor = in_order(match.roots)[0]
            late = _computed_behind(match, anchor)
            if late is not None:
                return match.fail(f"the operand {late} is computed behind the first node to replace")
        builder = RewriteBuilder(self.graph, anchor, _layers(match))
        version = self.graph.version
        try:
            outcome = traced.apply(builder, match)
            changed = self.graph.version > version + _insertions_and_erasures(builder.created)
            if isinstance(outcome, Declined):
                if changed:
                    raise QCompilerError("declines after it has changed the program", fix="decide first, then change")
            else:
                replacements = check_outcome(match, outcome, changed)
                late = used_too_early(match, replacements, builder.created)
                if late is not None:
                    outcome = match.fail(f"it needs {late}, which is computed behind the first node to replace")
        except Exception as error:
            self._withdraw(builder.created)
            if isinstance(error, QCompilerError) and error.layer:
                raise  # the rule's own
            raise named_error(error, traced.rule, match) from error
        if isinstance(outcome, Declined):
            self._withdraw(builder.created)
            return outcome
        self._replace(match, replacements, builder.created)
        return outcome

    def _withdraw(self, created: Sequence[Node]) -> None:
        """Erase what a rule made in vain. What it has wired into the program before it failed must stay."""
        for node in reversed(created):
            if node.graph is not None and not any(value.uses for value in node.results):
                self.graph.erase(node)

    def _replace(self, match: Match, replacements: Sequence[Value], created: Sequence[Node]) -> None:
        results = [(root, value) for root in match.roots for value in root.results]
        # All uses are noted before any changes: values may change places.
        replaced = [
            (root, old, new, list(old.uses))
            for (root, old), new in zip(results, replacements, strict=True) if new is not old
        ]
        for root, old, new, uses in replaced:
            if isinstance(new.origin, Untraced) and old.origin != Untraced(f"made by {root.op.name}"):
                new.origin = old.origin
            if new.producer is not None and new.producer not in created:
                new.producer.absorb_layers(root)
            for user, index in uses:
                user.set_operand(index, new)
        self._erase_unused([*match.nodes, *reversed(created)])

    def _erase_unused(self, nodes: Iterable[Node]) -> None:
        """Erase those of ``nodes`` that nobody uses any more, and what was computed for them alone."""
        waiting = list(nodes)[::-1]
        while waiting:
            node = waiting.pop()
            if node.graph is None or any(value.uses for value in node.results):
                continue
            producers = [v.producer for v in node.operands if v.producer is not None]
            self.graph.erase(node)
            waiting.extend(producers)


def _layers(match: Match) -> Loc:
    """The layers of the nodes that go, those that come first in the program first; constants have none of their own.

    An inner node with other users stays, and keeps its layers for itself.
    """
    names: dict[str, None] = {}
    for node in reversed(match.nodes):
        if node in match.roots or (not isinstance(node.op, Constant) and _has_one_use(node)):
            names.update(dict.fromkeys(node.loc))
    return tuple(names)


def _has_one_use(node: Node) -> bool:
    return sum(len(value.uses) for value in node.results) == 1


def _computed_behind(match: Match, anchor: Node) -> str | None:
    """The name of a variable whose value does not exist yet where the first root stands."""
    for name, bound in match.operands.items():
        for value in bound if isinstance(bound, tuple) else (bound,):
            if value is not None and value.producer is not None and not value.producer.is_before(anchor):
                return name
    return None


def _insertions_and_erasures(created: Sequence[Node]) -> int:
    return len(created) + sum(node.graph is None for node in created)
