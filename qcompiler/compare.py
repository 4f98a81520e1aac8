"""One program against another, value by original value."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcompiler import numerics
from qcompiler.backends import reference
from qcompiler.backends.ort import FloatSession
from qcompiler.ir import Affine, Graph, Original, Tensor, Value, walk
from qcompiler.ops.constant import Constant
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
    """

    name: str
    layer: str
    sqnr_db: float
    max_error: float
    signal: float


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
            is_real = isinstance(value.type.elem, Affine) or value.type.storage.is_float
            if isinstance(value.origin, Original) and is_real:
                found[value.origin.name] = value
    return found


def compare(original: Graph, program: Graph, feeds: Mapping[str, Array]) -> list[ValueDifference]:
    """Run both programs and measure each value that can be told apart by its original name.

    A value that exists only to be limited by the activation behind it is stored within that activation's range; it
    is compared with its original limited to the same range.

    Args:
        original: a float program.
        program: the same program at a later stage, float, annotated or integer.
        feeds: inputs, by name.

    Returns:
        One entry a value, in the order of ``program``.
    """
    wanted = activations(original)
    there = {name: value for name, value in activations(program).items() if name in wanted}
    expected = dict(zip(there, FloatSession(original, [wanted[n] for n in there]).run(feeds), strict=True))
    found = _values(program, there, feeds)
    entries = []
    for name, value in there.items():
        target = expected[name]
        real = in_original_terms(value, found[name])
        if _is_limited(value):
            quantization = parameters(value.type)
            low, high = (
                float(quantization.scale * (q - quantization.zero_point)) for q in (quantization.qmin, quantization.qmax)
            )
            target = np.clip(target, low, high)
        entries.append(
            ValueDifference(
                name, value.producer.layer if value.producer else "", sqnr_db(target, real),
                float(np.abs(target.astype(np.float64) - real).max(initial=0)),
                float(np.sqrt(np.square(target, dtype=np.float64).mean())) if target.size else 0.0,
            )
        )
    return entries


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
    if all(not isinstance(n.op, FakeQuant) and not _is_integer(n.results) for n in program.nodes) or any(
        isinstance(n.op, FakeQuant) for n in program.nodes
    ):
        return dict(zip(values, FloatSession(program, list(values.values())).run(feeds), strict=True))
    names = {value: name for name, value in values.items()}
    found: dict[str, Array] = {}

    def observe(value: Value, tensor: Tensor) -> None:
        if value in names:
            quantized = isinstance(tensor.type.elem, Affine)
            found[names[value]] = numerics.dequantize(tensor.data, parameters(tensor.type)) if quantized else tensor.data

    reference.run(program, feeds, observe)
    return found


def _is_integer(results: tuple[Value, ...]) -> bool:
    return any(isinstance(v.type.elem, Affine) for v in results)


def _is_limited(value: Value) -> bool:
    """Whether the value only feeds a clamp."""
    elem = value.type.elem
    return (
        isinstance(elem, Affine) and elem.is_per_tensor and elem.storage.bits <= 16
        and bool(value.users) and all(isinstance(user.op, Clamp) for user in value.users)
    )
