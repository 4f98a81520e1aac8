"""Values and where they come from in the user's program."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from qcompiler.ir.constant_array import ConstantArray
from qcompiler.ir.dimension import same_but_for_unit_axes
from qcompiler.ir.types import TensorType

if TYPE_CHECKING:
    from qcompiler.ir.node import Node


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

    def scaled(self, factor: NDArray[Any] | float) -> Original:
        """The origin of ``value * factor``; the factor is a number, or broadcasts over the value's axes."""
        before = np.float64(1) if self.factor is None else self.factor.array.astype(np.float64)
        return Original(self.name, self.permutation, ConstantArray(np.asarray(before * factor, np.float32)))


@dataclass(frozen=True)
class Untraced:
    """Why a value stands for no value of p."""

    reason: str

    def transposed(self, permutation: tuple[int, ...]) -> Untraced:
        """The same: moving axes does not trace it."""
        return self

    def scaled(self, factor: NDArray[Any] | float) -> Untraced:
        """The same: a factor does not trace it."""
        return self


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

    @property
    def only_user(self) -> Node | None:
        """The node that uses this value, if exactly one operand of one node does and it is no graph output."""
        if len(self.uses) != 1:
            return None
        ((node, _),) = self.uses
        return None if node.op.name == "return" else node

    def adopt_origin(self, reshaped: Value) -> None:
        """Stand for what a reshape of this value stands for, if this value stands for nothing itself.

        Only where the shapes differ in axes of size 1 alone: then an origin holds for both.
        """
        if (
            isinstance(self.origin, Untraced) and isinstance(reshaped.origin, Original)
            and same_but_for_unit_axes(self.type.shape, reshaped.type.shape)
        ):
            self.origin = reshaped.origin

    def replace_uses(self, replacement: Value) -> None:
        """Let every user of this value, graph outputs included, use ``replacement`` instead."""
        for node, index in list(self.uses):
            node.set_operand(index, replacement)

    def __repr__(self) -> str:
        source = self.producer.op.name if self.producer else f"input {self.name}"
        return f"<Value {source}: {self.type}>"
