"""Pipelines: passes in order, written as text such as ``a,b{x=1 y=mse},c``."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from qcompiler.errors import QCompilerError, did_you_mean
from qcompiler.ir import Graph, structural_hash, verify
from qcompiler.pipeline.compiler_pass import PASSES, Context, Pass
from qcompiler.pipeline.conditions import StageSeen, check_conditions, check_left
from qcompiler.pipeline.instrument import Instrument
from qcompiler.pipeline.options import options_of
from qcompiler.pipeline.stage import Stage
from qcompiler.pipeline.text import WrittenPass, as_strings, format_value, literal, read_pipeline

ALIASES = {
    "simplify": "canonicalize,fold-constants,fold-batch-norm,fold-pad,recognize,layout,canonicalize,"
    "fold-constants,cse,dce",
}
"""Names that stand for several passes."""


@dataclass(frozen=True)
class Pipeline:
    """Passes in order. ``str`` gives the text that parses back to it, aliases expanded."""

    passes: tuple[Pass, ...]

    @classmethod
    def parse(cls, text: str) -> Pipeline:
        """Read pipeline text.

        Raises:
            QCompilerError: malformed text, an unknown pass or option (the nearest name is given), or a value that an
                option does not allow.
        """
        return cls(tuple(current for written in read_pipeline(text) for current in _passes(written)))

    def check(self, start: Graph | Stage, context: Context) -> None:
        """Check that every pass can run on what the passes before it leave. Runs nothing.

        Args:
            start: the program that the first pass gets, or its stage.
            context: target and data.

        Raises:
            QCompilerError: a pass gets a program of a stage that it does not take, or lacks a target or data; names
                the pass and the one that left the stage, and says what to run before it.
        """
        check_conditions(self.passes, start, context)

    def run(self, graph: Graph, context: Context, instruments: Sequence[Instrument] = ()) -> Graph:
        """Run all passes, after :meth:`check`. Behind each, what it left is checked.

        Args:
            graph: the program; passes may change it in place.
            context: target, data and reports.
            instruments: watch the run; see :class:`Instrument` for the order of their hooks.

        Raises:
            QCompilerError: a pass cannot run or refuses the program, leaves a malformed one or one of another stage
                than it declares, or says that it changed nothing when it did.
        """
        self.check(graph, context)
        for instrument in instruments:
            instrument.attach(context)
        for instrument in instruments:
            instrument.begin(graph, self.passes)
        run = _Run(graph, context, instruments)
        for index, current in enumerate(self.passes):
            run.step(index, current)
        for instrument in reversed(instruments):
            instrument.end(run.graph)
        return run.graph

    def __str__(self) -> str:
        return ",".join(format_pass(p) for p in self.passes)


class _Run:
    """A program on its way through a pipeline."""

    def __init__(self, graph: Graph, context: Context, instruments: Sequence[Instrument]) -> None:
        self.graph = graph
        self.context = context
        self.instruments = instruments
        self.seen = StageSeen.of(graph)
        self.content = _content_hash(graph)

    def step(self, index: int, current: Pass) -> None:
        """Run a pass and check what it left."""
        for instrument in self.instruments:
            instrument.before_pass(index, current, self.graph)
        try:
            changed = self.transform(current)
            for instrument in reversed(self.instruments):
                instrument.after_pass(index, current, self.graph, changed)
        except Exception as error:
            self.report_failure(index, current, error)
            raise

    def transform(self, current: Pass) -> bool:
        """Run a pass; returns whether the program changed."""
        try:
            result = current.run(self.graph, self.context)
        except Exception as error:
            if not isinstance(error, QCompilerError):
                error.add_note(f"in pass {current.name!r} of module {type(current).__module__}")
            raise
        self.graph = result.graph
        content = _content_hash(self.graph)
        changed = content != self.content
        self.content = content
        if changed and not result.changed:
            raise QCompilerError(
                f"pass {current.name!r} says that it changed nothing, and the program is another",
                fix="return PassResult(graph, True) where types, origins or layers change, too",
            )
        if result.changed:
            _verify_after(self.graph, current)
        self.seen = check_left(current, self.seen, self.graph)
        text = format_pass(current)
        self.graph.pipeline = f"{self.graph.pipeline},{text}" if self.graph.pipeline else text
        return changed

    def report_failure(self, index: int, current: Pass, error: Exception) -> None:
        """Let instruments see a failure. What goes wrong in them is noted on the error and hides nothing."""
        for instrument in reversed(self.instruments):
            try:
                instrument.failed(index, current, self.graph, error)
            except Exception as second:
                error.add_note(f"{type(instrument).__name__}: {second}")


def _content_hash(graph: Graph) -> str:
    """The structural hash without the pipeline in the program's header, to which every pass is added."""
    header, graph.pipeline = graph.pipeline, ""
    try:
        return structural_hash(graph)
    finally:
        graph.pipeline = header


def format_pass(current: Pass) -> str:
    """A pass as it stands in pipeline text; options at their defaults are left out."""
    items = []
    for option in options_of(type(current)).values():
        value = getattr(current, option.field)
        if option.default is dataclasses.MISSING or value != option.default:
            items.append(f"{option.name}={format_value(value)}")
    return current.name + ("{" + " ".join(items) + "}" if items else "")


def _verify_after(graph: Graph, current: Pass) -> None:
    try:
        verify(graph)
    except QCompilerError as error:
        raise QCompilerError(
            f"pass {current.name!r} left a malformed program: {error.problem}",
            layer=error.layer, expected=error.expected, found=error.found,
        ) from error


def _passes(written: WrittenPass) -> Iterator[Pass]:
    if written.name in ALIASES and written.options is None:
        yield from Pipeline.parse(ALIASES[written.name]).passes
    else:
        yield _make(written)


def _make(written: WrittenPass) -> Pass:
    """The pass that a text names, with its options.

    Raises:
        QCompilerError: there is no such pass or option, or its value is not allowed.
    """
    name = written.name
    cls = PASSES.get(name)
    if cls is None:
        known = [*PASSES, *ALIASES]
        raise QCompilerError(
            f"unknown pass {name!r}", expected="one of " + ", ".join(sorted(known)),
            fix=did_you_mean(name, known),
        )
    options = {option.name: option for option in options_of(cls).values()}
    values: dict[str, Any] = {}
    for key, value in (written.options or {}).items():
        if key not in options:
            raise QCompilerError(
                f"pass {name!r} has no option {key!r}", expected=", ".join(options) or "no options",
                fix=did_you_mean(key, options),
            )
        option = options[key]
        try:
            values[option.field] = option.convert(literal(value))
        except ValueError as error:
            try:
                # An option that holds words may be given one that looks like a number.
                values[option.field] = option.convert(as_strings(value))
            except ValueError:
                raise option.refusal(name, as_strings(value), str(error)) from None
    missing = [o for o in options.values() if o.default is dataclasses.MISSING and o.field not in values]
    if missing:
        raise QCompilerError(
            f"pass {name!r} needs option {missing[0].name!r}", expected=f"a value of type {missing[0].type_text}",
            fix=f"write {name}{{{missing[0].name}=...}}",
        )
    return cls(**values)
