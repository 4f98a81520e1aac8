"""Writes ``docs/reference/`` from the compiler's own registries, so that no page can say what the code does not.

    python docs/generate.py            rewrite the pages
    python docs/generate.py --check    exit 1 if a page is stale, missing or left over
"""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import re
import sys
import types
import typing
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from qcompiler import plugins
from qcompiler.frontends.onnx import importer  # noqa: F401 - registers the operators
from qcompiler.frontends.onnx.layer import HANDLERS
from qcompiler.ir import OPS, Fact, Op
from qcompiler.ir.attribute_types import attribute_types
from qcompiler.ir.printer import format_attribute
from qcompiler.numerics import ARITHMETIC
from qcompiler.pipeline import ALIASES, PASSES
from qcompiler.target import Descriptor, OpRow, Target, TypeSpec, built_in_targets, load_target
from qcompiler.target.descriptor import Accumulator, Limits

REFERENCE = Path(__file__).resolve().parent / "reference"
_NOTICE = "<!-- Written by docs/generate.py from the source. Do not edit. -->"


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
        "onnx.md": _onnx(),
        **{f"targets/{name}.md": _target(target) for name, target in targets.items()},
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


# Pages


def _index(targets: Iterable[str]) -> str:
    items = [
        "[passes](passes.md): every pass with its options",
        "[ops](ops.md): every op with its attributes",
        "[arithmetic](arithmetic.md): every named integer arithmetic",
        "[descriptor](descriptor.md): every key of a target descriptor",
        "[ONNX operators](onnx.md): what the ONNX front end reads",
        *(f"[{name}](targets/{name}.md): a target" for name in targets),
    ]
    return _page("Reference", "Generated from the source by `make docs`.", "\n".join(f"- {item}" for item in items))


def _passes() -> str:
    blocks = ["Options stand in braces in pipeline text: `calibrate{method=minmax}`."]
    for name, cls in sorted(_built_in(PASSES)):
        blocks += [f"## {name}", _prose(cls.__doc__)]
        fields = dataclasses.fields(cls)
        rows = [
            (f"`{f.name.replace('_', '-')}`", type(f.default).__name__, f"`{_plain(f.default)}`",
             f.metadata.get("help", ""), ", ".join(f"`{c}`" for c in f.metadata.get("choices", ())))
            for f in fields
        ]
        blocks.append(_table(("option", "type", "default", "meaning", "choices"), rows) if rows else "No options.")
    blocks += ["## Aliases", _table(("name", "stands for"), [(f"`{n}`", f"`{text}`") for n, text in ALIASES.items()])]
    return _page("Passes", *blocks)


def _ops() -> str:
    facts = [(f"`{fact.name}`", text) for fact, text in _documented_facts().items()]
    blocks = [
        "An op states mathematics only. What a target demands of it stands in the target's descriptor. "
        "`qcompiler targets show NAME` lists the ops of a target.",
        "Facts that passes ask for:", _table(("fact", "meaning"), facts),
    ]
    module = None
    for name, cls in _built_in(OPS):
        if cls.__module__ != module:
            module = cls.__module__
            blocks += [f"## {module.rpartition('.')[2]}", _prose(sys.modules[module].__doc__)]
        blocks += [f"### {name}", *_op(name, cls)]
    return _page("Ops", *blocks)


def _op(name: str, cls: type[Op]) -> list[str]:
    text, described = _split_attributes(cls.__doc__)
    blocks = [text]
    declared = attribute_types(cls)
    rows = []
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        default = "required" if field.default is dataclasses.MISSING else _attribute_default(field.default)
        rows.append((f"`{field.name}`", f"`{_type_name(declared[field.name])}`", default, described.get(field.name, "")))
    if rows:
        blocks.append(_table(("attribute", "type", "default", "meaning"), rows))
    known = [f"[`{n}`](arithmetic.md#{op})" for op, n in ARITHMETIC if op == name]
    notes = [
        "facts: " + ", ".join(f"`{f.name}`" for f in cls.facts) if cls.facts else "",
        f"results lie within {list(cls.bounds)}" if cls.bounds else "",
        "" if cls.foldable else "never folded",
        "arithmetic: " + ", ".join(known) if known else "",
    ]
    if any(notes):
        blocks.append("; ".join(filter(None, notes)).capitalize()[:1] + "; ".join(filter(None, notes))[1:] + ".")
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
    for (op, name), cls in _built_in(ARITHMETIC):
        by_op.setdefault(op, []).append((name, cls))
    for op, entries in by_op.items():
        rows = []
        for name, cls in entries:
            parameters = ", ".join(f"`{f.name}={f.default}`" for f in dataclasses.fields(cls))
            citing = ", ".join(f"[{t}](targets/{t}.md)" for t in used.get((op, name), []))
            rows.append((f"`{name}`", parameters, _inline(cls.__doc__), citing))
        blocks += [f"## {op}", _table(("name", "parameters", "what it computes", "used by"), rows)]
        sources = {_source(sys.modules[cls.__module__].__doc__) for _, cls in entries} - {""}
        blocks.extend(sorted(sources))
    return _page("Arithmetic", *blocks)


def _descriptor() -> str:
    blocks = ["Unknown keys, types, ops and arithmetic are errors that name file, line and key."]
    for title, model in (
        ("Top level", Descriptor), ("[limits]", Limits), ("limits.accumulator", Accumulator),
        ("[types], each entry", TypeSpec), ("[ops], each entry", OpRow),
    ):
        rows = []
        for name, field in model.model_fields.items():
            default = "required" if field.is_required() else _toml(field.default)
            rows.append((f"`{field.alias or name}`", _toml_type(field), default, _field_text(field)))
        blocks += [f"## {title}", _inline(model.__doc__), _table(("key", "type", "default", "meaning"), rows)]
    return _page("Target descriptor", *blocks)


def _onnx() -> str:
    blocks = [
        "The operators that the ONNX front end reads on computed values. Any standard operator is evaluated where "
        "all its operands are constants. What a target then makes of a layer, `qcompiler check` says."
    ]
    by_module: dict[str, list[str]] = {}
    for operator, handler in HANDLERS.items():
        by_module.setdefault(handler.__module__, []).append(operator)
    for module, operators in by_module.items():
        blocks += [f"## {module.rpartition('_')[2]}", ", ".join(f"`{o}`" for o in sorted(operators)) + "."]
    return _page("ONNX operators", *blocks)


def _target(target: Target) -> str:
    from qcompiler.passes.legalize import decompositions_of

    descriptor = target.descriptor
    accumulator = descriptor.limits.accumulator
    facts = [
        ("source", descriptor.source), ("layout", descriptor.layout), ("fallback", f"`{descriptor.fallback}`"),
        ("largest rank", str(descriptor.limits.max_rank or "any")),
        ("accumulator", f"{accumulator.bits} bits, overflow {accumulator.overflow}"),
        ("pipeline", f"`{descriptor.pipeline}`"),
    ]
    formats = [(f"`{n}`", _settings(spec, ())) for n, spec in descriptor.types.items()]
    rows = [
        (f"[`{n}`](../ops.md#{n})", " , ".join(f"`{o}`" for o in row.operands), f"`{row.out}`",
         f"`{row.arithmetic}`" if row.arithmetic else "", _settings(row, ("operands", "out", "arithmetic")))
        for n, row in descriptor.ops.items()
    ]
    rules = [(f"`{r.name}`", f"`{r.op}`", _inline(r.doc)) for rs in decompositions_of(target).values() for r in rs]
    return _page(
        target.name, descriptor.summary + ".", _table(("", ""), facts),
        "## Number formats", _table(("name", "format"), formats),
        "## Ops", "An op without a row is illegal. [What the keys mean](../descriptor.md).",
        _table(("op", "operands", "result", "arithmetic", "constraints"), rows),
        "A function of one number that has no row of its own runs as `lut`, one that only limits values as `clamp`.",
        "## Decompositions", "What the target lacks is replaced by the first of these that applies.",
        _table(("name", "replaces", "by"), rules),
    )


# Pieces of pages


def _page(title: str, *blocks: str) -> str:
    return "\n\n".join([f"# {title}", _NOTICE, *(b for b in blocks if b)]) + "\n"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _built_in(registry: dict[Any, Any]) -> list[tuple[Any, Any]]:
    """Entries of a registry that stem from this package, not from a user's plugin."""
    return [(key, cls) for key, cls in registry.items() if cls.__module__.startswith("qcompiler.")]


def _prose(doc: str | None) -> str:
    """A docstring as Markdown."""
    text = inspect.cleandoc(doc or "")
    text = re.sub(r":\w+:`~?(?:[\w.]+\.)?(\w+)`", r"`\1`", text)
    return text.replace("``", "`")


def _inline(doc: str | None) -> str:
    """A docstring on one line, for a table."""
    return " ".join(_prose(doc).split())


def _source(doc: str | None) -> str:
    """The paragraph of a module docstring that says where its formulas come from."""
    prose = _prose(doc)
    found = re.search(r"\bSources?: .*?(?=\n\n|\Z)", prose, re.DOTALL)
    return " ".join(found[0].split()) if found else ""


def _split_attributes(doc: str | None) -> tuple[str, dict[str, str]]:
    """A docstring without its ``Attributes:`` section, and what that says of each attribute."""
    text, _, section = _prose(doc).partition("\n\nAttributes:\n")
    described = {}
    for item in re.split(r"\n(?=    \w)", "\n" + section):
        names, colon, meaning = item.strip().partition(":")
        if colon:
            described.update({name.strip(): " ".join(meaning.split()) for name in names.split(",")})
    return text, described


def _documented_facts() -> dict[Fact, str]:
    """The text below each member of ``Fact``."""
    source = inspect.getsource(Fact)
    texts = dict(re.findall(r'(\w+) = enum\.auto\(\)\n\s+"""(.*?)"""', source, re.DOTALL))
    return {fact: " ".join(texts[str(fact.name)].split()) for fact in Fact}


def _type_name(declared: Any) -> str:
    arguments = typing.get_args(declared)
    if typing.get_origin(declared) in (typing.Union, types.UnionType):
        return " | ".join("none" if a is type(None) else _type_name(a) for a in arguments)
    if typing.get_origin(declared) is tuple:
        inside = ["..." if a is Ellipsis else _type_name(a) for a in arguments]
        return f"[{', '.join(inside)}]"
    return str(declared.__name__)


def _attribute_default(value: Any) -> str:
    return "none" if isinstance(value, typing.Mapping) else f"`{format_attribute(value)}`"


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _toml(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, BaseModel):
        return "its defaults"
    return "`" + (f'"{value}"' if isinstance(value, str) else _plain(value)) + "`"


def _toml_type(field: FieldInfo) -> str:
    return _annotation(field.annotation)


def _annotation(annotation: Any) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return "[smallest, largest]" if arguments[0] == list[int] else _annotation(arguments[0])
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_annotation(a) for a in arguments if a is not type(None))
    if origin is typing.Literal:
        return " or ".join(_toml(a) for a in arguments)
    if origin is list:
        return f"list of {_annotation(arguments[0])}"
    if origin is dict:
        return f"table of {_annotation(arguments[1])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "table"
    return {int: "integer", float: "number", str: "string", bool: "boolean", Any: "value"}[annotation]


def _field_text(field: FieldInfo) -> str:
    text = field.description or ""
    if not text and isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
        text = _inline(field.annotation.__doc__)
    return text


def _settings(model: BaseModel, left_out: Sequence[str]) -> str:
    """The keys that a table of the descriptor sets, as TOML."""
    items = []
    for name in type(model).model_fields:
        value = getattr(model, name)
        if name in model.model_fields_set and name not in left_out:
            items.append(f"`{name} = {_toml_value(value)}`")
    return ", ".join(items)


def _toml_value(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{k} = {_toml_value(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml_value, value)) + "]"
    return f'"{value}"' if isinstance(value, str) else _plain(value)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(description="write the generated reference")
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if a page is stale")
    if not parser.parse_args(arguments).check:
        write()
        return 0
    names = stale()
    for name in names:
        print(f"docs/reference/{name} is stale; run 'make docs'")
    return 1 if names else 0


if __name__ == "__main__":
    sys.exit(main())
