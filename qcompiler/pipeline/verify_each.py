"""The instrument that verifies the program after each pass."""

from __future__ import annotations

from collections.abc import Sequence

from qcompiler.errors import QCompilerError
from qcompiler.ir import Graph, verify
from qcompiler.pipeline.compiler_pass import Pass
from qcompiler.pipeline.instrument import Instrument


class VerifyEach(Instrument):
    """Verifies the program before the first pass and after every pass, also after one that says it changed nothing.

    The pipeline itself verifies after passes that say they changed something. What this finds beyond that is damage
    that no text shows, such as a use that is not recorded.
    """

    def begin(self, graph: Graph, passes: Sequence[Pass]) -> None:
        """Verify the program before the first pass.

        Raises:
            QCompilerError: it is malformed; names the layer.
        """
        verify(graph)

    def after_pass(self, index: int, current: Pass, graph: Graph, changed: bool) -> None:
        """Verify the program after a pass.

        Raises:
            QCompilerError: it is malformed; names pass and layer.
        """
        try:
            verify(graph)
        except QCompilerError as error:
            raise QCompilerError(
                f"pass {current.name!r} left a malformed program: {error.problem}",
                layer=error.layer, expected=error.expected, found=error.found,
            ) from error
