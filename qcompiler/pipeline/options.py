"""Options of passes: the fields of their dataclasses, with types, bounds and choices."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from qcompiler.errors import QCompilerError, did_you_mean
from qcompiler.pipeline.text import format_value

_UNIONS = (typing.Union, types.UnionType)
_WORDS = {int: "int", float: "float", bool: "bool", str: "str"}


def option(
    default: Any, help: str, choices: tuple[str, ...] = (), *,
    minimum: float | None = None, maximum: float | None = None,
) -> Any:
    """A pass option: a dataclass field with its description and limits.

    Its type is the field's annotation: ``int``, ``float``, ``bool``, ``str``, a ``Literal`` of words or whole
    numbers, a tuple of these, or one of these or None.

    Args:
        default: value where none is given.
        help: what it does, in one line.
        choices: the words allowed; any by default.
        minimum, maximum: bounds of a number, themselves allowed.
    """
    limits = {"choices": choices, "minimum": minimum, "maximum": maximum}
    return dataclasses.field(default=default, metadata={"help": help, **limits})


@dataclass(frozen=True)
class Option:
    """What a pass declares of one option.

    Attributes:
        field: name of the dataclass field.
        declared: its type.
        default: its default; ``dataclasses.MISSING`` where a value must be given.
        help: what it does.
        choices: the values allowed; empty where all are.
        minimum, maximum: bounds of numbers; None where there are none.
    """

    field: str
    declared: Any
    default: Any
    help: str = ""
    choices: tuple[Any, ...] = ()
    minimum: float | None = None
    maximum: float | None = None

    @property
    def name(self) -> str:
        """The name in pipeline text."""
        return self.field.replace("_", "-")

    @property
    def type_text(self) -> str:
        """The type for messages and tables: ``int``, ``list of str``, ``float or none``."""
        return _type_text(self.declared)

    @property
    def default_text(self) -> str:
        """The default as pipeline text; ``required`` where a value must be given."""
        return "required" if self.default is dataclasses.MISSING else format_value(self.default)

    @property
    def limits_text(self) -> str:
        """What is allowed beyond the type: choices or bounds; empty where everything is."""
        if self.choices:
            return ", ".join(map(str, self.choices))
        bounds = ("at least", self.minimum), ("at most", self.maximum)
        return ", ".join(f"{word} {bound:g}" for word, bound in bounds if bound is not None)

    def convert(self, value: Any) -> Any:
        """``value`` as the declared type holds it: whole numbers serve as floats.

        Raises:
            ValueError: it is of another type, or beyond a limit; ``str`` of it says what was expected.
        """
        try:
            converted = _adapter(self.declared).validate_python(value, strict=True)
        except ValidationError:
            raise ValueError(self._expected()) from None
        for leaf in _leaves(converted):
            if self.choices and leaf is not None and leaf not in self.choices:
                raise ValueError(self._expected())
            if isinstance(leaf, int | float) and not isinstance(leaf, bool) and not self._is_within(leaf):
                raise ValueError(self._expected())
        return converted

    def _expected(self) -> str:
        if self.choices:
            return f"one of {self.limits_text}"
        text = "true or false" if self.declared is bool else f"a value of type {self.type_text}"
        return f"{text}, {self.limits_text}" if self.limits_text else text

    def _is_within(self, number: float) -> bool:
        if isinstance(number, float) and math.isnan(number):
            return False
        low, high = self.minimum, self.maximum
        return (low is None or low <= number) and (high is None or number <= high)

    def refusal(self, pass_name: str, value: Any, expected: str) -> QCompilerError:
        """The error for a value that :meth:`convert` does not take."""
        fix = did_you_mean(value, map(str, self.choices)) if isinstance(value, str) else None
        what = f"unknown value {value!r}" if self.choices else f"{value!r}"
        return QCompilerError(f"option {self.name!r} of pass {pass_name!r}: {what}", expected=expected, fix=fix)


@cache
def _adapter(declared: Any) -> TypeAdapter[Any]:
    return TypeAdapter(declared)


_DECLARED: dict[type, dict[str, Option]] = {}


def options_of(cls: type) -> dict[str, Option]:
    """The options of a pass class, by field name, in declaration order.

    Raises:
        TypeError: an option has a type that pipeline text cannot hold, or a default that its limits refuse.
    """
    # Not inherited: a subclass has options of its own.
    if cls not in _DECLARED:
        _DECLARED[cls] = {option.field: option for option in _declared(cls)}
    return _DECLARED[cls]


def check_options(instance: Any) -> None:
    """Refuse values that the options of a pass do not allow; store whole numbers given for floats as floats.

    Raises:
        QCompilerError: names pass, option, value and what is allowed.
    """
    for option in options_of(type(instance)).values():
        value = getattr(instance, option.field)
        try:
            converted = option.convert(value)
        except ValueError as error:
            raise option.refusal(instance.name, value, str(error)) from None
        # The dataclass is frozen; this is still its construction.
        object.__setattr__(instance, option.field, converted)


def _declared(cls: type) -> Iterator[Option]:
    try:
        hints = typing.get_type_hints(cls)
    except NameError as error:
        raise TypeError(f"{cls.__name__}: the type of an option is not known at run time: {error}") from error
    for field in dataclasses.fields(cls):
        declared = hints[field.name]
        _check_type(declared, f"option {field.name!r} of {cls.__name__}")
        literal = tuple(_literals(declared))
        option = Option(
            field.name, declared, field.default, field.metadata.get("help", ""),
            literal or tuple(field.metadata.get("choices", ())),
            field.metadata.get("minimum"), field.metadata.get("maximum"),
        )
        if field.default is not dataclasses.MISSING:
            try:
                option.convert(field.default)
            except ValueError as error:
                raise TypeError(f"option {field.name!r} of {cls.__name__}: its default must be {error}") from None
        yield option


def _check_type(declared: Any, where: str) -> None:
    """Refuse types whose values have no text, or none that reads back for sure."""
    origin, arguments = typing.get_origin(declared), typing.get_args(declared)
    if declared in _WORDS or declared is type(None):
        return
    if origin is typing.Literal and all(type(a) in (str, int) for a in arguments):
        return
    several = [a for a in arguments if a not in (type(None), Ellipsis)]
    if (origin is tuple and several) or (origin in _UNIONS and len(several) == 1):
        for argument in several:
            _check_type(argument, where)
        return
    raise TypeError(
        f"{where} has type {declared!r}; use int, float, bool, str, a Literal of str or int, a tuple of these, "
        "or one of these or None"
    )


def _literals(declared: Any) -> Iterator[Any]:
    if typing.get_origin(declared) is typing.Literal:
        yield from typing.get_args(declared)
    else:
        for argument in typing.get_args(declared):
            yield from _literals(argument)


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, tuple):
        for item in value:
            yield from _leaves(item)
    else:
        yield value


def _type_text(declared: Any) -> str:
    origin, arguments = typing.get_origin(declared), typing.get_args(declared)
    if declared in _WORDS:
        return _WORDS[declared]
    if declared is type(None):
        return "none"
    if origin is typing.Literal:
        return " or ".join(sorted({_WORDS[type(a)] for a in arguments}))
    if origin is tuple:
        inside = [_type_text(a) for a in arguments if a is not Ellipsis]
        return f"list of {inside[0]}" if Ellipsis in arguments else "[" + " ".join(inside) + "]"
    return " or ".join(map(_type_text, arguments))
