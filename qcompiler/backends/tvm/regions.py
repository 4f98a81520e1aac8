"""Which ops run as one kernel: a root and the element-wise ops that follow it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcompiler.backends.lowering import find_lowering
from qcompiler.backends.tvm.element import Element, Step
from qcompiler.ir import Graph, Node, Value
from qcompiler.ir.constant_array import ConstantArray
from qcompiler.ir.dimension import static_shape
from qcompiler.ops.constant import Constant


@dataclass(frozen=True)
class TailInput:
    """Numbers that the steps of a region take beside the root's own result.

    Attributes:
        dtype: their format in memory.
        shape: broadcastable to the result's.
        source: a value, or a constant of the arithmetic.
    """

    dtype: str
    shape: tuple[int, ...]
    source: Value | ConstantArray


@dataclass
class Region:
    """Ops that run as one kernel.

    Attributes:
        root: the first op; of an element-wise region, its first step.
        nodes: all of them, in order.
        result: what the last one computes.
        inputs: what the steps take. Input 0 is the root's result where the root is no element-wise op.
        steps: what happens to each number.
    """

    root: Node
    nodes: list[Node]
    result: Value
    inputs: list[TailInput] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)

    @property
    def label(self) -> str:
        """The user's layers; the op where there are none."""
        layers = dict.fromkeys(name for node in self.nodes for name in node.loc)
        return " + ".join(layers) or self.root.op.name


def element_of(node: Node) -> Element | None:
    """What a node computes for each element; None where it is not element-wise, or unknown to native code."""
    found = find_lowering("tvm-element", node.op)
    if found is None:
        return None
    element = found(node)
    assert isinstance(element, Element)
    return element


def form_regions(graph: Graph, takes_tail: Callable[[Node], bool], kept: frozenset[Value]) -> Iterator[Region]:
    """Cut a flat program into regions, in an order in which operands precede their users.

    A region goes on while its result has one user, which is element-wise, keeps the shape, and whose other operands
    are known by then: a residual sum joins whichever of its operands comes last.

    Args:
        graph: without fused bodies and free dimensions.
        takes_tail: whether the kernel of a root that is not element-wise can run steps on its results.
        kept: values that must stand in memory.
    """
    done: set[Node] = set()
    known: set[Value] = set(graph.inputs)
    for node in graph.nodes:
        if isinstance(node.op, Constant):
            known.update(node.results)
        if node in done or isinstance(node.op, Constant):
            continue
        region = _Grower(node, known, kept).grow(takes_tail)
        done.update(region.nodes)
        known.update(v for n in region.nodes for v in n.results)
        yield region


class _Grower:
    """Gathers one region."""

    def __init__(self, root: Node, known: set[Value], kept: frozenset[Value]) -> None:
        self.known = known
        self.kept = kept
        self.region = Region(root, [root], root.results[0])
        self.pending: list[tuple[Element, Node]] = []

    def grow(self, takes_tail: Callable[[Node], bool]) -> Region:
        root = self.region.root
        first = element_of(root)
        if first is not None:
            self.pending.append((first, root))
        elif len(root.results) != 1 or not takes_tail(root):
            return self.region
        while (following := self._next()) is not None:
            self.pending.append(following)
            self.region.nodes.append(following[1])
            self.region.result = following[1].result
        self._number(starts_with_element=first is not None)
        return self.region

    def _next(self) -> tuple[Element, Node] | None:
        value = self.region.result
        user = value.only_user
        if value in self.kept or user is None or len(user.results) != 1:
            return None
        if static_shape(user.result.type.shape) != static_shape(value.type.shape):
            return None
        if any(v is not value and v not in self.known for v in user.operands):
            return None
        element = element_of(user)
        return None if element is None else (element, user)

    def _number(self, starts_with_element: bool) -> None:
        """Number the inputs first, then the results of the steps."""
        region = self.region
        numbers: dict[Value, int] = {}
        inside = {node.result for _, node in self.pending}
        if not starts_with_element:
            numbers[region.root.result] = _take(region, region.root.result)
        for _, node in self.pending:
            for value in node.operands:
                if value not in inside and value not in numbers:
                    numbers[value] = _take(region, value)
        # Equal constants stay apart: kernels of layers whose constants happen to be equal are the same as others.
        constants = [
            [_take(region, ConstantArray(c)) for c in (*element.constants, *_bounds(element, node))]
            for element, node in self.pending
        ]
        for (element, node), further in zip(self.pending, constants, strict=True):
            operands = (*(numbers[v] for v in node.operands), *further)
            numbers[node.result] = len(region.inputs) + len(region.steps)
            region.steps.append(Step(element.stage, operands, element.bounds is not None))


def _take(region: Region, source: Value | ConstantArray) -> int:
    """Add an input; its number."""
    if isinstance(source, Value):
        region.inputs.append(TailInput(str(source.type.storage.dtype), static_shape(source.type.shape), source))
    else:
        region.inputs.append(TailInput(str(source.array.dtype), source.shape, source))
    return len(region.inputs) - 1


def _bounds(element: Element, node: Node) -> list[NDArray[Any]]:
    if element.bounds is None:
        return []
    wide = node.result.type.storage.bits > 32
    return [np.asarray(bound, np.int64 if wide else np.int32) for bound in element.bounds]
