"""Named arithmetic: every integer function that a target may cite, found by op and name.

An arithmetic is a frozen dataclass; its fields are its parameters, so ``litert-add{shift=20}`` is
``LitertAdd(shift=20)``. Its docstring is the row of the generated reference.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast, dataclass_transform

from qcompiler.errors import QCompilerError, did_you_mean
from qcompiler.registry import Registry

ARITHMETIC: Registry[tuple[str, str], type[Any]] = Registry("arithmetic", "arithmetic")
"""Arithmetic classes by (op, name)."""

_Class = TypeVar("_Class", bound=type[Any])


@dataclass_transform(frozen_default=True)
def arithmetic(op: str, name: str) -> Callable[[_Class], _Class]:
    """Register a class as the arithmetic ``name`` of ``op`` and make it a frozen dataclass.

    Raises:
        QCompilerError: the pair is taken.
    """

    def register(cls: _Class) -> _Class:
        ARITHMETIC.check_free((op, name), cls.__module__)
        frozen = cls if "__dataclass_fields__" in cls.__dict__ else dataclass(frozen=True)(cls)
        ARITHMETIC.add((op, name), frozen)
        return cast(_Class, frozen)

    return register


def resolve(op: str, name: str, parameters: Mapping[str, int | str] | None = None) -> Any:
    """The arithmetic that a citation names, with its parameters set.

    Raises:
        QCompilerError: no such arithmetic or parameter, or a parameter of the wrong type.
    """
    cls = ARITHMETIC.get((op, name))
    if cls is None:
        known = sorted(n for o, n in ARITHMETIC if o == op)
        raise QCompilerError(
            f"op {op!r} has no arithmetic {name!r}",
            expected="one of " + ", ".join(known) if known else f"no arithmetic: {op} has a single meaning",
            fix=did_you_mean(name, known),
        )
    fields = {f.name: f for f in dataclasses.fields(cls)}
    for key, value in (parameters or {}).items():
        if key not in fields:
            raise QCompilerError(
                f"arithmetic {name!r} has no parameter {key!r}", expected=", ".join(fields) or "no parameters"
            )
        if type(value) is not type(fields[key].default):
            raise QCompilerError(
                f"parameter {key!r} of arithmetic {name!r} has the wrong type",
                expected=type(fields[key].default).__name__, found=repr(value),
            )
    return cls(**(parameters or {}))


def check_choice(name: str, value: str, choices: Mapping[str, Any]) -> None:
    """Refuse a parameter value that is none of ``choices``.

    Raises:
        QCompilerError: it is none of them.
    """
    if value not in choices:
        raise QCompilerError(f"unknown {name} {value!r}", expected="one of " + ", ".join(choices))
