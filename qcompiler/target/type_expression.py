"""How an op row cites types: ``act``, ``bias?``, ``act...``, ``wt|act``, ``act{scale=0.00390625 zero_point=-128}``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from qcompiler.target.descriptor import TypeSpec

_TERM = re.compile(r"([a-z][\w-]*)(?:\{([^}]*)\})?")


@dataclass(frozen=True)
class Operand:
    """One entry of a row's ``in`` list, or its ``out``.

    Attributes:
        choices: the types allowed, with fixed parameters applied, in order of preference.
        names: their names, for messages.
        optional: the operand may be absent.
        variadic: any number of operands of this type.
    """

    choices: tuple[TypeSpec, ...]
    names: tuple[str, ...]
    optional: bool = False
    variadic: bool = False

    @property
    def text(self) -> str:
        return " or ".join(self.names)


def parse_operand(text: str, types: Mapping[str, TypeSpec]) -> Operand:
    """Read a citation.

    Raises:
        ValueError: it is malformed or cites an unknown type.
    """
    body, variadic = (text[:-3], True) if text.endswith("...") else (text, False)
    body, optional = (body[:-1], True) if body.endswith("?") else (body, False)
    choices, names = [], []
    for term in body.split("|"):
        match = _TERM.fullmatch(term.strip())
        if not match:
            raise ValueError(f"malformed type {text!r}")
        if match[1] not in types:
            raise ValueError(f"unknown type {match[1]!r}; [types] has {', '.join(types)}")
        choices.append(_with_parameters(types[match[1]], match[2] or ""))
        names.append(term.strip())
    return Operand(tuple(choices), tuple(names), optional, variadic)


def _with_parameters(spec: TypeSpec, text: str) -> TypeSpec:
    changes: dict[str, float | int] = {}
    for item in re.split(r"[\s,]+", text.strip()):
        if not item:
            continue
        key, _, value = item.partition("=")
        if key == "scale":
            changes[key] = float(value)
        elif key == "zero_point":
            changes[key] = int(value)
        else:
            raise ValueError(f"a type takes scale and zero_point, found {item!r}")
    return TypeSpec.model_validate({**spec.model_dump(exclude_unset=True), **changes}) if changes else spec
