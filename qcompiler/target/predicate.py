"""Predicates: named conditions on a node that an op row of a descriptor may cite, beside the keys of the schema.

A predicate is a function of node and target; its keyword parameters are those of the citation, so that
``channels-multiple-of{factor=16}`` calls it with ``factor=16``. Its docstring is the constraint: the text of the
error, with the parameters filled in, and the row of the generated reference.
"""

from __future__ import annotations

import inspect
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from qcompiler.errors import QCompilerError, did_you_mean
from qcompiler.ir import Arithmetic, Node
from qcompiler.registry import Registry

if TYPE_CHECKING:
    from qcompiler.target.target import Target

Parameter = int | str


class Predicate(Protocol):
    """What is registered: returns what was found where the condition is broken, None where it holds."""

    def __call__(self, node: Node, target: Target, /, **parameters: Parameter) -> str | None: ...


PREDICATES: Registry[str, Predicate] = Registry("predicate")
"""Predicates by name."""

_Function = TypeVar("_Function", bound=Callable[..., str | None])


def predicate(name: str) -> Callable[[_Function], _Function]:
    """Register a function as the predicate ``name``.

    The function takes the node, the target, and keyword-only parameters that are integers or words. Nodes may belong
    to float and to quantized programs. Its docstring may name parameters in braces.

    Raises:
        QCompilerError: the name is taken, the docstring is missing or names no parameter, or the function takes
            something else.
    """

    def register(function: _Function) -> _Function:
        PREDICATES.check_free(name, function.__module__)
        taken = inspect.signature(function).parameters
        options = _options(function)
        if len(taken) - len(options) != 2 or not {kind for kind, _ in options.values()} <= {"int", "str"}:
            raise QCompilerError(
                f"predicate {name!r} takes other parameters than it is given",
                expected="def check(node, target, *, option: int), with options of type int or str",
                found=str(inspect.signature(function)),
            )
        named = {field for _, field, _, _ in string.Formatter().parse(function.__doc__ or "") if field is not None}
        if not function.__doc__ or not named <= set(options):
            raise QCompilerError(
                f"predicate {name!r} does not say what it demands",
                expected="a docstring, the text of its error, with parameters in braces",
                found=f"no parameter {min(named - set(options))!r}" if named - set(options) else "no docstring",
            )
        PREDICATES.add(name, function)
        return function

    return register


@dataclass(frozen=True)
class Condition:
    """A predicate as a row cites it, with its parameters.

    Attributes:
        citation: the row's text.
        predicate: what it names.
        parameters: values of the predicate's parameters, defaults included.
    """

    citation: str
    predicate: Predicate
    parameters: Mapping[str, Parameter]

    def __str__(self) -> str:
        """What is demanded: the predicate's docstring with the parameters filled in."""
        return " ".join((self.predicate.__doc__ or "").format(**self.parameters).split()).removesuffix(".")

    def broken_by(self, node: Node, target: Target) -> str | None:
        """What ``node`` has instead; None where it meets the condition."""
        return self.predicate(node, target, **self.parameters)


def parse_condition(text: str) -> Condition:
    """Read ``name`` or ``name{key=value key=value}``.

    Raises:
        ValueError: malformed text.
        QCompilerError: an unknown predicate or parameter (the nearest is named), a parameter of the wrong type, or a
            missing one.
    """
    try:
        # A citation has the form of an arithmetic's, and is read by the same reader.
        cited = Arithmetic.parse(text)
    except ValueError as error:
        raise ValueError(f"malformed condition {text!r}; write name or name{{key=value}}") from error
    function = PREDICATES.require(cited.name)
    options = _options(function)
    for key, value in cited.options.items():
        if key not in options:
            raise QCompilerError(
                f"predicate {cited.name!r} has no parameter {key!r}", expected=", ".join(options) or "no parameters",
                fix=did_you_mean(key, options),
            )
        if type(value).__name__ != options[key][0]:
            raise QCompilerError(
                f"parameter {key!r} of predicate {cited.name!r} has the wrong type", expected=options[key][0],
                found=repr(value),
            )
    values = {key: default for key, (_, default) in options.items()} | dict(cited.options)
    missing = [key for key, value in values.items() if value is inspect.Parameter.empty]
    if missing:
        raise QCompilerError(
            f"predicate {cited.name!r} lacks its parameter {missing[0]!r}",
            fix=f"write {cited.name}{{{missing[0]}=...}}",
        )
    return Condition(text, function, values)


def _options(function: Callable[..., object]) -> dict[str, tuple[str, Any]]:
    """Type name and default of each keyword-only parameter."""
    found = {}
    for p in inspect.signature(function).parameters.values():
        if p.kind is p.KEYWORD_ONLY:
            # Under postponed evaluation an annotation is its text.
            found[p.name] = (str(getattr(p.annotation, "__name__", p.annotation)), p.default)
    return found
