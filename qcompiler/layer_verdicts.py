"""What becomes of each layer of a model on a target: the verdicts that ``check`` gives and ``compile`` records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from qcompiler.ir import Graph, Node
from qcompiler.ops.constant import Constant
from qcompiler.rewrite import Verdict
from qcompiler.target import MOVED, Violation

Status = Literal["legal", "decomposed", "folded", "host", "illegal"]
STATUSES: tuple[Status, ...] = ("legal", "decomposed", "folded", "host", "illegal")


@dataclass(frozen=True)
class LayerVerdict:
    """What becomes of one layer, or of several that were merged into one.

    Attributes:
        layers: the user's layer names; empty for nodes that the compiler added.
        ops: the ops that the layer is made of before legalization.
        status: "legal": the target runs the ops as they are. "decomposed": it runs other ops in their place.
            "folded": nothing of the layer is left to run. "host": the host runs it, or part of it. "illegal": the
            target cannot run it, and has no host.
        rules: decompositions applied.
        parts: the ops after decomposition.
        violations: why the target cannot run the layer; empty where it can.
        host_ops: the ops of the layer that the host runs.
        moved_ops: those of them that the target could run: the host runs them since that saves crossings.
        ways_out: what the user can do about ``violations``.
    """

    layers: tuple[str, ...]
    ops: tuple[str, ...]
    status: Status
    rules: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    violations: tuple[Violation, ...] = ()
    host_ops: tuple[str, ...] = ()
    moved_ops: tuple[str, ...] = ()
    ways_out: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return " + ".join(self.layers) or "(added by the compiler)"

    def as_json(self) -> dict[str, Any]:
        """The verdict as plain dicts, lists and strings; the keys are documented in docs/checking.md."""
        return {
            "layers": list(self.layers), "ops": list(self.ops), "status": self.status,
            "decompositions": list(self.rules), "parts": list(self.parts), "host_ops": list(self.host_ops),
            "moved_ops": list(self.moved_ops),
            "violations": [
                {"constraint": v.constraint, "found": v.found, "descriptor_entry": v.entry} for v in self.violations
            ],
            "ways_out": list(self.ways_out),
        }


def verdicts_by_layer(
    original: Graph, verdicts: Sequence[Verdict], on_host: Sequence[tuple[Node, Violation]], *, has_host: bool
) -> list[LayerVerdict]:
    """One entry for each set of layers that share nodes, and one for each layer without nodes, in model order.

    Args:
        original: the model.
        verdicts: what ``legalize`` made of its nodes.
        on_host: the nodes that the host runs in the end, each with the reason.
        has_host: whether the target leaves to a host what it lacks.
    """
    order: dict[str, int] = {}
    folded: dict[str, list[str]] = {}
    for node in original.nodes:
        if isinstance(node.op, Constant):
            continue
        for name in node.loc:
            order.setdefault(name, len(order))
            folded.setdefault(name, []).append(node.op.name)
    grouped: dict[tuple[str, ...], list[Verdict]] = {}
    for verdict in verdicts:
        grouped.setdefault(verdict.layers, []).append(verdict)
        for name in verdict.layers:
            folded.pop(name, None)
    entries = [_merged(layers, members) for layers, members in grouped.items()]
    if has_host:
        entries = _with_host(entries, on_host)
    entries.extend(LayerVerdict((name,), tuple(ops), "folded") for name, ops in folded.items())
    return sorted(entries, key=lambda e: min((order.get(name, len(order)) for name in e.layers), default=len(order)))


def _merged(layers: tuple[str, ...], members: Sequence[Verdict]) -> LayerVerdict:
    rules = tuple(dict.fromkeys(name for v in members for name in v.rules))
    violations = tuple(dict.fromkeys(violation for v in members for _, violation in v.illegal))
    status: Status = "illegal" if violations else "decomposed" if rules else "legal"
    parts = tuple(op for v in members for op in v.part_ops) if rules else ()
    return LayerVerdict(layers, tuple(v.op for v in members), status, rules, parts, violations)


def _with_host(entries: Sequence[LayerVerdict], on_host: Sequence[tuple[Node, Violation]]) -> list[LayerVerdict]:
    """Entries with what the host runs of them. What was illegal, and the host does not run, later passes removed."""
    exact = {entry.layers for entry in entries}
    by_layers: dict[tuple[str, ...], list[tuple[Node, Violation]]] = {}
    for node, reason in on_host:
        overlapping = [node.loc] if node.loc in exact else [e.layers for e in entries if set(e.layers) & set(node.loc)]
        for layers in overlapping:
            by_layers.setdefault(layers, []).append((node, reason))
    return [_on_host(entry, by_layers) for entry in entries]


def _on_host(
    entry: LayerVerdict, by_layers: Mapping[tuple[str, ...], Sequence[tuple[Node, Violation]]]
) -> LayerVerdict:
    pairs = by_layers.get(entry.layers, ())
    if not pairs:
        return replace(entry, status="folded", violations=()) if entry.violations else entry
    return replace(
        entry, status="host", violations=tuple(dict.fromkeys(r for _, r in pairs if r != MOVED)),
        host_ops=tuple(node.op.name for node, _ in pairs),
        moved_ops=tuple(node.op.name for node, reason in pairs if reason == MOVED),
    )
