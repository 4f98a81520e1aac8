"""The instrument that measures passes: time, size of the program, memory."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from qcompiler.ir import Graph
from qcompiler.pipeline.compiler_pass import Pass
from qcompiler.pipeline.instrument import Instrument
from qcompiler.pipeline.pipeline import format_pass


@dataclass(frozen=True)
class PassTiming:
    """What one pass took.

    Attributes:
        text: the pass as pipeline text.
        seconds: wall-clock time from before the pass until the pipeline has checked what it left.
        nodes_before, nodes_after: nodes of the program, constants included.
        peak_growth: by how many bytes the pass raised the largest resident memory that the process has ever had. 0
            where the pass made do with what earlier ones had used.
        changed: whether the program changed; None if the pass failed.
    """

    text: str
    seconds: float
    nodes_before: int
    nodes_after: int
    peak_growth: int
    changed: bool | None


class Timing(Instrument):
    """Measures every pass. Put it last in the list of instruments: then no other's time is counted.

    Attributes:
        passes: the measurements, in order. ``str`` of the instrument is a table of them.
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
        self._record(current, graph, changed)

    def failed(self, index: int, current: Pass, graph: Graph, error: Exception) -> None:
        if len(self.passes) == index:
            self._record(current, graph, None)

    def _record(self, current: Pass, graph: Graph, changed: bool | None) -> None:
        stopped = time.perf_counter()
        started, nodes, memory = self._start
        # The kernel sums its counters lazily: the peak may seem to shrink by some pages.
        growth = max(0, peak_memory() - memory)
        self.passes.append(PassTiming(format_pass(current), stopped - started, nodes, len(graph), growth, changed))

    def __str__(self) -> str:
        table = Table(box=box.SIMPLE_HEAD, show_footer=True, pad_edge=False)
        total = sum(p.seconds for p in self.passes)
        growth = sum(p.peak_growth for p in self.passes)
        table.add_column("pass", "total", overflow="fold")
        for header, footer in (("seconds", f"{total:.4f}"), ("share", ""), ("nodes", ""), ("", "")):
            table.add_column(header, footer, justify="right")
        table.add_column("peak memory", f"+{growth / 1e6:.1f} MB", justify="right")
        for p in self.passes:
            outcome = {None: "failed", True: "changed", False: ""}[p.changed]
            nodes = f"{p.nodes_before} -> {p.nodes_after}" if p.nodes_before != p.nodes_after else str(p.nodes_after)
            table.add_row(
                p.text, f"{p.seconds:.4f}", f"{p.seconds / total if total else 0:.1%}", nodes, outcome,
                f"+{p.peak_growth / 1e6:.1f} MB",
            )
        text = StringIO()
        Console(file=text, width=200, highlight=False, color_system=None).print(table)
        return "\n".join(line.rstrip() for line in text.getvalue().splitlines() if line.strip()) + "\n"


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
