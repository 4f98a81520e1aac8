"""Random element-wise ops: every arithmetic, broadcasting, chains."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from contraction_cases import binary, table
from op_writer import FORMS, SHARED_FORMS, OpWriter, per_channel

from qcompiler.ir import Affine, Arithmetic, Value
from qcompiler.ir.dimension import Dim
from qcompiler.ir.scalar import F32, I8, I16, I32, U8, U16
from qcompiler.numerics.rounding import REAL_ROUNDINGS, SHIFT_ROUNDINGS
from qcompiler.ops.binary import Add, Maximum, Minimum, Mul, Sub
from qcompiler.ops.quantization import Clamp, Dequantize, Quantize
from qcompiler.ops.quantized import affine


def any_shape(w: OpWriter, rank: int | None = None) -> tuple[Dim, ...]:
    """Rank 1 to 6, the batch first."""
    rank = int(w.rng.integers(1, 7)) if rank is None else rank
    most = {1: 1, 2: 300, 3: 40, 4: 12}.get(rank, 5)
    return (w.batch, *(w.size(most) for _ in range(rank - 1)))


def every_form(w: OpWriter) -> list[Value]:
    """Each requantize form, of sums and of activations."""
    return [w.retried(partial(requantized, w, form)) for form in FORMS]


def requantized(w: OpWriter, form: str) -> Value:
    """Sums with one scale or a scale for each channel, or activations."""
    shape: tuple[Dim, ...] = any_shape(w) if w.maybe(4) else (w.batch, w.size(30) + 20, w.size(20) + 10)
    kind = w.rng.integers(0, 4)
    last = shape[-1]
    if kind == 0 and len(shape) > 1 and isinstance(last, int):
        most = int(w.pick(1 << 12, 1 << 20, 1 << 30))
        scales = 2.0 ** w.rng.integers(-9, -6, last) * (1 if form.startswith("shift") else w.rng.uniform(1, 2, last))
        elem = per_channel(I32, scales, len(shape) - 1, shape, qmin=-most, qmax=most)  # type: ignore[arg-type]
    elif kind < 3:
        most = int(w.pick(1 << 12, 1 << 20, 1 << 30, (1 << 31) - 1))
        elem = Affine.per_tensor(I32, w.scale(), 0, -most, most)
    else:
        elem = w.activation(w.pick(I8, U8, I16))
    return w.requantize(w.input(shape, elem), form)


def every_sum_and_product(w: OpWriter) -> list[Value]:
    """Each arithmetic of add, sub and mul, on scales whose ratios are powers of two: half of the results are ties."""
    found = []
    for op in (Add(), Sub(), Mul()):
        name = "mul" if isinstance(op, Mul) else "add"
        rounded = [Arithmetic.parse(f"litert-{name}{{rounding={form}}}") for form in SHARED_FORMS]
        # Each rounding of shifts has its own test in test_stages.py.
        shifted = Arithmetic.parse(f"shift-{name}{{rounding={w.pick(*SHIFT_ROUNDINGS)}}}")
        citations = (Arithmetic(f"onnxruntime-{name}"), *rounded, shifted)
        found += [w.retried(partial(_tied, w, op, citation)) for citation in citations]
    return found


def _tied(w: OpWriter, op: Any, citation: Arithmetic) -> Value:
    shape = (w.batch, w.size(20) + 20, w.size(20) + 20)
    a, b = (w.input(shape, w.activation(w.storage(wide=False), np.float32(2.0 ** w.rng.integers(-4, 0)))) for _ in "ab")
    scales = [float(affine(v.type).scale.array) for v in (a, b)]
    scale = scales[0] * scales[1] * w.pick(64, 128) if isinstance(op, Mul) else max(scales) * 2
    return w.cite(op, citation, [a, b], w.activation(w.storage(wide=False), np.float32(scale)))


def broadcast_binary(w: OpWriter) -> Value:
    """Operands broadcast one way, the other, or both; scalars, constants, a value with itself."""
    shape = any_shape(w)
    kind = w.rng.integers(0, 6)
    a = w.input(shape, w.activation())
    if kind == 0:
        b = a
    elif kind == 1:
        b = w.input(shape, w.activation())
    elif kind == 2:
        cut = int(w.rng.integers(1, len(shape) + 1))
        b = w.constant(w.activation(), [w.pick(1, d) for d in shape[cut:] if isinstance(d, int)])
    elif kind == 3:
        b = w.constant(w.activation(), ())
    else:
        first = [d if i == 0 else w.pick(1, d) for i, d in enumerate(shape)]
        second = [d if i == 0 else w.pick(1, d) for i, d in enumerate(shape)]
        a, b = w.input(first, w.activation()), w.input(second, w.activation())
    return binary(w, *w.shuffled(a, b))


def selection(w: OpWriter) -> Value:
    """Maximum and minimum with broadcasting."""
    shape, elem = any_shape(w), w.activation()
    other = [d if i == 0 else w.pick(1, d) for i, d in enumerate(shape)]
    return w.make(w.pick(Maximum(), Minimum()), *w.shuffled(w.input(shape, elem), w.input(other, elem)))


def quantized(w: OpWriter) -> Value:
    """Real numbers to integers of every format, with one scale or a scale for each channel."""
    shape = any_shape(w)
    citation = w.pick(*(Arithmetic.parse(f"affine{{rounding={rounding}}}") for rounding in REAL_ROUNDINGS))
    x = w.input(shape, F32)
    elem = w.activation(w.pick(I8, U8, I16, I32)) if w.maybe(4) else w.activation()
    last = shape[-1]
    if len(shape) > 1 and isinstance(last, int) and w.maybe(5):
        elem = per_channel(I8, w.rng.uniform(0.01, 0.5, last), len(shape) - 1, shape)  # type: ignore[arg-type]
    return w.make(Quantize(citation), x, elem=elem)


def dequantized(w: OpWriter) -> Value:
    """Integers of every format to real numbers."""
    shape = any_shape(w)
    kind = w.rng.integers(0, 4)
    elem = w.activation()
    last = shape[-1]
    if kind == 0:
        elem = Affine.per_tensor(I32, np.float32(w.rng.uniform(1e-4, 1e-2)), 0)
    elif kind == 1 and len(shape) > 1 and isinstance(last, int):
        elem = per_channel(w.pick(I8, I32), w.rng.uniform(0.01, 0.5, last), len(shape) - 1, shape)  # type: ignore[arg-type]
    return w.make(Dequantize(), w.input(shape, elem))


def clamped(w: OpWriter) -> Value:
    elem = w.activation()
    low = int(w.rng.integers(elem.qmin, elem.qmax + 1))
    return w.make(Clamp(low, int(w.rng.integers(low, elem.qmax + 1))), w.input(any_shape(w), elem))


def looked_up(w: OpWriter) -> Value:
    return table(w, w.input(any_shape(w), w.activation(w.pick(I8, U8, I16, U16))))


def chain(w: OpWriter) -> list[Value]:
    """Steps one after another between real numbers, some values used twice or returned along the way."""
    shape = any_shape(w)
    y = w.make(Quantize(Arithmetic.parse("affine{rounding=half-even}")), w.input(shape, F32),
               elem=w.activation(w.pick(I8, U8)))
    found: list[Value] = []
    seen: list[Value] = [y]
    for _ in range(int(w.rng.integers(1, 6))):
        kind: Any = w.rng.integers(0, 4)
        elem = affine(y.type)
        if kind == 0:
            y = w.make(Clamp(elem.qmin, (elem.qmin + elem.qmax) // 2), y)
        elif kind == 1:
            y = w.retried(partial(w.requantize, y, storage=w.pick(I8, U8)))
        elif kind == 2:
            y = table(w, y)
            if y.type.storage.bits > 8:
                y = w.retried(partial(w.requantize, y, "double", w.pick(I8, U8)))
        else:
            other = w.pick(*seen)
            y = w.retried(partial(binary, w, *w.shuffled(y, other)))
            if y.type.storage.bits > 8:
                y = w.retried(partial(w.requantize, y, "float-rne", w.pick(I8, U8)))
        seen.append(y)
        if w.maybe(3):
            found.append(y)
    return [*found, w.make(Dequantize(), y)]


CASES = (broadcast_binary, broadcast_binary, broadcast_binary, selection, quantized, dequantized, clamped, looked_up,
         chain)
