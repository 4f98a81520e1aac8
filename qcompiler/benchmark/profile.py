"""Where a program's time goes: each step of its native code, under the user's names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from qcompiler.backends import reference
from qcompiler.native_code import NativeCode

Array = NDArray[Any]


@dataclass(frozen=True)
class StepTime:
    """One step.

    Attributes:
        layers: the user's layers that it computes, or what it does where it belongs to none.
        microseconds: median of some runs.
        share: of all steps' time.
    """

    layers: str
    microseconds: float
    share: float


def profile_steps(native: NativeCode, feeds: Mapping[str, Array], threads: int, repeat: int = 100) -> list[StepTime]:
    """The steps of a program's native code, in order. Nodes on the host are run, but not counted.

    Args:
        native: of the program.
        feeds: one sample of each input.
        threads: of each op.
        repeat: runs of which the median is taken.
    """
    known = dict(feeds)
    steps: list[tuple[str, float]] = []
    for island, library in native.islands:
        taken = {v.name: known[v.name] for v in island.graph.inputs}
        if library is None:
            known |= reference.run(island.graph, taken)
        else:
            steps += library.profile(taken, threads, repeat)
            known |= library.run(taken, threads)
    total = sum(time for _, time in steps) or 1.0
    return [StepTime(layers, time / 1e3, time / total) for layers, time in steps]
