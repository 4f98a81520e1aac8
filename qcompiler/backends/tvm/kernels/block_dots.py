"""Exact dot products of the mantissas of one pair of blocks, for a tile of results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm.tirx.script import builder as T

from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.kernel import load, loop, named, store
from qcompiler.backends.tvm.lanes import Expr, literal, reinterpret, spread, vector

_HELD_WEIGHTS = 8
"""Vectors of weights that stay in registers for all pixels of a tile, at most."""
_UNROLLED = 16
"""Steps that are written one after the other, at most."""


@dataclass(frozen=True)
class Pair:
    """A pair of blocks, and where its numbers are.

    Attributes:
        mantissas, exponent: of the first pixel of a tile, in the assembled strip.
        weights: in packed weights, ``[step][vector][lane][g]``.
        constants: in constants by pair, ``[vector][lane]``.
        steps: dot products of ``group`` terms.
    """

    mantissas: Expr
    exponent: Expr
    weights: Expr
    constants: Expr
    steps: int


def dot_products(
    isa: InstructionSet, buffers: Mapping[str, Any], pair: Pair, vectors: int, pixels: int, pixel_step: int
) -> list[list[Expr]]:
    """Exact int32 dot products by pixel and vector of output channels.

    Args:
        isa: the instruction set.
        buffers: ``mantissas``, ``weights``, and ``corrections`` where dot products take unsigned activations.
        pair: which blocks.
        vectors, pixels: size of the tile.
        pixel_step: numbers from a pixel's mantissas to the next one's.
    """
    initial = [_initial(isa, buffers, pair, v) for v in range(vectors)]
    if pair.steps * vectors <= _HELD_WEIGHTS:
        held = [[_weights(isa, buffers, pair, vectors, k, v) for v in range(vectors)] for k in range(pair.steps)]
        return [_pixel(isa, buffers, pair, initial, held, i * pixel_step) for i in range(pixels)]
    sums = [[T.alloc_buffer((isa.lanes,), "int32", scope="local") for _ in range(vectors)] for _ in range(pixels)]
    for row in sums:
        for buffer, value in zip(row, initial, strict=True):
            store(buffer, 0, value)

    def step(k: Expr | int) -> None:
        weights = [_weights(isa, buffers, pair, vectors, k, v) for v in range(vectors)]
        for i, row in enumerate(sums):
            activations = _activations(isa, buffers, pair.mantissas + k * isa.group + i * pixel_step)
            for buffer, numbers in zip(row, weights, strict=True):
                store(buffer, 0, isa.dot(load(buffer, 0, isa.lanes), activations, numbers))

    if pair.steps <= _UNROLLED:
        for k in range(pair.steps):
            step(k)
    else:
        with loop(0, pair.steps) as k:
            step(k)
    return [[load(buffer, 0, isa.lanes) for buffer in row] for row in sums]


def _pixel(
    isa: InstructionSet, buffers: Mapping[str, Any], pair: Pair, initial: list[Expr], weights: list[list[Expr]],
    offset: int,
) -> list[Expr]:
    """One pixel's dot products, with all weights at hand."""
    sums = list(initial)
    for k, row in enumerate(weights):
        activations = _activations(isa, buffers, pair.mantissas + k * isa.group + offset)
        sums = [named(isa.dot(total, activations, numbers)) for total, numbers in zip(sums, row, strict=True)]
    return sums


def _initial(isa: InstructionSet, buffers: Mapping[str, Any], pair: Pair, index: int) -> Expr:
    if "corrections" not in buffers:
        return literal(0, "int32", isa.lanes)
    return named(load(buffers["corrections"], pair.constants + index * isa.lanes, isa.lanes))


def _weights(
    isa: InstructionSet, buffers: Mapping[str, Any], pair: Pair, vectors: int, k: Expr | int, index: int
) -> Expr:
    size = isa.lanes * isa.group
    return named(load(buffers["weights"], pair.weights + k * (vectors * size) + index * size, size))


def _activations(isa: InstructionSet, buffers: Mapping[str, Any], offset: Expr) -> Expr:
    """``group`` mantissas of one pixel, repeated for every lane."""
    numbers = load(buffers["mantissas"], offset, isa.group)
    if isa.group == 1:
        return named(spread(numbers, isa.lanes))
    bits = f"int{8 * np.dtype(isa.activation).itemsize * isa.group}"
    repeated = spread(reinterpret(bits, numbers), isa.lanes)
    return named(reinterpret(vector(isa.activation, isa.lanes * isa.group), repeated))
