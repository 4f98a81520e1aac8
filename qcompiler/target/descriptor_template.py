"""A descriptor to start from: it extends another one, and says in comments what can be changed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from qcompiler.errors import QCompilerError
from qcompiler.target.descriptor import Descriptor, OpRow, TypeSpec
from qcompiler.target.target import Target

_NAME = re.compile(r"[a-z][a-z0-9-]*")


def descriptor_template(name: str, base: Target, extends: str, schema: str) -> str:
    """The text of a descriptor that does what ``base`` does.

    Args:
        name: of the new target.
        base: what it extends.
        extends: how the file cites that: a name, or the path of a ``.toml`` file as seen from the new one.
        schema: where editors find the JSON Schema: a path as seen from the new file, or an address.

    Raises:
        QCompilerError: a target cannot have this name.
    """
    check_name(name)
    descriptor = base.descriptor
    accumulator = descriptor.limits.accumulator
    rank = descriptor.limits.max_rank
    lines = [
        # Read by taplo and the editors that use it (Even Better TOML of VS Code among them).
        f"#:schema {schema}",
        "schema = 1",
        f"extends = {_toml(extends)}",
        f"name = {_toml(name)}",
        f"summary = {_toml(f'{base.name} with changes of its own')}",
        f"source = {_toml('where the rules of this target are published')}",
        "",
        f"# What stands here replaces an entry of {base.name}; what does not stand here is taken from there. So",
        "# every line below is as it is in effect already. Take away a '#' and change what follows.",
        "# 'qcompiler targets show FILE' prints the outcome.",
        "",
        *_commented(descriptor, ("pipeline", "fallback", "native", "layout", "decompositions")),
        "# Ops of the base that this target lacks.",
        "# without = []",
        "",
        "[limits]",
        *([f"# max_rank = {rank}"] if rank is not None else ["# max_rank = 4"]),
        f"# accumulator = {_toml(accumulator.model_dump(exclude_none=True))}",
        "",
        "# Number formats. An entry with 'kind' replaces that of the base; without, it changes the keys that it has.",
        "[types]",
        *_entries(descriptor.types),
        "",
        "# Legal ops. An entry with 'in' replaces that of the base; without, it changes the keys that it has.",
        "[ops]",
        *_entries(descriptor.ops),
    ]
    return "\n".join(lines) + "\n"


def check_name(name: str) -> None:
    """Refuse what cannot be a target's name.

    Raises:
        QCompilerError: it is none.
    """
    if not _NAME.fullmatch(name):
        raise QCompilerError(
            f"a target cannot be called {name!r}", expected="small letters, digits and '-', a letter first",
            fix="choose another name",
        )


def _commented(model: Descriptor, keys: Sequence[str]) -> list[str]:
    return [f"# {key} = {_toml(getattr(model, key))}" for key in keys]


def _entries(entries: dict[str, TypeSpec] | dict[str, OpRow]) -> list[str]:
    width = max(map(len, entries), default=0)
    return [f"# {name.ljust(width)} = {_table(entry)}" for name, entry in entries.items()]


def _table(entry: TypeSpec | OpRow) -> str:
    """What an entry says, as an inline table."""
    aliases = {name: field.alias or name for name, field in type(entry).model_fields.items()}
    said = {alias: getattr(entry, name) for name, alias in aliases.items() if name in entry.model_fields_set}
    return _toml(said)


def _toml(value: Any) -> str:
    """A value as TOML writes it."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{k} = {_toml(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return repr(value)
