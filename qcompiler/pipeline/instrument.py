"""What may watch a pipeline run: hooks before and after each pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qcompiler.ir import Graph
    from qcompiler.pipeline.compiler_pass import Context, Pass


class Instrument:
    """Watches a pipeline run. Every hook does nothing unless a subclass overrides it.

    Instruments nest: with ``[a, b]``, hook ``before_pass`` of ``a`` runs before that of ``b``, and ``after_pass`` of
    ``b`` before that of ``a``; likewise ``begin``, and ``failed`` and ``end``. An instrument reads the graph and never
    changes it. Passes may change a graph in place, so an instrument that needs a program later keeps a clone.
    """

    def attach(self, context: Context) -> None:
        """A run is about to begin; called before ``begin``.

        Args:
            context: the target, data and reports that the passes get.
        """

    def begin(self, graph: Graph, passes: Sequence[Pass]) -> None:
        """The pipeline's conditions hold; no pass has run.

        Args:
            graph: the program that the first pass gets.
            passes: all passes of the pipeline, in order.
        """

    def before_pass(self, index: int, current: Pass, graph: Graph) -> None:
        """A pass is about to run.

        Args:
            index: the pass's place in the pipeline, from 0.
            current: the pass.
            graph: the program that it gets.
        """

    def after_pass(self, index: int, current: Pass, graph: Graph, changed: bool) -> None:
        """A pass has run and its conditions hold.

        Args:
            index: the pass's place in the pipeline, from 0.
            current: the pass.
            graph: the program that it left.
            changed: whether the program differs from the one before the pass.
        """

    def failed(self, index: int, current: Pass, graph: Graph, error: Exception) -> None:
        """A pass, a check of what it left, or an ``after_pass`` hook raised an error. No further pass runs.

        Args:
            index: the pass's place in the pipeline, from 0.
            current: the pass.
            graph: the program as the failure left it: perhaps half changed, perhaps malformed.
            error: what was raised; it is raised again behind this hook. What this hook itself raises becomes a note
                on it.
        """

    def end(self, graph: Graph) -> None:
        """All passes have run.

        Args:
            graph: the finished program.
        """
