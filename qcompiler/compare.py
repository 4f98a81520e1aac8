"""One program against another, value by original value."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcompiler.analysis.real_numbers import real_numbers
from qcompiler.backends import reference
from qcompiler.backends.ort import FloatSession
from qcompiler.errors import QCompilerError
from qcompiler.ir import Affine, BlockFloat, Fact, Graph, Node, Original, Tensor, Value, walk
from qcompiler.ops.binary import Add
from qcompiler.ops.block_conversion import FakeBlock
from qcompiler.ops.constant import Constant, constant_value
from qcompiler.ops.fused import bound_symbols
from qcompiler.ops.normalization import BatchNorm
from qcompiler.ops.quantization import Clamp, FakeQuant
from qcompiler.ops.quantized import parameters

Array = NDArray[Any]


@dataclass(frozen=True)
class ValueDifference:
    """How far a value of one program lies from its original.

    Attributes:
        name: name of the original value.
        layer: layers of the node that computes it in the compared program.
        sqnr_db: signal to quantization noise ratio in dB; infinite where all values agree.
        max_error: largest absolute difference.
        signal: root mean square of the original value.
        recovered: the compared program does not hold the value; it follows from one that it holds, see
            :func:`compare`.
    """

    name: str
    layer: str
    sqnr_db: float
    max_error: float
    signal: float
    recovered: bool = False


def sqnr_db(original: Array, found: Array) -> float:
    """10 log10(sum(original**2) / sum((original - found)**2)), in float64."""
    signal = float(np.square(original, dtype=np.float64).sum())
    noise = float(np.square(original.astype(np.float64) - found).sum())
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal else -math.inf


def activations(graph: Graph) -> dict[str, Value]:
    """The computed real values of a program, inputs included, by original name.

    Where several stand for the same original, the last one does.
    """
    found = {v.origin.name: v for v in graph.inputs if isinstance(v.origin, Original)}
    for node in walk(graph):
        if isinstance(node.op, Constant):
            continue
        for value in node.results:
            is_real = is_quantized(value) or value.type.storage.is_float
            if isinstance(value.origin, Original) and is_real:
                found[value.origin.name] = value
    return found


def compare(original: Graph, program: Graph, feeds: Mapping[str, Array]) -> list[ValueDifference]:
    """Run both programs and measure each value that can be told apart by its original name.

    A value that exists only to be limited by the activation behind it is stored within that activation's range; it
    is compared with its original limited to the same range.

    Values that were folded away are recovered through the original program's own ops where that is exact: a padded,
    sliced or reshaped tensor from its source; a step inside a function that became one table from the table's operand;
    and the operand of a batch normalization, up to the channels' offset, or of the addition of a constant, from the
    result.

    Args:
        original: a float program.
        program: the same program at a later stage, float, annotated or integer.
        feeds: inputs, by name.

    Returns:
        One entry a value, in the order of ``program``.
    """
    wanted = activations(original)
    there = {name: value for name, value in activations(program).items() if name in wanted}
    expected = dict(zip(wanted, FloatSession(original, list(wanted.values())).run(feeds), strict=True))
    found = _values(program, there, feeds)
    entries = []
    real: dict[str, Array] = {}
    for name, value in there.items():
        real[name] = in_original_terms(value, found[name]).reshape(expected[name].shape)
        target = within_range(value, expected[name]) if is_limited(value) else expected[name]
        entries.append(_difference(name, value.producer.layer if value.producer else "", target, real[name]))
    limited = {name for name, value in there.items() if is_limited(value)}
    entries.extend(_recovered(original, expected, real, limited))
    return entries


def _difference(name: str, layer: str, expected: Array, found: Array, recovered: bool = False) -> ValueDifference:
    return ValueDifference(
        name, layer, sqnr_db(expected, found),
        float(np.abs(expected.astype(np.float64) - found).max(initial=0)),
        float(np.sqrt(np.square(expected, dtype=np.float64).mean())) if expected.size else 0.0,
        recovered,
    )


def within_range(value: Value, real: Array) -> Array:
    """``real`` limited to what the affine type of ``value`` can hold."""
    quantization = parameters(value.type)
    ends = np.array([quantization.qmin, quantization.qmax]) - quantization.zero_point
    return np.clip(real, *(quantization.scale * ends.astype(np.float32)))


def _recovered(
    original: Graph, expected: Mapping[str, Array], found: dict[str, Array], limited: set[str]
) -> list[ValueDifference]:
    """Differences of values that only the original program holds, by the ops that lead to them."""
    entries = []
    for node in original.nodes:
        name = _name(node.results[0])
        source = _name(node.operands[0]) if node.operands else ""
        if Fact.VALUE_PRESERVING in node.op.facts and len(node.operands) == 1 and name in expected:
            if name not in found and source in found:
                found[name] = _apply(node, [found[source]])
                entries.append(_difference(name, node.layer, expected[name], found[name], recovered=True))
        elif Fact.ELEMENTWISE in node.op.facts and name in expected and name not in found:
            # A limited operand lacks what this step would have seen of it.
            names = [_name(v) for v in node.operands if constant_value(v) is None]
            if all(n in found and n not in limited for n in names):
                operands = [found[_name(v)] if (a := constant_value(v)) is None else a for v in node.operands]
                found[name] = _apply(node, operands)
                entries.append(_difference(name, node.layer, expected[name], found[name], recovered=True))
        elif isinstance(node.op, BatchNorm) and source in expected and source not in found and name in found:
            entries.append(_before_normalization(node, node.op, source, expected[source], found[name]))
        elif isinstance(node.op, Add) and name in found:
            entries.extend(_before_addition(node, expected, found, found[name]))
    return entries


def _before_addition(
    node: Node, expected: Mapping[str, Array], found: dict[str, Array], total: Array
) -> Iterator[ValueDifference]:
    """The sum without its constant, which became a bias."""
    for value, constant in (node.operands, node.operands[::-1]):
        name = _name(value)
        array = constant_value(constant)
        if name in expected and name not in found and array is not None and expected[name].shape == total.shape:
            found[name] = total - array
            layer = value.producer.layer if value.producer else ""
            yield _difference(name, layer, expected[name], found[name], recovered=True)


def _name(value: Value) -> str:
    return value.origin.name if isinstance(value.origin, Original) else ""


def _apply(node: Node, arrays: list[Array]) -> Array:
    """The first result of a node of the original program on other operands."""
    types = [v.type for v in node.operands]
    symbols = bound_symbols(types, [t.with_shape(a.shape) for t, a in zip(types, arrays, strict=True)])
    tensors = [Tensor(t.bind(symbols), a) for t, a in zip(types, arrays, strict=True)]
    computed = node.op.bind(symbols).compute(tensors, [v.type.bind(symbols) for v in node.results])
    return Tensor.of(node.results[0].type, computed[0]).data


def _before_normalization(
    node: Node, op: BatchNorm, name: str, expected: Array, normalized: Array
) -> ValueDifference:
    """The operand of a batch normalization against what its result implies, both times the channel's factor.

    Dividing by a factor near zero would drown every other channel in the noise of one that the model ignores.
    """
    factor, offset = op.factor_and_offset(*(a for v in node.operands[1:] if (a := constant_value(v)) is not None))
    shape = (-1, *[1] * (normalized.ndim - 2))
    layer = node.operands[0].producer.layer if node.operands[0].producer else ""
    return _difference(
        name, layer, expected * factor.reshape(shape), normalized - offset.reshape(shape), recovered=True
    )


def in_original_terms(value: Value, real: Array) -> Array:
    """Real numbers of ``value`` with the axis order and factors of its original."""
    origin = value.origin
    assert isinstance(origin, Original)
    if origin.factor is not None:
        real = real / origin.factor.array
    if origin.permutation is not None:
        real = real.transpose(np.argsort(origin.permutation))
    return real


def _values(program: Graph, values: Mapping[str, Value], feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Real numbers of the given values."""
    held = run_values(program, list(values.values()), feeds)
    return {name: real_numbers(held[value]) for name, value in values.items()}


def run_values(program: Graph, values: Sequence[Value], feeds: Mapping[str, Array]) -> dict[Value, Tensor]:
    """Run a program at any stage and keep what some of its values hold, those inside of kernels included.

    Raises:
        QCompilerError: the feeds do not fit the program, or it cannot be run.
    """
    is_float = not any(map(is_quantized, (*program.inputs, *_results(program))))
    if is_float and all(v.producer is None or v.producer.graph is program for v in values):
        arrays = FloatSession(program, list(values)).run(feeds)
        return {value: Tensor(value.type, array) for value, array in zip(values, arrays, strict=True)}
    wanted = set(values)
    found: dict[Value, Tensor] = {}

    def observe(value: Value, tensor: Tensor) -> None:
        if value in wanted:
            found[value] = tensor

    reference.run(program, feeds, observe)
    return found


def _results(program: Graph) -> Iterator[Value]:
    for node in walk(program):
        yield from node.results


def is_quantized(value: Value) -> bool:
    """Whether a value is held as integers that stand for real numbers."""
    return isinstance(value.type.elem, Affine | BlockFloat)


def check_float_original(original: Graph, program: Graph, fix: str) -> None:
    """Refuse to compare with what is not the float program that ``program`` comes from.

    Args:
        original: the program to compare with.
        program: a later stage of it.
        fix: what to do where ``original`` is not float.

    Raises:
        QCompilerError: ``original`` is not float, or has other inputs.
    """
    for node in walk(original):
        if isinstance(node.op, FakeQuant | FakeBlock) or any(map(is_quantized, node.results)):
            raise QCompilerError(
                "the program to compare with is not float", layer=node.layer or None, found=node.op.name, fix=fix
            )
    inputs = [{v.name: str(v.type) for v in g.inputs} for g in (original, program)]
    if inputs[0] != inputs[1]:
        raise QCompilerError(
            "the two programs have different inputs, so that their values cannot be compared",
            expected=str(inputs[0]), found=str(inputs[1]), fix="give two stages of one program",
        )


def is_limited(value: Value) -> bool:
    """Whether the value is stored within the range of the clamps behind it, its only users."""
    elem = value.type.elem
    return (
        isinstance(elem, Affine) and elem.is_per_tensor and elem.storage.bits <= 16
        and bool(value.users) and all(isinstance(user.op, Clamp) for user in value.users)
    )
