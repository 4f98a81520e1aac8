"""The instrument that measures passes: time, size of the program, memory."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from qcompiler.ir import Graph
from qcompiler.pipeline.compiler_pass import Pass
from qcompiler.pipeline.instrument import Instrument
from qcompiler.pipeline.pipeline import format_pass

HEADER = ("no.", "pass", "seconds", "share", "nodes", "", "peak growth")
"""Column names of :meth:`Timing.rows`."""


@dataclass(frozen=True)
class PassTiming:
    """What one pass took.

    Attributes:
        number: the pass's place in the pipeline, from 1, as in the names of dumps.
        text: the pass as pipeline text.
        seconds: wall-clock time from before the pass until the pipeline has checked what it left.
        nodes_before, nodes_after: nodes of the program, constants included.
        peak_growth: by how many bytes the pass raised the largest resident memory that the process has ever had. 0
            where the pass made do with what earlier ones had used.
        changed: whether the program changed; None if the pass failed.
    """

    number: int
    text: str
    seconds: float
    nodes_before: int
    nodes_after: int
    peak_growth: int
    changed: bool | None

    @property
    def outcome(self) -> str:
        """``changed``, ``failed``, or empty where the program stayed as it was."""
        return {None: "failed", True: "changed", False: ""}[self.changed]

    @property
    def nodes(self) -> str:
        """Nodes before and after, as in ``4 -> 3``; one number where they are equal."""
        return f"{self.nodes_before} -> {self.nodes_after}" if self.nodes_before != self.nodes_after else str(
            self.nodes_after
        )

    def __str__(self) -> str:
        outcome = f", {self.outcome}" if self.outcome else ""
        return (
            f"{self.number:03d} {self.text}: {self.seconds:.4f} s, {self.nodes} nodes{outcome}, "
            f"peak memory {_megabytes(self.peak_growth)}"
        )


class Timing(Instrument):
    """Measures every pass. Put it last in the list of instruments: then no other's time is counted.

    Attributes:
        passes: the measurements, in order. ``str`` of the instrument gives one line for each.
    """

    def __init__(self) -> None:
        self.passes: list[PassTiming] = []
        self._start = (0.0, 0, 0)

    def begin(self, graph: Graph, passes: Sequence[Pass]) -> None:
        self.passes.clear()

    def before_pass(self, index: int, current: Pass, graph: Graph) -> None:
        memory = peak_memory()
        self._start = (time.perf_counter(), len(graph), memory)

    def after_pass(self, index: int, current: Pass, graph: Graph, changed: bool) -> None:
        self._record(index, current, graph, changed)

    def failed(self, index: int, current: Pass, graph: Graph, error: Exception) -> None:
        if len(self.passes) == index:
            self._record(index, current, graph, None)

    def _record(self, index: int, current: Pass, graph: Graph, changed: bool | None) -> None:
        stopped = time.perf_counter()
        started, nodes, memory = self._start
        # The kernel sums its counters lazily: the peak may seem to shrink by some pages.
        growth = max(0, peak_memory() - memory)
        self.passes.append(PassTiming(
            index + 1, format_pass(current), stopped - started, nodes, len(graph), growth, changed
        ))

    def rows(self) -> list[tuple[str, ...]]:
        """Cells under :data:`HEADER`: a row for each pass, and one for their sum. Numbers are padded to line up."""
        total = sum(p.seconds for p in self.passes)
        growth = sum(p.peak_growth for p in self.passes)
        rows = [
            (
                f"{p.number:03d}", p.text, f"{p.seconds:8.4f}", f"{p.seconds / total if total else 0:6.1%}", p.nodes,
                p.outcome, _megabytes(p.peak_growth),
            )
            for p in self.passes
        ]
        return [*rows, ("", "total", f"{total:8.4f}", "", "", "", _megabytes(growth))]

    def __str__(self) -> str:
        return "\n".join(map(str, self.passes))


def _megabytes(growth: int) -> str:
    return f"+{growth / 1e6:.1f} MB"


def peak_memory() -> int:
    """The largest resident memory that this process has had, in bytes."""
    status = Path("/proc/self/status")
    try:
        # Unlike getrusage, this does not count what the parent process had when it started this one.
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    except (OSError, StopIteration):
        # Kilobytes, but bytes on macOS (getrusage(2)).
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
