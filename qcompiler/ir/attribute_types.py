"""Whether an attribute value read from text is of the kind that its op declares."""

from __future__ import annotations

import dataclasses
import types
import typing
from typing import Any

from qcompiler.ir.op import Op

_DECLARED: dict[type[Op], dict[str, Any]] = {}


def attribute_types(cls: type[Op]) -> dict[str, Any]:
    """The declared type of each attribute of an op class, in declaration order."""
    if cls not in _DECLARED:
        hints = typing.get_type_hints(cls)
        _DECLARED[cls] = {field.name: hints[field.name] for field in dataclasses.fields(typing.cast(Any, cls))}
    return _DECLARED[cls]


def accepts(declared: Any, kind: type) -> bool:
    """Whether the declared type is ``kind`` or a union that has it."""
    return declared is kind or kind in typing.get_args(declared)


def conforms(value: Any, declared: Any) -> bool:
    """Whether ``value`` is of the declared type; integers serve as floats."""
    origin, arguments = typing.get_origin(declared), typing.get_args(declared)
    if origin in (typing.Union, types.UnionType):
        return any(conforms(value, choice) for choice in arguments)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return all(conforms(v, arguments[0]) for v in value)
        return len(value) == len(arguments) and all(map(conforms, value, arguments))
    if declared in (int, float) and isinstance(value, bool):
        return False
    return isinstance(value, int | float if declared is float else declared)
