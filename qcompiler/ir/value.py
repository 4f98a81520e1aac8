"""Values and where they come from in the user's program."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qcompiler.ir.constant_array import ConstantArray
from qcompiler.ir.types import TensorType

if TYPE_CHECKING:
    from qcompiler.ir.graph import Node


@dataclass(frozen=True)
class Original:
    """The value of p that a value stands for. Axes of size 1 do not count: either may have some that the other lacks.

    Attributes:
        name: name of p's value.
        permutation: axis ``i`` of this value is axis ``permutation[i]`` of p's; None where they agree.
        factor: this value is p's times ``factor`` (broadcast over this value's axes); None for 1.
    """

    name: str
    permutation: tuple[int, ...] | None = None
    factor: ConstantArray | None = None

    def transposed(self, permutation: tuple[int, ...]) -> Original:
        """The origin of ``transpose(value, permutation)``."""
        before = self.permutation or tuple(range(len(permutation)))
        after = tuple(before[p] for p in permutation)
        factor = self.factor
        if factor is not None and factor.array.ndim:
            factor = ConstantArray(factor.array.transpose(permutation))
        return Original(self.name, None if after == tuple(range(len(after))) else after, factor)


@dataclass(frozen=True)
class Untraced:
    """Why a value stands for no value of p."""

    reason: str


Origin = Original | Untraced


class Value:
    """A tensor in a graph: a graph input or a node's result. It knows its uses, in order of creation.

    Attributes:
        type: its tensor type.
        origin: the value of p that it stands for.
        producer: the node whose result it is; None for a graph input.
        name: a graph input's name; empty for results.
    """

    __slots__ = ("name", "origin", "producer", "type", "uses")

    def __init__(self, type: TensorType, origin: Origin, producer: Node | None = None, name: str = "") -> None:
        self.type = type
        self.origin = origin
        self.producer = producer
        self.name = name
        self.uses: dict[tuple[Node, int], None] = {}

    @property
    def users(self) -> list[Node]:
        """The nodes that use this value, each once, in order of first use."""
        return list(dict.fromkeys(node for node, _ in self.uses))

    def replace_uses(self, replacement: Value) -> None:
        """Let every user of this value, graph outputs included, use ``replacement`` instead."""
        for node, index in list(self.uses):
            node.set_operand(index, replacement)

    def __repr__(self) -> str:
        source = self.producer.op.name if self.producer else f"input {self.name}"
        return f"<Value {source}: {self.type}>"
