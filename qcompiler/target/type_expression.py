"""How an op row cites types: ``act``, ``bias?``, ``act...``, ``wt|act``, ``act{scale=0.00390625 zero_point=-128}``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pydantic import ValidationError

from qcompiler.target.descriptor import TypeSpec

_TERM = re.compile(r"([a-z][\w-]*)(?:\{([^}]*)\})?")


class UnknownType(ValueError):
    """A citation of a type that ``[types]`` lacks.

    Args:
        name: the type.
        known: those that there are.
    """

    def __init__(self, name: str, known: Iterable[str]) -> None:
        self.name = name
        super().__init__(f"unknown type {name!r}; [types] has {', '.join(known)}")


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
        UnknownType: it cites a type that is not among ``types``.
        ValueError: it is malformed, or gives a type parameters that it cannot have.
    """
    body, variadic = (text[:-3], True) if text.endswith("...") else (text, False)
    body, optional = (body[:-1], True) if body.endswith("?") else (body, False)
    choices, names = [], []
    for term in body.split("|"):
        match = _TERM.fullmatch(term.strip())
        if not match:
            raise ValueError(f"malformed type {text!r}")
        if match[1] not in types:
            raise UnknownType(match[1], types)
        choices.append(_with_parameters(types[match[1]], match[2] or ""))
        names.append(term.strip())
    return Operand(tuple(choices), tuple(names), optional, variadic)


def _with_parameters(spec: TypeSpec, text: str) -> TypeSpec:
    changes: dict[str, float | int] = {}
    for item in re.split(r"[\s,]+", text.strip()):
        if not item:
            continue
        key, _, value = item.partition("=")
        if key not in ("scale", "zero_point"):
            raise ValueError(f"a type takes scale and zero_point, found {item!r}")
        if spec.kind != "affine":
            raise ValueError(f"a type of kind {spec.kind!r} takes no parameters, found {item!r}")
        try:
            changes[key] = float(value) if key == "scale" else int(value)
        except ValueError:
            raise ValueError(f"{key} must be a number, found {item!r}") from None
    try:
        return TypeSpec.model_validate({**spec.model_dump(exclude_unset=True), **changes}) if changes else spec
    except ValidationError:
        raise ValueError(f"a scale must be above 0, found {text!r}") from None
