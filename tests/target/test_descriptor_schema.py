"""The JSON Schema for editors: it is current, takes every descriptor that the compiler takes, and refuses mistakes."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from broken_descriptors import AFFINE, ALL, BLOCK, CASES

from qcompiler import plugins
from qcompiler.ir import OPS, SCALARS
from qcompiler.passes.legalize import known_decompositions
from qcompiler.target import SCHEMA_FILE, TARGETS, built_in_targets, descriptor_schema

plugins.load()
SHIPPED: dict[str, Any] = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))


def problems(text: str, schema: dict[str, Any] = SHIPPED) -> list[str]:
    """What the schema finds wrong with a descriptor's text, as paths of keys."""
    validator = jsonschema.Draft202012Validator(schema)
    return sorted({".".join(map(str, leaf.absolute_path)) for error in validator.iter_errors(tomllib.loads(text))
                   for leaf in leaves(error)})


def leaves(error: jsonschema.ValidationError) -> Iterator[jsonschema.ValidationError]:
    if not error.context:
        yield error
    for inner in error.context or ():
        yield from leaves(inner)


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SHIPPED)


def test_the_shipped_schema_is_current() -> None:
    built_in = descriptor_schema(known_decompositions(), list(built_in_targets()), built_in=True)
    assert built_in == SHIPPED, "run 'make docs'"


@pytest.mark.parametrize("name", list(built_in_targets()))
def test_built_in_descriptors_are_valid(name: str) -> None:
    assert problems(built_in_targets()[name].read_text(encoding="utf-8")) == []


def test_sound_descriptors_are_valid() -> None:
    assert problems(AFFINE) == problems(BLOCK) == []


def test_a_file_that_extends_says_only_what_is_different() -> None:
    text = 'schema = 1\nextends = "base.toml"\nname = "mine"\nsummary = "Mine"\n[ops]\nconv2d = { kernel = [1, 3] }\n'
    assert problems(text) == []
    # Without a base, the tables and the row are incomplete.
    assert problems(text.replace('extends = "base.toml"\n', "")) == ["", "ops.conv2d"]
    assert problems(text.replace('name = "mine"\n', "")) == [""]
    assert problems(text.replace("base.toml", "tpu-int9")) == ["extends"]
    assert problems(text.replace("base.toml", "tpu-int8")) == []


SEEN = [
    name for name, case in ALL.items()
    if case[1].text in ("unknown key", "key is missing") or "unknown op" in case[1].text or "found" in case[1].text
    or name.startswith(("unknown arithmetic", "unknown predicate", "unknown storage", "unknown decomposition"))
]


@pytest.mark.parametrize("name", SEEN)
def test_mistakes_are_seen_in_the_editor(name: str) -> None:
    good, case = ALL[name]
    assert problems(good.replace(case.old, case.new, 1)) != []


def test_most_mistakes_of_names_and_types_are_among_them() -> None:
    assert len(SEEN) > 25
    assert len(SEEN) < len(CASES)


def test_names_are_those_that_are_registered() -> None:
    ops = SHIPPED["properties"]["ops"]["properties"]
    built_in = [name for name, cls in OPS.items() if cls.__module__.startswith("qcompiler.")]
    assert list(ops) == built_in
    storage = SHIPPED["$defs"]["TypeSpec"]["properties"]["storage"]["anyOf"]
    assert storage[0]["enum"] == list(SCALARS)
    assert "litert-add" in ops["add"]["allOf"][1]["properties"]["arithmetic"]["examples"]


def test_names_of_plugins_are_there_where_they_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    foreign = type("Foreign", (OPS["relu"],), {"__doc__": "An op of a plugin.", "__module__": "somewhere.else"})
    monkeypatch.setitem(OPS, "foreign", foreign)
    text = AFFINE + 'foreign = { in = ["act"], out = "act" }\n'
    asked = descriptor_schema(known_decompositions(), list(TARGETS))
    assert problems(text, asked) == []
    assert "foreign" not in descriptor_schema([], [], built_in=True)["properties"]["ops"]["properties"]
    assert problems(text) == ["ops"]
