"""Where numbers pass between target and host in a finished program."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from qcompiler.analysis.placement import sample_bytes
from qcompiler.ir import Graph, Node, Original, Value
from qcompiler.ops.constant import Constant
from qcompiler.target import is_host_node

Direction = Literal["to host", "to target"]


@dataclass(frozen=True)
class Crossing:
    """A value that one side computes and the other uses.

    Attributes:
        layer: the user's layers that compute the value.
        direction: where it goes.
        value: its name in the model; empty for values that the model does not have.
        type: as it crosses: plain numbers, behind a ``dequantize`` or before a ``quantize``.
        bytes: of one sample.
    """

    layer: str
    direction: Direction
    value: str
    type: str
    bytes: int


def find_crossings(graph: Graph, placed: Collection[Node] | None = None) -> list[Crossing]:
    """The crossings of a program, in order; inputs and outputs of the program are none.

    Args:
        graph: p', or a float program.
        placed: the nodes that the host runs; by default those of p' that compute on plain numbers.
    """
    hosted = {n for n in graph.nodes if is_host_node(n)} if placed is None else placed
    found = []
    for node in graph.nodes:
        if isinstance(node.op, Constant):
            continue
        on_host = node in hosted
        for value in node.results:
            users = (user for user in value.users if user is not graph.terminator)
            if any((user in hosted) != on_host for user in users):
                direction: Direction = "to target" if on_host else "to host"
                found.append(
                    Crossing(node.layer, direction, _name(value), str(value.type), sample_bytes(value.type))
                )
    return found


def _name(value: Value) -> str:
    return value.origin.name if isinstance(value.origin, Original) else ""
