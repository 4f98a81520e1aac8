"""What a user can do about a layer that a target cannot run."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache, partial

from qcompiler.errors import QCompilerError
from qcompiler.ir import Graph, Node
from qcompiler.rewrite.conversion import Mode, convert
from qcompiler.rewrite.rule import RULES, Rule
from qcompiler.target import Target, Violation, built_in_targets, check_float_node, load_target

_MOST_NAMED = 5
"""Targets that a way out names at most."""


def ways_out(target: Target, illegal: Iterable[tuple[Node, Violation]], unlisted: Iterable[str]) -> tuple[str, ...]:
    """What makes a layer legal, the nearest first.

    Args:
        target: the target that refuses the layer.
        illegal: the layer's nodes that it refuses, each with the constraint that decides.
        unlisted: decompositions that help and that the descriptor does not list; see :func:`helping_decompositions`.
    """
    found = [f"list the decomposition {name!r} in the descriptor" for name in unlisted]
    pairs = list(illegal)
    for _, violation in pairs:
        if violation.entry == "ops":
            found.append(f"give the descriptor a row for {violation.found!r} if the hardware has it")
        elif violation.entry:
            found.append(f"change {violation.entry} in the descriptor if the hardware allows it")
    able = [name for name in _built_in_names() if all(_can_run(name, node) for node, _ in pairs)]
    if pairs and able:
        others = f" and {len(able) - _MOST_NAMED} others" if len(able) > _MOST_NAMED else ""
        found.append("compile for a target that runs it: " + ", ".join(able[:_MOST_NAMED]) + others)
    if target.descriptor.fallback != "host":
        found.append('leave it to the host: fallback = "host" in the descriptor, or --fallback host')
    return tuple(dict.fromkeys(found)) or ("change the layer in the model",)


def helping_decompositions(graph: Graph, target: Target, listed: Iterable[Rule]) -> dict[Node, list[str]]:
    """For each node that the target's own decompositions leave illegal: registered ones that make it legal.

    Args:
        graph: a float program, before ``legalize``; it is not changed.
        target: whose legality counts.
        listed: the decompositions that the target has.
    """
    rules = list(listed)
    legality = partial(check_float_node, target)
    refused = [v.node for v in convert(graph, rules, legality, Mode.ANALYSIS).verdicts if v.illegal]
    helping: dict[Node, list[str]] = {node: [] for node in refused}
    if not helping:
        return helping
    for name, cls in RULES.items():
        if "legalize" not in cls.into or name in target.descriptor.decompositions:
            continue
        for verdict in convert(graph, [*rules, cls()], legality, Mode.ANALYSIS).verdicts:
            if verdict.node in helping and verdict.rules and not verdict.illegal:
                helping[verdict.node].append(name)
    return helping


@cache
def _built_in(name: str) -> Target | None:
    """A built-in target; None where its descriptor cannot be read, which is no matter of this layer's."""
    try:
        return load_target(name)
    except QCompilerError:
        return None


def _built_in_names() -> list[str]:
    return list(built_in_targets())


def _can_run(name: str, node: Node) -> bool:
    target = _built_in(name)
    return target is not None and check_float_node(target, node) is None
