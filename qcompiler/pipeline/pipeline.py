"""Pipelines: passes in order, written as text such as ``a,b{x=1 y=mse},c``."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from qcompiler.errors import QCompilerError, did_you_mean
from qcompiler.ir import Graph, verify
from qcompiler.pipeline.compiler_pass import PASSES, Context, Pass

ALIASES = {
    "simplify": "canonicalize,fold-constants,fold-batch-norm,fold-pad,recognize,layout,canonicalize,"
    "fold-constants,cse,dce",
}
"""Names that stand for several passes."""

_ITEM = re.compile(r"\s*([A-Za-z][\w-]*)\s*(?:\{([^}]*)\})?\s*(,|$)")

AfterPass = Callable[[int, Pass, Graph], None]


@dataclass(frozen=True)
class Pipeline:
    """Passes in order. ``str`` gives the text that parses back to it, aliases expanded."""

    passes: tuple[Pass, ...]

    @classmethod
    def parse(cls, text: str) -> Pipeline:
        """Read pipeline text.

        Raises:
            QCompilerError: malformed text, or an unknown pass or option (the nearest name is given).
        """
        return cls(tuple(_parse(text)))

    def run(self, graph: Graph, context: Context, after_pass: AfterPass | None = None) -> Graph:
        """Run all passes; the graph is verified after each.

        Args:
            graph: the program; passes may change it in place.
            context: target, data and reports.
            after_pass: called with the pass's index, the pass, and the program after it.

        Raises:
            QCompilerError: a pass refuses the program, or leaves a malformed one.
        """
        for index, current in enumerate(self.passes):
            result = current.run(graph, context)
            graph = result.graph
            if result.changed:
                _verify_after(graph, current)
            graph.pipeline = f"{graph.pipeline},{format_pass(current)}" if graph.pipeline else format_pass(current)
            if after_pass:
                after_pass(index, current, graph)
        return graph

    def __str__(self) -> str:
        return ",".join(format_pass(p) for p in self.passes)


def format_pass(current: Pass) -> str:
    """A pass as it stands in pipeline text; options at their defaults are left out."""
    items = []
    for field in dataclasses.fields(current):  # type: ignore[arg-type]
        value = getattr(current, field.name)
        if value != field.default:
            items.append(f"{field.name.replace('_', '-')}={str(value).lower() if isinstance(value, bool) else value}")
    return current.name + ("{" + " ".join(items) + "}" if items else "")


def _verify_after(graph: Graph, current: Pass) -> None:
    try:
        verify(graph)
    except QCompilerError as error:
        raise QCompilerError(
            f"pass {current.name!r} left a malformed program: {error.problem}",
            layer=error.layer, expected=error.expected, found=error.found,
        ) from error


def _parse(text: str) -> Sequence[Pass]:
    passes: list[Pass] = []
    position = 0
    while position < len(text):
        match = _ITEM.match(text, position)
        if not match:
            raise QCompilerError(
                f"malformed pipeline at {text[position : position + 30]!r}", expected="pass,pass{option=value},..."
            )
        position = match.end()
        name, options = match[1], match[2]
        if name in ALIASES and options is None:
            passes.extend(_parse(ALIASES[name]))
        else:
            passes.append(_make(name, options or ""))
    return passes


def _make(name: str, options: str) -> Pass:
    cls = PASSES.get(name)
    if cls is None:
        known = [*PASSES, *ALIASES]
        raise QCompilerError(
            f"unknown pass {name!r}", expected="one of " + ", ".join(sorted(known)),
            fix=did_you_mean(name, known),
        )
    fields = {f.name.replace("_", "-"): f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for item in re.split(r"[\s,]+", options.strip()):
        if not item:
            continue
        key, separator, text = item.partition("=")
        if key not in fields or not separator:
            raise QCompilerError(
                f"pass {name!r} has no option {key!r}", expected=", ".join(fields) or "no options",
                fix=did_you_mean(key, fields),
            )
        values[fields[key].name] = _convert(name, key, text, fields[key])
    return cls(**values)


def _convert(pass_name: str, key: str, text: str, field: dataclasses.Field[Any]) -> Any:
    kind: Any = type(field.default)
    choices = field.metadata.get("choices", ())
    try:
        if kind is bool:
            return {"true": True, "false": False}[text]
        value = kind(text)
    except (ValueError, KeyError) as error:
        wanted = "true or false" if kind is bool else f"a value of type {kind.__name__}"
        raise QCompilerError(f"option {key!r} of pass {pass_name!r}: {text!r}", expected=wanted) from error
    if choices and value not in choices:
        raise QCompilerError(
            f"option {key!r} of pass {pass_name!r}: unknown value {text!r}", expected="one of " + ", ".join(choices),
            fix=did_you_mean(text, choices),
        )
    return value
