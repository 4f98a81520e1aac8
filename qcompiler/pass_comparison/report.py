"""What a comparison of the program before and after each pass found, as fields, text and rows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

HEADER = ("no.", "pass", "layers", "value", "before", "after", "what moved")
"""Column names of :meth:`ComparisonReport.rows`."""
_NOTHING = "no pass moved a value"
_LOSSES = 3
"""How many of the layers that lose most are named beside the roots."""
_WORTH_NAMING_DB = 3.0
"""A layer that doubles the noise of what it is computed from."""


@dataclass(frozen=True)
class IntegerChange:
    """Stored integers of one value before and after a pass.

    Attributes:
        count: how many changed; of block floating point how many mantissas did, or got another exponent.
        total: how many there are.
        largest: the largest absolute difference; of block floating point in steps that the values had before, rounded
            up.
    """

    count: int
    total: int
    largest: int

    def __str__(self) -> str:
        return f"{self.count:,} of {self.total:,} integers changed, by at most {self.largest:,}"


@dataclass(frozen=True)
class ValueComparison:
    """One original value before and after a pass.

    Attributes:
        name: name of the original value.
        layers: layers of the nodes that compute it from the nearest values that are compared too.
        before_db, after_db: SQNR to the original; infinite where all numbers agree.
        sources_db: the lowest SQNR after the pass among the values that it is computed from.
        moved: whether the pass moved it.
        is_root: whether it moved while nothing that it is computed from did.
        integers: how its stored integers changed; None unless both programs store it in the same type.
    """

    name: str
    layers: tuple[str, ...]
    before_db: float
    after_db: float
    sources_db: float = math.inf
    moved: bool = False
    is_root: bool = False
    integers: IntegerChange | None = None

    @property
    def loss_db(self) -> float:
        """How far the SQNR lies below that of the values it is computed from: what its own layers lose."""
        return self.sources_db - self.after_db if self.after_db < self.sources_db else 0.0

    def __str__(self) -> str:
        where = f"{self.name} in {' + '.join(self.layers)}" if self.layers else self.name
        text = f"{decibels(self.after_db)} at {where} (was {decibels(self.before_db)})"
        return f"{text}, {self.integers}" if self.integers and self.integers.count else text


@dataclass(frozen=True)
class PassComparison:
    """One pass.

    Attributes:
        index: the pass's place in the pipeline, from 0.
        name: the pass as it stands in pipeline text.
        values: every original value that the programs before and after hold, in dataflow order.
        introduces_rounding: the pass is the first to round, or replaces simulated rounding by integers: values
            move by nature.
        problem: why the program could not be run; empty where it ran.
    """

    index: int
    name: str
    values: tuple[ValueComparison, ...] = ()
    introduces_rounding: bool = False
    problem: str = ""

    @property
    def number(self) -> int:
        """The pass's place from 1, as in the names of dumps."""
        return self.index + 1

    @property
    def heading(self) -> str:
        """Number and name, as in ``006 calibrate``."""
        return f"{self.number:03d} {self.name}"

    @property
    def moved(self) -> tuple[ValueComparison, ...]:
        """The values that the pass moved, in dataflow order."""
        return tuple(v for v in self.values if v.moved)

    @property
    def roots(self) -> tuple[ValueComparison, ...]:
        """The values that moved while nothing that they are computed from did: where the pass did it."""
        return tuple(v for v in self.values if v.is_root)

    @property
    def losses(self) -> tuple[ValueComparison, ...]:
        """Moved values that are no roots, those first whose own layers lose most."""
        followers = [v for v in self.values if v.moved and not v.is_root]
        return tuple(sorted(followers, key=lambda v: -v.loss_db))

    def named(self) -> Iterator[ValueComparison]:
        """The values to name: the roots, and where rounding is new, the layers that lose most."""
        yield from self.roots
        if self.introduces_rounding:
            yield from (v for v in self.losses[:_LOSSES] if v.loss_db >= _WORTH_NAMING_DB)

    def __str__(self) -> str:
        if self.problem:
            return f"{self.heading}: {self.problem}"
        named = list(self.named())
        if not named:
            return f"{self.heading}: nothing moved"
        others = len(self.moved) - len(named)
        end = f"; {others} more moved behind {'it' if len(named) == 1 else 'them'}" if others else ""
        return f"{self.heading}: " + "; ".join(map(str, named)) + end


@dataclass(frozen=True)
class ComparisonReport:
    """All passes that ran, in order. ``str`` gives one line for each that moved something.

    Attributes:
        passes: one entry a pass.
        samples: how many samples ran through the program.
        baseline: the program that values are held against, in words.
    """

    passes: tuple[PassComparison, ...]
    samples: int = 0
    baseline: str = "program at the start"

    @property
    def title(self) -> str:
        """A line to stand above :meth:`rows`: what the decibels refer to."""
        return f"SQNR to the {self.baseline} on {self.samples} samples, by pass"

    @property
    def moving(self) -> tuple[PassComparison, ...]:
        """The passes that moved a value, or after which the program does not run."""
        return tuple(p for p in self.passes if p.moved or p.problem)

    def rows(self) -> list[tuple[str, ...]]:
        """Cells under :data:`HEADER`: a row for each value to name, one for what follows from it."""
        rows: list[tuple[str, ...]] = []
        for entry in self.moving:
            number = f"{entry.number:03d}"
            if entry.problem:
                rows.append((number, entry.name, "", "", "", "", entry.problem))
                continue
            named = list(entry.named())
            for value in named:
                kind = "moved first" if value.is_root else f"loses {value.loss_db:.1f} dB"
                rows.append((
                    number, entry.name, " + ".join(value.layers), value.name, decibels(value.before_db),
                    decibels(value.after_db),
                    f"{kind}: {value.integers}" if value.integers and value.integers.count else kind,
                ))
            followers = [v for v in entry.moved if v not in named]
            if followers:
                last = followers[-1]
                text = f"{len(followers)} more moved; the last is shown"
                rows.append((
                    number, entry.name, " + ".join(last.layers), last.name, decibels(last.before_db),
                    decibels(last.after_db), text,
                ))
        return rows

    def __str__(self) -> str:
        return "\n".join(map(str, self.moving)) or _NOTHING


def decibels(value: float) -> str:
    """An SQNR as text: ``exact`` where nothing differs."""
    if value == math.inf:
        return "exact"
    return f"{value:.1f} dB" if math.isfinite(value) else "no signal" if value < 0 else "not a number"
