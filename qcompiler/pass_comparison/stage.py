"""What a program computes on the samples, by original value."""

from __future__ import annotations

import enum
import math
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcompiler.analysis.real_numbers import real_numbers
from qcompiler.compare import in_original_terms, is_limited, is_quantized, run_values, sqnr_db, within_range
from qcompiler.ir import BlockFloat, Graph, Original, Scalar, Tensor, Value
from qcompiler.ir.node import Loc
from qcompiler.numerics.block_conversion import spread
from qcompiler.ops.block_conversion import FakeBlock, FromBlock
from qcompiler.ops.block_values import blocks_of
from qcompiler.ops.constant import Constant
from qcompiler.ops.quantization import Dequantize, FakeQuant

Array = NDArray[Any]


class Kind(enum.Enum):
    """What a program computes with. A pass that keeps the kind should leave every value as it is."""

    FLOAT = "float"
    SIMULATED = "simulated"
    INTEGER = "integer"


@dataclass(frozen=True)
class Key:
    """Two values of two programs with equal keys hold the same numbers if the programs agree.

    Attributes:
        name: name of the original value.
        form: how the value is held: its quantized type and factor, or what kind of real number it is.
    """

    name: str
    form: Hashable


@dataclass(frozen=True)
class Held:
    """A value's numbers, in the shape and axis order of the original.

    Attributes:
        form: how the value is held, see :class:`Key`.
        real: the real numbers, with the original's factors.
        stored: the stored integers, of block floating point the mantissas; None for float values.
        exponents: of block floating point that of each mantissa; None for other values.
        sqnr_db: SQNR to ``target``.
        target: the original's numbers; within ``limits`` where there are any.
        limits: the range in which the value is held because the activation behind it keeps no more; None for others.
    """

    form: Hashable
    real: Array
    stored: Array | None
    exponents: Array | None
    sqnr_db: float
    target: Array
    limits: tuple[float, float] | None

    def compared_within(self, limits: tuple[float, float], target: Array) -> float:
        """SQNR in dB against ``target`` once the value, too, is limited as the activation behind it will."""
        return agreement_db(target, np.clip(self.real, *limits))


@dataclass(frozen=True)
class Step:
    """A computed value, the values that it is computed from, and the layers of its node."""

    value: Value
    sources: tuple[Value, ...]
    loc: Loc


@dataclass(frozen=True)
class Stage:
    """A program at one stage of its compilation, and what it holds.

    Attributes:
        kind: what it computes with.
        held: the numbers of each value that stands for an original.
        last: the key of the last value that stands for an original, by name.
    """

    kind: Kind
    held: Mapping[Key, Held]
    last: Mapping[str, Key]


def steps(graph: Graph) -> Iterator[Step]:
    """Inputs and computed values in dataflow order. Nodes in bodies stand in place of the fused nodes."""
    stands_for: dict[Value, Value] = {}

    def inside(part: Graph) -> Iterator[Step]:
        for node in part.nodes:
            operands = tuple(stands_for.get(v, v) for v in node.operands)
            body = getattr(node.op, "body", None)
            if isinstance(body, Graph):
                stands_for.update(zip(body.inputs, operands, strict=True))
                yield from inside(body)
                for result, output in zip(node.results, body.outputs, strict=True):
                    stands_for[result] = stands_for.get(output.value, output.value)
            elif not isinstance(node.op, Constant):
                yield from (Step(value, operands, node.loc) for value in node.results)

    yield from (Step(value, (), ()) for value in graph.inputs)
    yield from inside(graph)


def kind_of(graph: Graph) -> Kind:
    """What the program computes with."""
    kind = Kind.FLOAT
    for step in steps(graph):
        if is_quantized(step.value):
            return Kind.INTEGER
        op = step.value.producer.op if step.value.producer else None
        if isinstance(op, FakeQuant | FakeBlock) and op.is_calibrated:
            kind = Kind.SIMULATED
    return kind


def keyed_values(graph: Graph, kind: Kind) -> dict[Key, Value]:
    """The values that stand for originals, constants aside. Of several with the same key, the last one."""
    found: dict[Key, Value] = {}
    for step in steps(graph):
        key = _key(step.value, kind)
        if key is not None:
            found.pop(key, None)
            found[key] = step.value
    return found


def _key(value: Value, kind: Kind) -> Key | None:
    origin, elem = value.origin, value.type.elem
    if not isinstance(origin, Original):
        return None
    if not isinstance(elem, Scalar):
        return Key(origin.name, (elem, origin.factor))
    if elem.is_float:
        op = value.producer.op if value.producer else None
        # Before and behind a rounding the same original has other numbers.
        return Key(origin.name, op.name if isinstance(op, FakeQuant | FakeBlock | Dequantize | FromBlock) else "float")
    # In float programs an index may flip with the last bit of what it is computed from.
    return Key(origin.name, elem) if kind is Kind.INTEGER else None


def originals(graph: Graph, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Real numbers of the original values, by name.

    Raises:
        QCompilerError: the feeds do not fit the program, or it cannot be run.
    """
    last = {key.name: value for key, value in keyed_values(graph, Kind.INTEGER).items()}
    numbers = run_values(graph, list(last.values()), feeds)
    return {name: in_original_terms(value, real_numbers(numbers[value])) for name, value in last.items()}


def measure(graph: Graph, feeds: Mapping[str, Array], expected: Mapping[str, Array]) -> tuple[Stage, dict[Value, Key]]:
    """Run the program on ``feeds`` and hold it against the numbers of the originals.

    Returns:
        The stage, which refers to nothing in ``graph``, and the key of each value that it holds.

    Raises:
        QCompilerError: the program cannot be run.
    """
    kind = kind_of(graph)
    values = {key: value for key, value in keyed_values(graph, kind).items() if key.name in expected}
    numbers = run_values(graph, list(values.values()), feeds)
    held = {key: _held(key, value, numbers[value], expected[key.name]) for key, value in values.items()}
    return Stage(kind, held, {key.name: key for key in values}), {value: key for key, value in values.items()}


def _held(key: Key, value: Value, tensor: Tensor, expected: Array) -> Held:
    real = in_original_terms(value, real_numbers(tensor)).reshape(expected.shape)
    limits = None
    if is_limited(value):
        low, high = within_range(value, np.array([-np.inf, np.inf]))
        limits = (float(low), float(high))
    target = expected if limits is None else np.clip(expected, *limits)
    stored, exponents = (
        None if array is None else _in_original_order(value, array).reshape(expected.shape)
        for array in _stored_arrays(tensor)
    )
    return Held(key.form, real, stored, exponents, agreement_db(target, real), target, limits)


def _stored_arrays(tensor: Tensor) -> tuple[Array | None, Array | None]:
    """The stored integers of a tensor and, of block floating point, the exponent of each; None where it has none."""
    if not isinstance(tensor.type.elem, BlockFloat):
        return tensor.data if tensor.data.dtype.kind in "iu" else None, None
    mantissas, exponents = tensor.block
    return mantissas, np.broadcast_to(spread(exponents, mantissas.shape, blocks_of(tensor.type)), mantissas.shape)


def _in_original_order(value: Value, array: Array) -> Array:
    origin = value.origin
    assert isinstance(origin, Original)
    return in_original_terms(Value(value.type, Original(origin.name, origin.permutation)), array)


def agreement_db(before: Array, after: Array) -> float:
    """SQNR of ``after`` against ``before``; infinite where they hold the same numbers, NaN and infinity included."""
    if np.array_equal(before, after, equal_nan=True):
        return math.inf
    with np.errstate(invalid="ignore", over="ignore"):
        return sqnr_db(before, after)
