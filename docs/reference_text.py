"""Docstrings, attribute types and schema fields as Markdown, for the generated reference."""

from __future__ import annotations

import enum
import inspect
import re
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from qcompiler.ir.printer import format_attribute

NOTICE = "<!-- Written by docs/generate.py from the source. Do not edit. -->"


def page(title: str, *blocks: str) -> str:
    return "\n\n".join([f"# {title}", NOTICE, *(b for b in blocks if b)]) + "\n"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def built_in(registry: Mapping[Any, Any]) -> list[tuple[Any, Any]]:
    """Entries of a registry that stem from this package, not from a user's plugin."""
    return [(key, cls) for key, cls in registry.items() if cls.__module__.startswith("qcompiler.")]


def prose(doc: str | None) -> str:
    """A docstring as Markdown."""
    text = inspect.cleandoc(doc or "")
    text = re.sub(r":\w+:`~?(?:[\w.]+\.)?(\w+)`", r"`\1`", text).replace("``", "`")
    # Outside of code, two asterisks would start bold text.
    parts = text.split("`")
    return "`".join(part if index % 2 else part.replace("**", r"\*\*") for index, part in enumerate(parts))


def inline(doc: str | None) -> str:
    """A docstring on one line, for a table."""
    return " ".join(prose(doc).split())


def source_of(doc: str | None) -> str:
    """The paragraph of a module docstring that says where its formulas come from."""
    text = prose(doc)
    found = re.search(r"\bSources?: .*?(?=\n\n|\Z)", text, re.DOTALL)
    return " ".join(found[0].split()) if found else ""


def split_attributes(doc: str | None) -> tuple[str, dict[str, str]]:
    """A docstring without its ``Attributes:`` section, and what that says of each attribute."""
    text, _, section = prose(doc).partition("\n\nAttributes:\n")
    described = {}
    for item in re.split(r"\n(?=    \w)", "\n" + section):
        names, colon, meaning = item.strip().partition(":")
        if colon:
            described.update({name.strip(): " ".join(meaning.split()) for name in names.split(",")})
    return text, described


def member_docs(cls: type[enum.Enum]) -> dict[str, str]:
    """The text below each member of an enumeration, by the member's name."""
    texts = re.findall(r'(\w+) = enum\.auto\(\)\n\s+"""(.*?)"""', inspect.getsource(cls), re.DOTALL)
    return {name: " ".join(text.split()) for name, text in texts}


def type_name(declared: Any) -> str:
    arguments = typing.get_args(declared)
    if typing.get_origin(declared) in (typing.Union, types.UnionType):
        return " | ".join("none" if a is type(None) else type_name(a) for a in arguments)
    if typing.get_origin(declared) is tuple:
        inside = ["..." if a is Ellipsis else type_name(a) for a in arguments]
        return f"[{', '.join(inside)}]"
    return str(declared.__name__)


def attribute_default(value: Any) -> str:
    return "none" if isinstance(value, Mapping) else f"`{format_attribute(value)}`"


def plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def toml_default(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, BaseModel):
        return "its defaults"
    return "`" + (f'"{value}"' if isinstance(value, str) else plain(value)) + "`"


def field_type(field: FieldInfo) -> str:
    return _annotation(field.annotation)


def _annotation(annotation: Any) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return "[smallest, largest]" if arguments[0] == list[int] else _annotation(arguments[0])
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_annotation(a) for a in arguments if a is not type(None))
    if origin is typing.Literal:
        return " or ".join(toml_default(a) for a in arguments)
    if origin is list:
        return f"list of {_annotation(arguments[0])}"
    if origin is dict:
        return f"table of {_annotation(arguments[1])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "table"
    return {int: "integer", float: "number", str: "string", bool: "boolean", Any: "value"}[annotation]


def field_text(field: FieldInfo) -> str:
    text = field.description or ""
    if not text and isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
        text = inline(field.annotation.__doc__)
    return text
