"""What a program says of one of its values: where it comes from, where it goes, and which numbers it can hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from qcompiler.analysis.number_summary import NumberSummary, share, summarize
from qcompiler.analysis.op_changes import attributes_text, format_text, origin_text
from qcompiler.analysis.real_numbers import real_numbers
from qcompiler.ir import Affine, BlockFloat, Graph, Node, Tensor, Value, print_node, walk
from qcompiler.ir.dimension import format_shape
from qcompiler.ops.block_conversion import FakeBlock
from qcompiler.ops.constant import constant_tensor
from qcompiler.ops.quantization import FakeQuant


@dataclass(frozen=True)
class Spread:
    """The smallest, middle and largest of the parameters of all blocks, and how many there are."""

    count: int
    minimum: float
    median: float
    maximum: float


@dataclass(frozen=True)
class QuantizationDescription:
    """Which numbers a value of an affine type can hold.

    Attributes:
        storage: the integer format.
        qmin, qmax: bounds of the stored integers.
        blocks: block length in each dimension, as text; empty for one scale.
        scale: of all blocks; one step of the stored integer is one scale in real terms.
        zero_point: of all blocks.
        real_minimum, real_maximum: the widest range of any block.
    """

    storage: str
    qmin: int
    qmax: int
    blocks: str
    scale: Spread
    zero_point: Spread
    real_minimum: float
    real_maximum: float


@dataclass(frozen=True)
class BlockDescription:
    """Which numbers a value of block floating point can hold.

    Attributes:
        storage: the integer format of the mantissas.
        smallest, largest: bounds of the mantissas.
        format: the format as the program's text has it, without blocks.
        blocks: block length in each dimension, as text.
        lowest_exponent, highest_exponent: bounds of the exponents.
        fixed_exponents: those that the type fixes; None where they are found at run time.
    """

    storage: str
    smallest: int
    largest: int
    format: str
    blocks: str
    lowest_exponent: int
    highest_exponent: int
    fixed_exponents: Spread | None


@dataclass(frozen=True)
class HeldNumbers:
    """The numbers that a value holds.

    Attributes:
        real: as real numbers.
        stored: as stored integers, of block floating point the mantissas; None for values that are not quantized.
        exponents: of the blocks; None for values that have none.
        at_minimum, at_maximum: share of the stored integers at each end of their range: that many may be saturated.
    """

    real: NumberSummary
    stored: NumberSummary | None = None
    exponents: NumberSummary | None = None
    at_minimum: float | None = None
    at_maximum: float | None = None


@dataclass(frozen=True)
class ValueDescription:
    """A value and its surroundings.

    Attributes:
        name: its name in the program's text.
        type: its type.
        op: the op that computes it with its attributes; "input" for inputs of the program.
        layers: the user's layers that the op does the work of.
        origin: the original value that it stands for, with permutation and factor; or why there is none.
        kernel: name of the first result of the fused node that holds it; empty outside of kernels.
        text: the node in the program's text; empty for inputs.
        users: name and op of each user; outputs by their names.
        quantization: of an affine type; None for other values.
        block: of block floating point; None for other values.
        constant: the numbers of a constant; None for computed values.
    """

    name: str
    type: str
    op: str
    layers: tuple[str, ...]
    origin: str
    kernel: str
    text: str
    users: tuple[str, ...]
    quantization: QuantizationDescription | None
    block: BlockDescription | None
    constant: HeldNumbers | None


def describe_value(graph: Graph, value: Value, names: Mapping[Value, str]) -> ValueDescription:
    """What ``graph`` says of ``value``.

    Args:
        graph: the program.
        value: one of its values; may stand in a fused body.
        names: the name of each value in the text.
    """
    node = value.producer
    kernel = _kernel_of(graph, node)
    constant = constant_tensor(value)
    return ValueDescription(
        names[value], str(value.type),
        f"{node.op.name} {attributes_text(node.op)}".strip() if node else "input",
        node.loc if node else (), origin_text(value.origin), names[kernel.results[0]] if kernel else "",
        print_node(node, names) if node else "", _users(graph, value, names, kernel),
        _quantization(value), _block(value), None if constant is None else held_numbers([constant]),
    )


def held_numbers(tensors: Sequence[Tensor]) -> HeldNumbers:
    """The figures of the numbers that tensors hold: one value, in one run or several.

    Args:
        tensors: at least one; their types have no free dimension, and equal quantization.
    """
    stored = np.concatenate([np.asarray(t.data).reshape(-1) for t in tensors])
    elem = tensors[0].type.elem
    if not isinstance(elem, Affine | BlockFloat):
        return HeldNumbers(summarize(stored))
    real = np.concatenate([real_numbers(t).reshape(-1) for t in tensors])
    exponents, (low, high) = None, (elem.qmin, elem.qmax) if isinstance(elem, Affine) else _mantissa_range(elem)
    if isinstance(elem, BlockFloat):
        exponents = summarize(np.concatenate([t.block.exponents.reshape(-1) for t in tensors]))
    return HeldNumbers(
        summarize(real), summarize(stored), exponents,
        share(int((stored <= low).sum()), stored.size), share(int((stored >= high).sum()), stored.size),
    )


def _mantissa_range(elem: BlockFloat) -> tuple[int, int]:
    return elem.format.smallest, elem.format.largest


def _quantization(value: Value) -> QuantizationDescription | None:
    elem = value.type.elem
    op = value.producer.op if value.producer else None
    if isinstance(op, FakeQuant) and op.is_calibrated:
        elem = op.elem
    if not isinstance(elem, Affine):
        return None
    scale, zero_point = elem.scale.array.astype(np.float64), elem.zero_point.array
    return QuantizationDescription(
        elem.storage.name, elem.qmin, elem.qmax, "[" + ",".join(map(str, elem.blocks)) + "]" if elem.blocks else "",
        _spread(elem.scale.array), _spread(zero_point),
        float((scale * (elem.qmin - zero_point)).min()), float((scale * (elem.qmax - zero_point)).max()),
    )


def _block(value: Value) -> BlockDescription | None:
    elem = value.type.elem
    op = value.producer.op if value.producer else None
    if isinstance(op, FakeBlock) and op.is_calibrated:
        elem = op.held.elem
    if not isinstance(elem, BlockFloat):
        return None
    return BlockDescription(
        elem.storage.name, *_mantissa_range(elem), format_text(elem.format), format_shape(elem.blocks),
        *elem.format.exponent_range, None if elem.exponents is None else _spread(elem.exponents.array),
    )


def _spread(grid: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> Spread:
    # The shortest decimal of a float32, as the program's text has it.
    low, middle, high = (float(str(v)) for v in (grid.min(), np.sort(grid.reshape(-1))[grid.size // 2], grid.max()))
    return Spread(grid.size, low, middle, high)


def _kernel_of(graph: Graph, node: Node | None) -> Node | None:
    if node is None or node.graph is graph:
        return None
    return next(k for k in walk(graph) if getattr(k.op, "body", None) is node.graph)


def _users(graph: Graph, value: Value, names: Mapping[Value, str], kernel: Node | None) -> tuple[str, ...]:
    holder = graph if kernel is None else kernel.op.body  # type: ignore[attr-defined]
    nodes = [f"{names[user.results[0]]} {user.op.name}" for user in value.users if user is not holder.terminator]
    outputs = [output.name for output in holder.outputs if output.value is value]
    if kernel is None:
        return (*nodes, *(f"output {name}" for name in outputs))
    return (*nodes, f"{names[kernel.results[0]]} {kernel.op.name}") if outputs else tuple(nodes)
