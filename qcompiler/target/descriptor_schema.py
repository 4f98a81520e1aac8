"""The JSON Schema of target descriptors, for editors: the models' own, with the names that are registered."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from qcompiler import numerics
from qcompiler.ir import OPS, SCALARS, Op
from qcompiler.target.descriptor import Descriptor
from qcompiler.target.descriptor_checks import op_attributes
from qcompiler.target.predicate import PREDICATES

SCHEMA_FILE = Path(__file__).parent / "qcompiler-target.schema.json"
"""The schema with all built-in names, as it comes with the package."""

_NEEDED_OF_ALL = ("schema", "name", "summary")
"""What a file that extends another one says itself."""


def descriptor_schema(
    decompositions: Sequence[str], targets: Sequence[str], *, built_in: bool = False
) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a descriptor file.

    It takes every file that the compiler takes, and refuses unknown keys, names and types of values. Entries that
    contradict one another only the compiler finds.

    Args:
        decompositions: what ``decompositions`` may list.
        targets: what ``extends`` may name beside a file.
        built_in: leave out what plugins have registered.
    """
    schema = Descriptor.model_json_schema(by_alias=True)
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "Target descriptor"}
    needed = schema.pop("required")
    schema["required"] = list(_NEEDED_OF_ALL)
    schema["if"] = {"not": {"required": ["extends"]}}
    # An entry that changes one of the base says only what is different.
    entries = {
        table: {"additionalProperties": {"required": schema["$defs"][model].pop("required")}}
        for table, model in (("types", "TypeSpec"), ("ops", "OpRow"))
    }
    schema["then"] = {"required": needed, "properties": entries}
    properties, tables = schema["properties"], schema["$defs"]
    base = {
        "type": "string", "examples": [*targets, "base.toml"],
        "anyOf": [{"enum": list(targets)}, {"pattern": r"\.toml$"}],
    }
    properties["extends"] = {
        "description": properties["extends"]["description"], "anyOf": [base, {"type": "array", "items": base}],
    }
    properties["decompositions"]["items"] = {"enum": list(decompositions)}
    properties["decompositions"]["uniqueItems"] = True
    number_format = {"enum": list(SCALARS)}
    tables["TypeSpec"]["properties"]["storage"]["anyOf"] = [
        number_format, {"type": "array", "items": number_format, "minItems": 1, "uniqueItems": True},
    ]
    conditions = {"pattern": _citation(name for name, f in PREDICATES.items() if _counts(f, built_in))}
    for table in ("TypeSpec", "OpRow"):
        if "where" in tables[table]["properties"]:
            tables[table]["properties"]["where"]["items"] = {"type": "string", **conditions}
    ops = {name: _row(name, cls, built_in) for name, cls in OPS.items() if _counts(cls, built_in)}
    properties["ops"] = {
        "description": properties["ops"]["description"], "type": "object", "properties": ops,
        "additionalProperties": False,
    }
    return schema


def schema_text(schema: dict[str, Any]) -> str:
    """A schema as it stands in a file."""
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


def _counts(registered: Any, built_in: bool) -> bool:
    return not built_in or str(registered.__module__).startswith("qcompiler.")


def _row(name: str, cls: type[Op], built_in: bool) -> dict[str, Any]:
    """The schema of an op's row: that of any row, with the arithmetic and the attributes that the op has."""
    known = [n for (op, n), rule in numerics.ARITHMETIC.items() if op == name and _counts(rule, built_in)]
    attributes = {key: {"type": "array", "minItems": 1} for key in op_attributes(cls)}
    own = {
        "arithmetic": {"pattern": _citation(known), "examples": known} if known else False,
        "attributes": {"properties": attributes, "additionalProperties": False},
    }
    summary = (cls.__doc__ or "").partition("\n")[0]
    return {"description": summary, "allOf": [{"$ref": "#/$defs/OpRow"}, {"properties": own}]}


def _citation(names: Iterable[str]) -> str:
    """A regular expression for one of these names, with or without parameters."""
    return rf"^({'|'.join(map(re.escape, names))})(\{{.*\}})?$"
