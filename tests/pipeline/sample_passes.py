"""Passes for tests: with options of every type, and such that do wrong."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from qcompiler import plugins
from qcompiler.ir import Graph, TensorType, parse
from qcompiler.ir.scalar import F32
from qcompiler.ops.quantization import FakeQuant
from qcompiler.pipeline import PASSES, Context, Pass, PassResult, Stage, compiler_pass, option

plugins.load()

FLOAT = """// qir 1
graph @fc(%x: f32[N,2] original("x")) -> (y: f32[N,2]) {
  %w = constant {value = dense<f32[2,2]>[1.0, 2.0, 3.0, 4.0]} -> f32[2,2] original("w") loc("fc")
  %h = matmul %x, %w -> f32[N,2] original("h") loc("fc")
  %r = relu %h -> f32[N,2] original("y") loc("act")
  %unused = sigmoid %x -> f32[N,2] original("unused") loc("unused")
  return %r
}
"""


def float_program() -> Graph:
    """A layer, an activation, and a node that nobody uses."""
    return parse(FLOAT)


@contextmanager
def sample_passes() -> Iterator[None]:
    """A scope in which the passes below are registered."""
    with PASSES.temporary():
        _register()
        yield


def _register() -> None:
    @compiler_pass("all-options")
    class AllOptions(Pass):
        """Does nothing, in many ways."""

        count: int = option(3, "a bounded number", minimum=0, maximum=10)
        ratio: float = option(0.5, "a real number", minimum=-1e300)
        exact: bool = option(False, "a switch")
        word: str = option("plain", "any text")
        mode: Literal["fast", "slow", 3] = option("fast", "one of a few")
        layers: tuple[str, ...] = option((), "layer names")
        axes: tuple[int, ...] = option((0, 1), "axes", minimum=-4)
        pair: tuple[str, float] = option(("a", 1.0), "a name and a number")
        grid: tuple[tuple[int, ...], ...] = option((), "rows of numbers")
        limit: float | None = option(None, "a number or nothing", minimum=0.0)
        label: str | None = option(None, "a text or nothing")
        kinds: tuple[str, ...] = option(("conv",), "kinds of layers", ("conv", "add"))

        def run(self, graph: Graph, context: Context) -> PassResult:
            return PassResult(graph, False)

    @compiler_pass("required-option")
    class RequiredOption(Pass):
        """Must be told how often."""

        times: int

        def run(self, graph: Graph, context: Context) -> PassResult:
            return PassResult(graph, False)

    @compiler_pass("crash")
    class Crash(Pass):
        """Changes the program halfway, then fails."""

        refuse: bool = False

        def run(self, graph: Graph, context: Context) -> PassResult:
            for node in list(graph.reversed_nodes):
                if not any(v.uses for v in node.results):
                    graph.erase(node)
            if self.refuse:
                from qcompiler.errors import QCompilerError

                raise QCompilerError("this program is refused", layer="act")
            raise KeyError("a bug")

    @compiler_pass("lie-about-origin")
    class LieAboutOrigin(Pass):
        """Changes where a value comes from, and says it changed nothing."""

        def run(self, graph: Graph, context: Context) -> PassResult:
            last = list(graph.nodes)[-1]
            last.result.origin = graph.inputs[0].origin
            return PassResult(graph, False)

    @compiler_pass("lie-about-layer")
    class LieAboutLayer(Pass):
        """Renames a layer, and says it changed nothing."""

        def run(self, graph: Graph, context: Context) -> PassResult:
            next(graph.nodes).loc = ("other",)
            return PassResult(graph, False)

    @compiler_pass("claim-change")
    class ClaimChange(Pass):
        """Changes nothing, and says it did."""

        def run(self, graph: Graph, context: Context) -> PassResult:
            return PassResult(graph, True)

    @compiler_pass("break-type")
    class BreakType(Pass):
        """Leaves a malformed program, and says so."""

        def run(self, graph: Graph, context: Context) -> PassResult:
            next(graph.nodes).result.type = TensorType((7,), F32)
            return PassResult(graph, True)

    @compiler_pass("forget-use")
    class ForgetUse(Pass):
        """Drops the record of a use, which no text shows, and says it changed nothing."""

        def run(self, graph: Graph, context: Context) -> PassResult:
            graph.inputs[0].uses.popitem()
            return PassResult(graph, False)

    @compiler_pass("calibrate-nothing")
    class CalibrateNothing(Pass):
        """Says it calibrates, and does not."""

        needs = Stage.ANNOTATED
        leaves = Stage.CALIBRATED

        def run(self, graph: Graph, context: Context) -> PassResult:
            return PassResult(graph, False)

    @compiler_pass("strip-marks")
    class StripMarks(Pass):
        """Says it calibrates, and takes all marks away."""

        needs = Stage.ANNOTATED
        leaves = Stage.CALIBRATED

        def run(self, graph: Graph, context: Context) -> PassResult:
            for node in graph.nodes:
                if isinstance(node.op, FakeQuant):
                    node.result.replace_uses(node.operands[0])
                    graph.erase(node)
            return PassResult(graph, True)
