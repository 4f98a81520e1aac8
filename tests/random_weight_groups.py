"""Random weights in groups, with extremes of integers and multipliers, and what contractions with them must give."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcompiler.ir import Affine, ConstantArray, Scalar, TensorType
from qcompiler.ir.scalar import I4
from qcompiler.ops.contraction import Contraction, Conv2D, ConvTranspose2D, Matmul

Array = NDArray[Any]
Index = tuple[int, ...]


def grouped_type(
    rng: np.random.Generator, op: Contraction, shape: tuple[int, ...], storage: Scalar = I4, largest: int = 15
) -> tuple[Affine, ConstantArray]:
    """An affine type with groups of any length along any axis but that of output channels, and its multipliers."""
    axis = op.weight_channel_axis(len(shape))
    blocks = tuple(1 if i == axis else int(rng.integers(1, size + 1)) for i, size in enumerate(shape))
    grid = tuple(-(-size // block) for size, block in zip(shape, blocks, strict=True))
    multipliers = rng.choice([1, 2, largest - 1, largest, int(rng.integers(1, largest + 1))], grid).astype(np.uint8)
    # Few bits, so that the product with a multiplier is exact.
    base = np.ldexp(rng.integers(1, 1 << 16, shape[axis]).astype(np.float64), -22).astype(np.float32)
    on_grid = base.reshape([-1 if i == axis else 1 for i in range(len(shape))])
    scale = (on_grid * multipliers).astype(np.float32)
    return Affine.blocked(storage, scale, 0, blocks), ConstantArray(multipliers)


def stored_integers(rng: np.random.Generator, elem: Affine, shape: Sequence[int]) -> Array:
    """Numbers of a type: over its whole range, at its ends, or all at one end."""
    everywhere = rng.integers(elem.qmin, elem.qmax, shape, np.int64, endpoint=True)
    ends = rng.choice([elem.qmin, elem.qmax], shape)
    chosen = [everywhere, ends, np.full(shape, elem.qmin), np.full(shape, elem.qmax)][int(rng.integers(0, 4))]
    return np.asarray(chosen.astype(elem.storage.dtype))


def products(op: Contraction, x: Index, w: Index) -> Iterator[tuple[Index, Index, Index]]:
    """Indices of a result element, and of the elements of operands 0 and 1 whose product it sums up."""
    if isinstance(op, Matmul):
        rows, terms = x
        for row, column, term in itertools.product(range(rows), range(w[0 if op.transpose_b else 1]), range(terms)):
            yield (row, column), (row, term), (column, term) if op.transpose_b else (term, column)
        return
    assert isinstance(op, Conv2D | ConvTranspose2D)
    last = op.layout == "NHWC"
    samples, height, width, channels = x if last else (x[0], x[2], x[3], x[1])
    outputs, kernel_height, kernel_width, inside = w if last else (w[0], w[2], w[3], w[1])
    result = op.infer_shapes([TensorType(shape, I4) for shape in (x, w)])[0]
    size = [int(str(d)) for d in (result[1:3] if last else result[2:4])]
    ranges = map(range, (samples, outputs, inside, kernel_height, kernel_width, height, width))
    for n, o, c, ky, kx, iy, ix in itertools.product(*ranges):
        place = []
        for i, (inner, tap) in enumerate(((iy, ky), (ix, kx))):
            if isinstance(op, ConvTranspose2D):
                place.append(inner * op.strides[i] + tap * op.dilations[i] - op.pads[i])
                continue
            outer, rest = divmod(inner + op.pads[i] - tap * op.dilations[i], op.strides[i])
            place.append(outer if rest == 0 else -1)
        if not (0 <= place[0] < size[0] and 0 <= place[1] < size[1]):
            continue
        inner_channel = o // (outputs // op.groups) * inside + c
        assert inner_channel < channels
        if last:
            yield (n, *place, o), (n, iy, ix, inner_channel), (o, ky, kx, c)
        else:
            yield (n, o, *place), (n, inner_channel, iy, ix), (o, c, ky, kx)


def defined_sums(
    op: Contraction, x: Array, zero_point: int, weights: Array, blocks: Sequence[int], multipliers: Array
) -> dict[Index, int]:
    """By the definition, in Python's integers: the dot product of each group, times its multiplier, summed up."""
    dots: dict[tuple[Index, Index], int] = defaultdict(int)
    for result, source, weight in products(op, x.shape, weights.shape):
        group = tuple(i // block for i, block in zip(weight, blocks, strict=True))
        dots[result, group] += (int(x[source]) - zero_point) * int(weights[weight])
    sums: dict[Index, int] = defaultdict(int)
    for (result, group), dot in dots.items():
        sums[result] += int(multipliers[group]) * dot
    return sums
