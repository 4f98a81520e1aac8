"""Times of several contenders, taken in turns, so that whatever else the machine does meets all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from qcompiler.benchmark.contenders import Contender
from qcompiler.pipeline import Progress, silent

TURN_SECONDS = 0.04
"""Timed runs of one turn take about this long, and at least three are made."""
WARM_UP_SECONDS = 0.015
PAUSE_SECONDS = 0.05
"""Threads of other runtimes spin for some milliseconds after a run; on few cores that is their successor's time."""


@dataclass
class Times:
    """Seconds of a contender's timed runs."""

    contender: Contender
    seconds: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """Milliseconds."""
        return 1e3 * statistics.median(self.seconds)

    @property
    def minimum(self) -> float:
        """Milliseconds."""
        return 1e3 * min(self.seconds)

    def turn(self) -> None:
        """A pause, some runs to warm up, then timed ones."""
        run, clock = self.contender.run, time.perf_counter
        # Not by sleeping: a core that was idle runs slower for tens of milliseconds (measured: up to 1.6 times).
        _repeat(lambda: None, PAUSE_SECONDS)
        _repeat(run, WARM_UP_SECONDS)
        turn_until, runs = clock() + TURN_SECONDS, 0
        while runs < 3 or clock() < turn_until:
            started = clock()
            run()
            self.seconds.append(clock() - started)
            runs += 1


def measure(contenders: Sequence[Contender], rounds: int, progress: Progress = silent) -> list[Times]:
    """Time contenders in turns, in an order that changes from round to round.

    Args:
        contenders: what is to be timed.
        rounds: turns of each; at least 1.
        progress: told how many rounds are done.

    Returns:
        The times of each, in the order of ``contenders``.
    """
    times = [Times(c) for c in contenders]
    for number in range(rounds):
        shift = number % len(times)
        for entry in times[shift:] + times[:shift]:
            entry.turn()
        progress("rounds", number + 1, rounds)
    return times


def _repeat(action: Callable[[], None], seconds: float) -> None:
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        action()
