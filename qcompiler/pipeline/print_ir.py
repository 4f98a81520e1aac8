"""The instrument that prints the program between passes."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from typing import TextIO

from qcompiler.ir import Graph
from qcompiler.pipeline.compiler_pass import Pass
from qcompiler.pipeline.instrument import Instrument

ALL = "all"
"""Stands for every pass where passes are named."""


class PrintIR(Instrument):
    """Prints the program before or after passes, each time under a line such as
    ``// ----- IR after canonicalize (3 of 12, changed) -----``.

    Args:
        before: names of passes before which to print; ``"all"`` stands for all.
        after: names of passes after which to print; ``"all"`` stands for all.
        after_change: print after every pass that changed the program.
        on_failure: print the program as a failing pass left it, perhaps half changed.
        stream: where to print; standard error by default.
    """

    def __init__(
        self,
        before: Collection[str] = (),
        after: Collection[str] = (),
        *,
        after_change: bool = False,
        on_failure: bool = False,
        stream: TextIO | None = None,
    ) -> None:
        self.before = frozenset(before)
        self.after = frozenset(after)
        self.after_change = after_change
        self.on_failure = on_failure
        self.stream = stream
        self.total = 0

    def begin(self, graph: Graph, passes: Sequence[Pass]) -> None:
        self.total = len(passes)

    def before_pass(self, index: int, current: Pass, graph: Graph) -> None:
        if self.before & {current.name, ALL}:
            self._print(f"before {current.name} ({index + 1} of {self.total})", str(graph))

    def after_pass(self, index: int, current: Pass, graph: Graph, changed: bool) -> None:
        if self.after & {current.name, ALL} or (self.after_change and changed):
            how = "changed" if changed else "unchanged"
            self._print(f"after {current.name} ({index + 1} of {self.total}, {how})", str(graph))

    def failed(self, index: int, current: Pass, graph: Graph, error: Exception) -> None:
        if not self.on_failure:
            return
        try:
            text = str(graph)
        except Exception as problem:
            # What a failing pass leaves may be beyond printing, and its error matters more.
            text = f"// cannot be printed: {type(problem).__name__}: {problem}\n"
        self._print(f"on failure of {current.name} ({index + 1} of {self.total})", text)

    def _print(self, when: str, text: str) -> None:
        print(f"// ----- IR {when} -----\n{text}", file=self.stream or sys.stderr, flush=True)
