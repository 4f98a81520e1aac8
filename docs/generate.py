"""Writes ``docs/reference/`` from the compiler's own registries, so that no page can say what the code does not.

    python docs/generate.py            rewrite the pages
    python docs/generate.py --check    exit 1 if a page is stale, missing or left over
"""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import sys
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from reference_text import (
    attribute_default,
    built_in,
    field_text,
    field_type,
    inline,
    member_docs,
    page,
    prose,
    source_of,
    split_attributes,
    table,
    toml_default,
    type_name,
)
from target_page import target_page

from qcompiler import plugins
from qcompiler.frontends.onnx import importer  # noqa: F401 - registers the operators
from qcompiler.frontends.onnx.layer import HANDLERS
from qcompiler.ir import BLOCK_FORMS, OPS, Fact, Op
from qcompiler.numerics import ARITHMETIC
from qcompiler.pipeline import ALIASES, PASSES, describe_conditions, options_of
from qcompiler.target import (
    PREDICATES,
    SCHEMA_FILE,
    Descriptor,
    OpRow,
    Target,
    TypeSpec,
    built_in_targets,
    descriptor_schema,
    load_target,
    schema_text,
)
from qcompiler.target.descriptor import Accumulator, Limits

REFERENCE = Path(__file__).resolve().parent / "reference"


def pages() -> dict[str, str]:
    """The text of every reference page, by its path below ``docs/reference``."""
    plugins.load()
    targets = {name: load_target(name) for name in built_in_targets()}
    return {
        "README.md": _index(targets),
        "passes.md": _passes(),
        "ops.md": _ops(),
        "arithmetic.md": _arithmetic(targets.values()),
        "descriptor.md": _descriptor(),
        "predicates.md": _predicates(),
        "onnx.md": _onnx(),
        **{f"targets/{name}.md": target_page(target) for name, target in targets.items()},
    }


def stale(folder: Path = REFERENCE) -> list[str]:
    """Pages of ``folder`` that differ from what would be written, are missing, or would not be written at all."""
    wanted = pages()
    present = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*.md")}
    return sorted(
        name for name in {*wanted, *present}
        if name not in wanted or name not in present or present[name].read_text(encoding="utf-8") != wanted[name]
    )


def write(folder: Path = REFERENCE) -> None:
    """Bring ``folder`` up to date."""
    wanted = pages()
    for name in stale(folder):
        path = folder / name
        if name in wanted:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(wanted[name], encoding="utf-8")
        else:
            path.unlink()


def schema() -> str:
    """The text of the JSON Schema of descriptors, which stands in the package."""
    from qcompiler.passes.legalize import known_decompositions

    plugins.load()
    return schema_text(descriptor_schema(known_decompositions(), list(built_in_targets()), built_in=True))


# Pages


def _index(targets: Mapping[str, Target]) -> str:
    items = [
        "[passes](passes.md): every pass with its options",
        "[ops](ops.md): every op with its attributes",
        "[arithmetic](arithmetic.md): every named integer arithmetic",
        "[descriptor](descriptor.md): every key of a target descriptor",
        "[predicates](predicates.md): further conditions that a descriptor may cite",
        "[ONNX operators](onnx.md): what the ONNX front end reads",
    ]
    rows = [
        (f"[{name}](targets/{name}.md)", target.descriptor.summary, _extends_in_index(target))
        for name, target in targets.items()
    ]
    return page(
        "Reference", "Generated from the source by `make docs`.", "\n".join(f"- {item}" for item in items),
        "## Targets", table(("target", "summary", "extends"), rows),
    )


def _extends_in_index(target: Target) -> str:
    return ", ".join(f"[{base}](targets/{base}.md)" for base in target.descriptor.bases)


def _passes() -> str:
    from qcompiler.rewrite import RULES, describe

    blocks = [
        "Options stand in braces in pipeline text: `calibrate{method=minmax}`. Rules of yours can "
        "[join](../writing-a-pass.md#registering) those of a pass that lists any."
    ]
    for name, cls in sorted(built_in(PASSES)):
        blocks += [f"## {name}", prose(cls.__doc__)]
        blocks.append(" ".join(f"{label.capitalize()} {words}." for label, words in describe_conditions(cls)))
        rows = [
            (f"`{o.name}`", o.type_text, f"`{o.default_text}`", o.help,
             ", ".join(f"`{c}`" for c in o.choices) or o.limits_text)
            for o in options_of(cls).values()
        ]
        blocks.append(table(("option", "type", "default", "meaning", "allowed"), rows) if rows else "No options.")
        rules = [cls for rule, cls in built_in(RULES) if name in cls.into]
        if rules:
            described = [(f"`{r.name}`", r.replaces, inline(r.text)) for r in describe(rules)]
            blocks.append(table(("rule", "replaces", "in short"), described))
    blocks += ["## Aliases", table(("name", "stands for"), [(f"`{n}`", f"`{text}`") for n, text in ALIASES.items()])]
    return page("Passes", *blocks)


def _ops() -> str:
    facts = [(f"`{name}`", text) for name, text in member_docs(Fact).items()]
    blocks = [
        "An op states mathematics only. What a target demands of it stands in the target's descriptor. "
        "`qcompiler targets show NAME` lists the ops of a target.",
        "Facts that passes ask for:", table(("fact", "meaning"), facts),
    ]
    module = None
    for name, cls in built_in(OPS):
        if cls.__module__ != module:
            module = cls.__module__
            blocks += [f"## {module.rpartition('.')[2]}", prose(sys.modules[module].__doc__)]
        blocks += [f"### {name}", *_op(name, cls)]
    return page("Ops", *blocks)


def _op(name: str, cls: type[Op]) -> list[str]:
    text, described = split_attributes(cls.__doc__)
    blocks = [text]
    if name in BLOCK_FORMS:
        blocks.append(f"On block floating point: {prose(BLOCK_FORMS[name].__doc__)}")
    declared = typing.get_type_hints(cls)
    rows = []
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        default = "required" if field.default is dataclasses.MISSING else attribute_default(field.default)
        kind = type_name(declared[field.name])
        rows.append((f"`{field.name}`", f"`{kind}`", default, described.get(field.name, "")))
    if rows:
        blocks.append(table(("attribute", "type", "default", "meaning"), rows))
    known = [f"[`{n}`](arithmetic.md#{op})" for op, n in ARITHMETIC if op == name]
    notes = [
        "facts: " + ", ".join(f"`{f.name}`" for f in cls.facts) if cls.facts else "",
        f"results lie within {list(cls.bounds)}" if cls.bounds else "",
        "" if cls.foldable else "never folded",
        "arithmetic: " + ", ".join(known) if known else "",
    ]
    line = "; ".join(filter(None, notes))
    if line:
        blocks.append(f"{line[0].upper()}{line[1:]}.")
    return blocks


def _arithmetic(targets: Iterable[Target]) -> str:
    used: dict[tuple[str, str], list[str]] = {}
    for target in targets:
        for row in target.rows.values():
            if row.arithmetic:
                used.setdefault((row.name, row.arithmetic.name), []).append(target.name)
    blocks = [
        "A target cites an arithmetic by name and parameters, such as `litert-add{shift=20}`. "
        "[How they compute](../arithmetic.md) is described by op."
    ]
    by_op: dict[str, list[tuple[str, Any]]] = {}
    for (op, name), cls in built_in(ARITHMETIC):
        by_op.setdefault(op, []).append((name, cls))
    for op, entries in by_op.items():
        rows = []
        for name, cls in entries:
            parameters = ", ".join(f"`{f.name}={f.default}`" for f in dataclasses.fields(cls))
            citing = ", ".join(f"[{t}](targets/{t}.md)" for t in used.get((op, name), []))
            rows.append((f"`{name}`", parameters, inline(cls.__doc__), citing))
        blocks += [f"## {op}", table(("name", "parameters", "what it computes", "used by"), rows)]
        sources = {source_of(sys.modules[cls.__module__].__doc__) for _, cls in entries} - {""}
        blocks.extend(sorted(sources))
    return page("Arithmetic", *blocks)


def _descriptor() -> str:
    blocks = [
        "Unknown keys, types, ops and arithmetic are errors that name file, line and key. `qcompiler targets schema` "
        "prints the JSON Schema of a descriptor, for editors."
    ]
    for title, model in (
        ("Top level", Descriptor), ("[limits]", Limits), ("limits.accumulator", Accumulator),
        ("[types], each entry", TypeSpec), ("[ops], each entry", OpRow),
    ):
        rows = []
        for name, field in model.model_fields.items():
            default = "required" if field.is_required() else toml_default(field.default)
            rows.append((f"`{field.alias or name}`", field_type(field), default, field_text(field)))
        blocks += [f"## {title}", inline(model.__doc__), table(("key", "type", "default", "meaning"), rows)]
    return page("Target descriptor", *blocks)


def _predicates() -> str:
    blocks = [
        "A row of a descriptor cites them in its key `where`, as `where = [\"channels-multiple-of{factor=16}\"]`. The "
        "text is that of the error, with the parameters filled in. A node that a condition says nothing of meets it."
    ]
    rows = []
    for name, function in built_in(PREDICATES):
        options = [
            f"`{p.name}`" if p.default is p.empty else f"`{p.name}={p.default}`"
            for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY
        ]
        rows.append((f"`{name}`", ", ".join(options), inline(function.__doc__)))
    return page("Predicates", *blocks, table(("name", "parameters", "what it demands"), rows))


def _onnx() -> str:
    blocks = [
        "What the ONNX front end reads on values computed from the inputs. Other standard operators are evaluated "
        "at import where all their operands are constants. What a target makes of a layer, `qcompiler check` says."
    ]
    by_module: dict[str, list[str]] = {}
    for operator, handler in built_in(HANDLERS):
        by_module.setdefault(handler.__module__, []).append(operator)
    for module, operators in by_module.items():
        blocks += [f"## {module.rpartition('_')[2]}", ", ".join(f"`{o}`" for o in sorted(operators)) + "."]
    return page("ONNX operators", *blocks)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(description="write the generated reference")
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if a page is stale")
    if not parser.parse_args(arguments).check:
        SCHEMA_FILE.write_text(schema(), encoding="utf-8")
        write()
        return 0
    names = [f"docs/reference/{name}" for name in stale()]
    if SCHEMA_FILE.read_text(encoding="utf-8") != schema():
        names.append(SCHEMA_FILE.name)
    for name in names:
        print(f"{name} is stale; run 'make docs'")
    return 1 if names else 0


if __name__ == "__main__":
    sys.exit(main())
