"""Which ops run as one kernel: a root and the element-wise ops that follow it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcompiler.backends.lowering import find_lowering
from qcompiler.backends.tvm.block_regions import BlockRegion, grow_block_region, is_block_node
from qcompiler.backends.tvm.element import Element, Step
from qcompiler.backends.tvm.kernels.epilogue import InputKind
from qcompiler.ir import Graph, Node, Value
from qcompiler.ir.constant_array import ConstantArray
from qcompiler.ir.dimension import static_shape
from qcompiler.ops.constant import Constant, constant_value
from qcompiler.ops.table import LookupTable

Array = NDArray[Any]


@dataclass(frozen=True)
class TailInput:
    """Numbers that the steps of a region take.

    Attributes:
        dtype: their format in memory.
        shape: broadcastable to the result's.
        source: a value, a constant of the arithmetic, or None for what the root's kernel accumulates.
    """

    dtype: str
    shape: tuple[int, ...]
    source: Value | ConstantArray | None

    @property
    def array(self) -> Array | None:
        """The numbers, where they are known now."""
        if isinstance(self.source, ConstantArray):
            return self.source.array
        return None if self.source is None else constant_value(self.source)

    def kind(self, shape: tuple[int, ...]) -> InputKind | None:
        """How an epilogue takes them whose results have this shape; None where it cannot."""
        size = prod(self.shape)
        if self.array is None:
            return InputKind.TENSOR if size == prod(shape) else None
        if size == 1:
            return InputKind.SCALAR
        if self.shape[-1] == shape[-1] == size:
            return InputKind.CHANNEL
        if len(shape) == 4 and self.shape[-3:] == (*shape[1:3], 1):
            return InputKind.PIXEL
        return InputKind.TENSOR if size == prod(shape) else None


@dataclass
class Region:
    """Ops that run as one kernel.

    Attributes:
        root: the first op.
        nodes: all of them, in order.
        result: what the last one computes.
        inputs: what the steps take. Where the root is not element-wise, input 0 is what its kernel accumulates.
        steps: what happens to each number.
        table: the op that looks up each 8-bit result of the steps, where the same kernel does that too.
        is_elementwise: whether the root is the first step.
    """

    root: Node
    nodes: list[Node]
    result: Value
    inputs: list[TailInput] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    table: Node | None = None
    is_elementwise: bool = False

    @property
    def stored(self) -> Value:
        """What the kernel writes to memory."""
        return self.result if self.table is None else self.table.result

    @property
    def label(self) -> str:
        """The user's layers; the op where there are none."""
        layers = dict.fromkeys(name for node in self.nodes for name in node.loc)
        return " + ".join(layers) or self.root.op.name


def element_of(node: Node) -> Element | None:
    """What a node computes for each element; None where it is not element-wise, or unknown to native code."""
    return _element("tvm-element", node)


def takes_steps(node: Node) -> bool:
    """Whether the kernel of this op can run element-wise steps on its results."""
    return find_lowering("tvm-root", node.op) is not None


def form_regions(graph: Graph, kept: frozenset[Value], with_tables: bool) -> Iterator[Region | BlockRegion]:
    """Cut a flat program into regions, in an order in which operands precede their users.

    A region goes on while its result has one user, which is element-wise, keeps the shape, and whose other operands
    are known by then: a residual sum joins whichever of its operands comes last.

    Args:
        graph: without fused bodies and free dimensions.
        kept: values that must stand in memory.
        with_tables: whether kernels look up 8-bit results before they store them.
    """
    done: set[Node] = set()
    known: set[Value] = set(graph.inputs)
    for node in graph.nodes:
        if isinstance(node.op, Constant):
            known.update(node.results)
        if node in done or isinstance(node.op, Constant):
            continue
        if is_block_node(node):
            block_region = grow_block_region(node, kept)
            done.update(block_region.nodes)
            known.update(v for n in block_region.nodes for v in n.results)
            yield block_region
            continue
        region = _Grower(node, known, kept).grow()
        if with_tables and region.inputs and not region.is_elementwise:
            _take_table(region, kept)
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

    def grow(self) -> Region:
        root = self.region.root
        first = element_of(root)
        self.region.is_elementwise = first is not None
        if first is None:
            if not takes_steps(root):
                return self.region
            # What becomes of a sum is a step like those that follow.
            first = _element("tvm-sums", root)
        if first is not None:
            self.pending.append((first, root))
        while (following := self._next()) is not None:
            self.pending.append(following)
            self.region.nodes.append(following[1])
            self.region.result = following[1].result
        self._number()
        return self.region

    def _next(self) -> tuple[Element, Node] | None:
        value = self.region.result
        user = value.only_user
        if value in self.kept or user is None or len(user.results) != 1:
            return None
        shape = static_shape(value.type.shape)
        if static_shape(user.result.type.shape) != shape:
            return None
        others = [v for v in user.operands if v is not value]
        if any(v not in self.known for v in others):
            return None
        element = element_of(user)
        if element is None:
            return None
        entries = [*map(_entry, others), *(_entry(ConstantArray(c)) for c in element.constants)]
        if not self.region.is_elementwise and any(e.kind(shape) in (None, InputKind.PIXEL) for e in entries):
            return None
        return element, user

    def _number(self) -> None:
        """Number the inputs first, then the results of the steps."""
        region, root = self.region, self.region.root
        numbers: dict[Value, int] = {}
        inside = {node.result for _, node in self.pending}
        sums = bool(self.pending) and self.pending[0][1] is root and not self.region.is_elementwise
        if not self.region.is_elementwise:
            result = root.result.type
            dtype = "int32" if sums else str(result.storage.dtype)
            region.inputs.append(TailInput(dtype, static_shape(result.shape), None))
            # Steps that compute on sums take these in place of what the op sums up.
            numbers[root.operands[0] if sums else root.result] = 0
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


def _take_table(region: Region, kept: frozenset[Value]) -> None:
    """Let a region end in the table lookup that follows it, if all numbers there have 8 bits."""
    value, user = region.result, region.result.only_user
    if user is None or value in kept or not isinstance(user.op, LookupTable):
        return
    if value.type.storage.bits == user.result.type.storage.bits == 8:
        region.table = user
        region.nodes.append(user)


def _element(kind: str, node: Node) -> Element | None:
    found = find_lowering(kind, node.op)
    if found is None:
        return None
    element = found(node)
    assert isinstance(element, Element)
    return element


def _entry(source: Value | ConstantArray) -> TailInput:
    if isinstance(source, Value):
        return TailInput(str(source.type.storage.dtype), static_shape(source.type.shape), source)
    return TailInput(str(source.array.dtype), source.shape, source)


def _take(region: Region, source: Value | ConstantArray) -> int:
    """Add an input; its number."""
    region.inputs.append(_entry(source))
    return len(region.inputs) - 1


def _bounds(element: Element, node: Node) -> list[Array]:
    if element.bounds is None:
        return []
    wide = node.result.type.storage.bits > 32
    return [np.asarray(bound, np.int64 if wide else np.int32) for bound in element.bounds]
