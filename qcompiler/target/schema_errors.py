"""What pydantic finds wrong with a descriptor, as one problem in the words of a descriptor's author."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from qcompiler.errors import did_you_mean
from qcompiler.target.descriptor import Accumulator, Descriptor, Limits, OpRow, TypeSpec
from qcompiler.target.problem import Problem

_TABLES: dict[tuple[str, ...], type[BaseModel]] = {
    (): Descriptor, ("limits",): Limits, ("limits", "accumulator"): Accumulator, ("types", "*"): TypeSpec,
    ("ops", "*"): OpRow,
}
"""The model of each table; ``*`` stands for the name of an entry."""


def schema_problem(error: ValidationError, content: Mapping[str, Any]) -> Problem:
    """The first problem that the file shows.

    Args:
        error: what pydantic found.
        content: what the descriptor says.
    """
    found = error.errors()
    # A misspelled key makes two errors, unknown and missing: the one that the file shows comes first.
    first = min(found, key=lambda e: e["type"] != "extra_forbidden")
    keys = _keys(first["loc"], content)
    if first["type"] == "extra_forbidden":
        return Problem(keys, "unknown key", _nearest_key(keys))
    if first["type"] == "missing":
        keys = (*keys, str(first["loc"][-1]))
        return Problem(keys, "key is missing", _meaning(keys))
    # Each member of a union makes an error of its own.
    here = [e for e in found if _keys(e["loc"], content) == keys]
    text = ", or ".join(dict.fromkeys(_text(str(e["msg"])) for e in here))
    own = all(e["type"] == "value_error" for e in here)
    return Problem(keys, text if own else f"{text}; found {first['input']!r}")


def _text(message: str) -> str:
    """A message of pydantic in the words of TOML."""
    text = message.removeprefix("Value error, ").removeprefix("Input ")
    text = re.sub(r"dictionary or instance of \w+|dictionary", "table", text)
    return text.replace("valid list", "valid array")


def _keys(location: tuple[str | int, ...], content: Any) -> tuple[str, ...]:
    """The part of a location that the file has: pydantic adds the members of unions, and places in lists."""
    keys: list[str] = []
    for key in location:
        if not isinstance(content, dict) or key not in content:
            break
        keys.append(str(key))
        content = content[key]
    return tuple(keys)


def _model(table: tuple[str, ...]) -> type[BaseModel] | None:
    """The model of the table that stands at these keys."""
    if table in _TABLES:
        return _TABLES[table]
    return _TABLES.get((*table[:-1], "*"))


def _nearest_key(keys: tuple[str, ...]) -> str | None:
    """The key of the same table that an unknown one may have been meant for."""
    model = _model(keys[:-1])
    if model is None:
        return None
    aliases = {name: field.alias or name for name, field in model.model_fields.items()}
    if keys[-1] in aliases:
        return f"did you mean {aliases[keys[-1]]!r}?"
    known = list(aliases.values())
    return did_you_mean(keys[-1].lower().replace("-", "_"), known) or f"the keys here are {', '.join(known)}"


def _meaning(keys: tuple[str, ...]) -> str | None:
    """What a missing key says."""
    model = _model(keys[:-1])
    fields = model.model_fields.values() if model else ()
    named = zip(model.model_fields if model else (), fields, strict=True)
    text = next((f.description for name, f in named if (f.alias or name) == keys[-1]), None)
    return f"add {keys[-1]}: {text}" if text else None
