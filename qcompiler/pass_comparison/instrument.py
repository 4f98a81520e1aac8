"""The instrument ``Compare``."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcompiler.calibration.data import CalibrationData, DataLike, open_data
from qcompiler.errors import QCompilerError
from qcompiler.ir import Graph, Value
from qcompiler.ir.node import Loc
from qcompiler.pass_comparison.report import ComparisonReport, IntegerChange, PassComparison, ValueComparison
from qcompiler.pass_comparison.stage import (
    Held,
    Key,
    Kind,
    Stage,
    Step,
    agreement_db,
    kind_of,
    measure,
    originals,
    steps,
)
from qcompiler.pipeline import Pass, format_pass
from qcompiler.pipeline.instrument import Instrument

FLOAT_NOISE_DB = 80.0
"""float32 values that differ in the order of additions agree to 90 dB and more; below this they have moved."""
LOSS_DB = 3.0
"""Where integers replace simulated rounding, values move to a neighbouring step here and there, which changes their
SQNR to float by a fraction of a decibel, in tensors of a few dozen numbers by two. A pass that doubles the noise did
something else."""

_MOST_STEPS = 2.0**62


class Compare(Instrument):
    """Runs samples through the program after each pass and tells which pass moved which values, and where first.

    Passes should leave every value as it is. A float value has moved if it agrees with itself before the pass to less
    than :data:`FLOAT_NOISE_DB`, a value stored in the same type of integers or blocks if any integer or exponent
    differs. Two passes move values by nature. The one that introduces rounding is reported with what rounding costs,
    and with the layers that lose most. Behind the one that puts integers in place of reals, a value counts as moved if
    its SQNR to float fell by :data:`LOSS_DB`.

    Only the numbers after the last pass are kept.

    Args:
        data: samples, as for ``compile``; or calibration data that are already open.
        original: the float program to hold values against; the program that the pipeline starts from by default.
        samples: how many samples to run, the first ones of ``data``.
    """

    def __init__(self, data: DataLike | CalibrationData, original: Graph | None = None, samples: int = 8) -> None:
        self._data = data
        self._original = original
        self._samples = samples
        self._feeds: Mapping[str, NDArray[Any]] = {}
        self._baseline = ""
        self._expected: dict[str, NDArray[Any]] = {}
        self._last: Stage | None = None
        self._values: tuple[ValueComparison, ...] = ()
        self._entries: list[PassComparison] = []

    @property
    def report(self) -> ComparisonReport:
        """What was found so far."""
        return ComparisonReport(tuple(self._entries), len(next(iter(self._feeds.values()), ())), self._baseline)

    def begin(self, graph: Graph, passes: Sequence[Pass]) -> None:
        """Run the original.

        Raises:
            QCompilerError: the samples do not fit the program's inputs, or the program cannot be run.
        """
        if not self._feeds:
            # The samples alone are kept: open data refer to the program, and an iterator gives them once.
            data = self._data if isinstance(self._data, CalibrationData) else open_data(self._data, graph)
            self._feeds = data.first(self._samples)
        self._baseline = (
            f"{kind_of(self._original).value} original" if self._original is not None
            else f"{kind_of(graph).value} program at the start"
        )
        self._expected = originals(self._original or graph, self._feeds)
        self._entries = []
        self._last, keys = measure(graph, self._feeds, self._expected)
        self._values = tuple(_compared(self._last, self._last, keys, steps(graph)))

    def after_pass(self, index: int, current: Pass, graph: Graph, changed: bool) -> None:
        """Run the program and compare it with what it was before the pass."""
        assert self._last is not None
        name = format_pass(current)
        if not changed:
            self._entries.append(PassComparison(index, name, tuple(map(_unmoved, self._values))))
            return
        try:
            stage, keys = measure(graph, self._feeds, self._expected)
        except QCompilerError as error:
            self._entries.append(PassComparison(index, name, problem=f"the program does not run: {error}"))
            return
        self._values = tuple(_compared(self._last, stage, keys, steps(graph)))
        self._entries.append(PassComparison(index, name, self._values, stage.kind is not self._last.kind))
        self._last = stage


def _unmoved(value: ValueComparison) -> ValueComparison:
    return replace(value, before_db=value.after_db, moved=False, is_root=False, integers=None)


def _compared(
    before: Stage, after: Stage, keys: Mapping[Value, Key], flow: Iterable[Step]
) -> list[ValueComparison]:
    """An entry for each original value that both stages hold, in order of the last value that stands for it."""
    entries: dict[str, ValueComparison] = {}
    # Of every value: whether it moved or, where it is not compared, something that it is computed from did; and the
    # SQNR that it, or what it is computed from, has.
    moved: dict[Value, bool] = {}
    quality: dict[Value, float] = {}
    uncompared: dict[Value, Step] = {}
    becomes_integer = before.kind is not Kind.INTEGER and after.kind is Kind.INTEGER
    for step in flow:
        sources_moved = any(moved.get(v, False) for v in step.sources)
        sources_db = min((quality.get(v, math.inf) for v in step.sources), default=math.inf)
        key = keys.get(step.value)
        previous = _before(before, after, key)
        if key is None or previous is None:
            moved[step.value], quality[step.value] = sources_moved, sources_db
            uncompared[step.value] = step
            continue
        now = after.held[key]
        if becomes_integer and now.limits is not None:
            # From here on the value is held in the range of the activation behind it: so is what it is compared with.
            previous = replace(previous, sqnr_db=previous.compared_within(now.limits, now.target))
        has_moved, integers = _movement(previous, now, becomes_integer)
        moved[step.value], quality[step.value] = has_moved, now.sqnr_db
        entry = ValueComparison(
            key.name, _layers(step, uncompared), previous.sqnr_db, now.sqnr_db, sources_db, has_moved,
            has_moved and not sources_moved, integers,
        )
        entries[key.name] = _together(entries.pop(key.name), entry) if key.name in entries else entry
    return list(entries.values())


def _together(first: ValueComparison, last: ValueComparison) -> ValueComparison:
    """One entry for two values of one original, such as those before and behind its rounding."""
    root = first if first.is_root else last if last.is_root else None
    return replace(
        last, layers=root.layers if root else tuple(dict.fromkeys((*first.layers, *last.layers))),
        sources_db=first.sources_db, moved=first.moved or last.moved, is_root=root is not None,
        integers=first.integers if first.is_root else last.integers,
    )


def _before(before: Stage, after: Stage, key: Key | None) -> Held | None:
    """What the stage before holds of a value: in the same form if it can, else the last of the same original."""
    if key is None or key.name not in before.last:
        return None
    same_form = before.held.get(key) if before.kind is after.kind else None
    return same_form or before.held[before.last[key.name]]


def _movement(before: Held, after: Held, becomes_integer: bool) -> tuple[bool, IntegerChange | None]:
    """Whether a value moved, and how its stored integers changed."""
    if becomes_integer:
        return after.sqnr_db < FLOAT_NOISE_DB and before.sqnr_db - after.sqnr_db >= LOSS_DB, None
    if before.form == after.form and before.stored is not None and after.stored is not None:
        change = _integer_change(before, after)
        return change.count > 0, change
    # Not "less than": what is no number has moved.
    return not agreement_db(before.real, after.real) >= FLOAT_NOISE_DB, None


def _integer_change(before: Held, after: Held) -> IntegerChange:
    """How the stored numbers of a value changed that is held in one type at both stages."""
    assert before.stored is not None
    assert after.stored is not None
    was, now = before.stored.astype(np.int64), after.stored.astype(np.int64)
    differs, distance = was != now, np.abs(now - was)
    if before.exponents is not None and after.exponents is not None:
        differs = differs | (before.exponents != after.exponents)
        distance = _steps_between(was, now, after.exponents - before.exponents)
    return IntegerChange(int(np.count_nonzero(differs)), differs.size, int(distance.max(initial=0)))


def _steps_between(was: NDArray[np.int64], now: NDArray[np.int64], rise: NDArray[Any]) -> NDArray[np.int64]:
    """Distances of numbers of block floating point in the steps that they had, rounded up.

    Args:
        was, now: mantissas.
        rise: how far the exponent of each rose.
    """
    with np.errstate(over="ignore"):
        distance = np.ceil(np.abs(np.ldexp(now.astype(np.float64), rise.astype(np.int32)) - was))
    # Where exponents lie far apart, the number of steps may exceed all integers.
    return np.where(rise == 0, np.abs(now - was), np.minimum(distance, _MOST_STEPS).astype(np.int64))


def _layers(step: Step, uncompared: Mapping[Value, Step]) -> Loc:
    """Layers of the nodes between a value and the nearest compared values, in dataflow order."""
    seen = {step.value}
    found, pending = [step.loc], list(step.sources)
    while pending:
        value = pending.pop()
        if value in uncompared and value not in seen:
            seen.add(value)
            found.append(uncompared[value].loc)
            pending.extend(uncompared[value].sources)
    return tuple(dict.fromkeys(name for loc in reversed(found) for name in loc))
