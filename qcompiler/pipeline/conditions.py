"""What passes need, checked before any of them runs, and what they leave, checked behind each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qcompiler.errors import QCompilerError
from qcompiler.ir import Graph
from qcompiler.pipeline.compiler_pass import PASSES, Context, Pass
from qcompiler.pipeline.stage import Stage, marked_stage
from qcompiler.pipeline.text import read_pipeline


def stage_of(graph: Graph) -> Stage:
    """The stage of a program, from its types and ``fake_quant`` nodes.

    A program that has neither is what the last pass in its header left: one that only picks numbers by index, say, has
    nothing to annotate, and is annotated once ``annotate`` has run. Without such a pass it is float.
    """
    marked = marked_stage(graph)
    if marked is not None:
        return marked
    left = [stage for name in _history(graph) if name in PASSES and (stage := PASSES[name].leaves) is not None]
    return left[-1] if left else Stage.FLOAT


def _history(graph: Graph) -> list[str]:
    """The passes that the program went through; none if its header is no pipeline."""
    try:
        return [written.name for written in read_pipeline(graph.pipeline)]
    except QCompilerError:
        return []


def describe_conditions(cls: type[Pass]) -> list[tuple[str, str]]:
    """What a pass class declares, as labels and words for people."""
    also = [word for word, needed in (("a target", cls.needs_target), ("calibration data", cls.needs_data)) if needed]
    return [
        ("takes", f"{cls.needs.words} programs"),
        ("leaves", f"{cls.leaves.words} programs" if cls.leaves else "what it takes"),
        ("needs", " and ".join(also) or "nothing else"),
    ]


def check_conditions(passes: Sequence[Pass], start: Graph | Stage, context: Context) -> None:
    """Walk through a pipeline without running it.

    Args:
        passes: the passes in order.
        start: the program that the first one gets, or its stage.
        context: what the passes will get.

    Raises:
        QCompilerError: a pass cannot run on what the passes before it leave; names the first such pass.
    """
    stage = start if isinstance(start, Stage) else stage_of(start)
    # A program without inputs computes constants; no data can be given for it.
    has_inputs = isinstance(start, Stage) or bool(start.inputs)
    maker: Pass | None = None
    for index, current in enumerate(passes):
        if current.needs_target:
            context.require_target(current.name)
        if stage not in current.needs:
            raise _wrong_stage(passes[:index], current, stage, maker)
        # Block floating point finds its exponents in the values; where a few are fixed, the pass itself asks for data.
        if current.needs_data and has_inputs and not (context.target and context.target.has_blocks):
            context.require_data(current.name)
        if current.leaves is not None:
            stage, maker = current.leaves, current


def _wrong_stage(before: Sequence[Pass], current: Pass, stage: Stage, maker: Pass | None) -> QCompilerError:
    got = f"gets {_article(stage.words)} one" + (f" from {maker.name!r}" if maker else "")
    missing = _way(stage, current.needs)
    if missing is not None:
        fix = f"run {','.join(missing)!r} before it"
    else:
        passed = [p.name for p in before if p.leaves is not None and p.leaves not in current.needs]
        fix = f"put it before {passed[0]!r}" if passed else "give an earlier stage of the program"
    needed = f"{_article(current.needs.words)} program"
    return QCompilerError(f"pass {current.name!r} needs {needed}, and {got}", fix=fix)


def _way(start: Stage, wanted: Stage) -> list[str] | None:
    """The fewest passes that lead from one stage to another; None where there is no way."""
    ways: dict[Stage, list[str]] = {start: []}
    for stage in (queue := [start]):
        for name, cls in PASSES.items():
            if cls.leaves is not None and stage in cls.needs and cls.leaves not in ways:
                ways[cls.leaves] = [*ways[stage], name]
                queue.append(cls.leaves)
    return next((way for stage, way in ways.items() if stage in wanted), None)


@dataclass(frozen=True)
class StageSeen:
    """What is known of a program between two passes.

    Attributes:
        stage: its stage.
        is_marked: whether its types or ``fake_quant`` nodes show it.
    """

    stage: Stage
    is_marked: bool

    @classmethod
    def of(cls, graph: Graph) -> StageSeen:
        return cls(stage_of(graph), marked_stage(graph) is not None)


_LAST_MARK_REMOVED = (Stage.ANNOTATED, Stage.CALIBRATED)
"""What removing an unused value may do: the mark that had no scale is gone."""


_NOTHING_TO_CALIBRATE = (Stage.ANNOTATED, Stage.CALIBRATED)
"""What marking a program may leave: block floating point whose exponents are all found at run time."""


def check_left(current: Pass, before: StageSeen, after: Graph) -> StageSeen:
    """Compare what a pass left with what it declares.

    Returns:
        What is known of the program ``after`` the pass.

    Raises:
        QCompilerError: the program is at another stage; names the pass.
    """
    found = marked_stage(after)
    expected = current.leaves if current.leaves is not None else before.stage
    if found is None and (current.leaves is None or not before.is_marked):
        # Nothing contradicts. Folding and removing may take the last mark; a pass that makes a stage keeps them.
        return StageSeen(expected, False)
    if found is not None and (
        found is expected or (current.leaves is None and (before.stage, found) == _LAST_MARK_REMOVED)
        or (expected, found) == _NOTHING_TO_CALIBRATE
    ):
        return StageSeen(found, True)
    raise QCompilerError(
        f"pass {current.name!r} leaves a program of another stage than it declares",
        expected=f"{_article(expected.words)} program",
        found=f"{_article(found.words)} one" if found else "one without quantized types and fake_quant",
    )


def _article(words: str) -> str:
    return ("an " if words[0] in "aeiou" else "a ") + words
