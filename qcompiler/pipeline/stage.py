"""How far a program has come on its way from float to integers."""

from __future__ import annotations

import enum
from collections.abc import Iterator

from qcompiler.ir import Affine, BlockFloat, Graph, Value
from qcompiler.ops.block_conversion import FakeBlock
from qcompiler.ops.quantization import FakeQuant


class Stage(enum.Flag):
    """What a program's values are. Passes say with these which programs they take and leave."""

    FLOAT = enum.auto()
    """Real numbers; nothing says yet what will be quantized."""
    ANNOTATED = enum.auto()
    """Real numbers; ``fake_quant`` marks what will be quantized, some without a scale."""
    CALIBRATED = enum.auto()
    """Real numbers; every ``fake_quant`` has its scale."""
    INTEGER = enum.auto()
    """Values have quantized types."""
    ANY = FLOAT | ANNOTATED | CALIBRATED | INTEGER
    """Any of these."""

    @property
    def words(self) -> str:
        """For messages and tables: ``float``, ``annotated or calibrated``, ``any``."""
        return "any" if self is Stage.ANY else " or ".join(stage.name.lower() for stage in self if stage.name)


def marked_stage(graph: Graph) -> Stage | None:
    """The stage that the quantized types and ``fake_quant`` nodes of a program show; None where it has neither.

    A program without any says nothing: it may be float, or have no value that could be quantized.
    """
    if any(isinstance(value.type.elem, Affine | BlockFloat) for value in _values(graph)):
        return Stage.INTEGER
    marks = [node.op for node in graph.nodes if isinstance(node.op, FakeBlock | FakeQuant)]
    if not marks:
        return None
    return Stage.CALIBRATED if all(mark.is_calibrated for mark in marks) else Stage.ANNOTATED


def _values(graph: Graph) -> Iterator[Value]:
    yield from graph.inputs
    for node in graph.nodes:
        yield from node.results
