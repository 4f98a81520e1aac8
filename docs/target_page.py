"""The page of a target in the generated reference."""

from __future__ import annotations

from collections.abc import Sequence

from reference_text import inline, page, table

from qcompiler.passes.legalize import decompositions_of
from qcompiler.rewrite import describe
from qcompiler.target import Target, load_target
from qcompiler.target.target_description import (
    FORMAT_COLUMNS,
    OP_COLUMNS,
    describe_arithmetic,
    describe_changes,
    describe_formats,
    describe_ops,
    describe_target,
    fused_endings,
)


def target_page(target: Target) -> str:
    """All that a descriptor says, in tables.

    Args:
        target: a built-in target.

    Returns:
        Markdown, with links to the other pages of the reference.
    """
    descriptor = target.descriptor
    facts = [
        (title, _extended(descriptor.bases) if title == "extends" else f"`{text}`" if title == "pipeline" else text)
        for title, text in describe_target(target) if title not in ("target", "summary")
    ]
    formats = [(f"`{name}`", *cells) for name, *cells in describe_formats(target)]
    ops = [
        (f"[`{o.op}`](../ops.md#{o.op})", _code(o.operands), f"`{o.result}`", _code(o.arithmetic), o.constraints)
        for o in describe_ops(target)
    ]
    arithmetic = [(f"`{text}`", _code(names), inline(doc)) for text, names, doc in describe_arithmetic(target)]
    listed = describe(type(rule) for rule in decompositions_of(target))
    rules = [(f"`{r.name}`", f"`{r.replaces}`", inline(r.text)) for r in listed]
    return page(
        target.name, descriptor.summary + ".", table(("", ""), facts),
        *_changes(target),
        "## Number formats", table(FORMAT_COLUMNS, formats),
        "## Ops", "An op without a row is illegal. [What the keys mean](../descriptor.md).",
        table(OP_COLUMNS, ops),
        "A function of one number that has no row of its own runs as `lut`, one that only limits values as `clamp`, "
        "where the target has these.",
        *(("## Arithmetic", table(("arithmetic", "of", "what it computes"), arithmetic)) if arithmetic else ()),
        "## Fusion", _fusion(target),
        "## Decompositions", "What the target lacks is replaced by the first of these that applies." if rules else
        "None: what the target lacks stays as it is.",
        table(("name", "replaces", "by"), rules) if rules else "",
    )


def _extended(names: Sequence[str]) -> str:
    return ", ".join(f"[{name}]({name}.md)" for name in names)


def _code(names: str) -> str:
    """A list of names, each as code."""
    return ", ".join(f"`{name}`" for name in names.split(", ")) if names else ""


def _changes(target: Target) -> list[str]:
    """What a target changes of the one that it extends."""
    if not target.descriptor.bases:
        return []
    base = load_target(target.descriptor.bases[0])
    rows = [(entry, before or "none", after or "none") for entry, before, after in describe_changes(target, base)]
    return [
        "## Changes", f"What it says other than {_extended([base.name])}, which it extends first.",
        table(("entry", f"of {base.name}", f"of {target.name}"), rows) if rows else "Nothing.",
    ]


def _fusion(target: Target) -> str:
    """Which ops join the kernel that they follow."""
    endings = [f"`{name}`" for name in fused_endings(target)]
    if not endings:
        return "Every op is a kernel of its own."
    return f"A kernel starts with a contraction or another computing op, and may end with {', '.join(endings)}."
