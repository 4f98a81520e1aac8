"""Ops that cross between real numbers and block floating point, or between block formats."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from qcompiler.ir.block_array import BlockArray
from qcompiler.ir.constant_array import ConstantArray
from qcompiler.ir.dimension import static_shape
from qcompiler.ir.op import Array, Stored, Tensor, op, require
from qcompiler.ir.scalar import F32
from qcompiler.ir.types import Elem, TensorType, block_float_grid
from qcompiler.numerics import block_conversion
from qcompiler.ops.block_values import block_float, blocks_of, held_by_float64
from qcompiler.ops.inference import float_elem
from qcompiler.ops.quantization import ElementOp


@op("to_block")
class ToBlock(ElementOp):
    """Real numbers as mantissas and exponents, by the rules of the result's format."""

    holds_blocks = True

    def infer_elems(self, operands: Sequence[TensorType]) -> tuple[Elem | None, ...]:
        float_elem(operands)
        return (None,)

    def verify(self, operands: Sequence[TensorType], results: Sequence[TensorType]) -> None:
        block_float(results[0])

    def evaluate(self, operands: Sequence[Tensor], results: Sequence[TensorType]) -> tuple[Stored, ...]:
        (type,) = results
        return (to_block(operands[0].data, type),)


@op("from_block")
class FromBlock(ElementOp):
    """The real numbers that mantissas and exponents stand for, rounded to float32 once, ties to even."""

    holds_blocks = True

    def infer_elems(self, operands: Sequence[TensorType]) -> tuple[Elem | None, ...]:
        held_by_float64(operands[0])
        return (F32,)

    def evaluate(self, operands: Sequence[Tensor], results: Sequence[TensorType]) -> tuple[Array, ...]:
        return (real_numbers(operands[0]).astype(np.float32),)


@op("normalize")
class Normalize(ElementOp):
    """Block floating point in another format, or on other blocks: each value is rounded once, from its exact value.

    Exponents are found anew, by the scale rule of the result's format, or are those that its type fixes; what does not
    fit those is limited.
    """

    holds_blocks = True

    def infer_elems(self, operands: Sequence[TensorType]) -> tuple[Elem | None, ...]:
        block_float(operands[0])
        return (None,)

    def verify(self, operands: Sequence[TensorType], results: Sequence[TensorType]) -> None:
        block_float(results[0])

    def evaluate(self, operands: Sequence[Tensor], results: Sequence[TensorType]) -> tuple[Stored, ...]:
        (x,), (type,) = operands, results
        mantissas, exponents = x.block
        return (
            BlockArray(*block_conversion.reblock(
                mantissas, exponents, blocks_of(x.type), block_float(type).format, blocks_of(type), fixed_grid(type)
            )),
        )


@op("fake_block")
class FakeBlock(ElementOp):
    """Marks a real value that will be held in block floating point, and simulates it.

    Attributes:
        held: the type that the value will have.
        is_fixed: whether calibration chooses its exponents; until then it is not simulated.
    """

    foldable = False
    held: TensorType
    is_fixed: bool = False

    def infer_elems(self, operands: Sequence[TensorType]) -> tuple[Elem | None, ...]:
        require(operands[0].shape == self.held.shape, f"marks {operands[0]} to be held as {self.held}")
        block_float(self.held)
        return (float_elem(operands),)

    @property
    def is_calibrated(self) -> bool:
        return not self.is_fixed or block_float(self.held).exponents is not None

    def fixed_for(self, low: float, high: float) -> FakeBlock:
        """The same mark with the smallest exponent, one for all blocks, at which an interval fits."""
        block_format = block_float(self.held).format
        lowest, highest = block_format.exponent_range
        largest = max(abs(low), abs(high))
        # The largest magnitude must not round beyond the largest mantissa.
        needed = int(np.frexp(largest / (block_format.largest + 0.5))[1]) if largest > 0.0 else lowest
        return self.fixed_at(min(max(needed, lowest), highest))

    def fixed_at(self, exponent: int) -> FakeBlock:
        """The same mark with one exponent for all blocks."""
        elem = block_float(self.held)
        exponents = ConstantArray(np.full((1,) * len(elem.blocks), exponent, np.int32))
        return FakeBlock(TensorType(self.held.shape, dataclasses.replace(elem, exponents=exponents)), True)

    @property
    def exponent(self) -> int | None:
        """The one that all blocks have; None where there is none yet, or they differ."""
        exponents = block_float(self.held).exponents
        return int(exponents.array.reshape(-1)[0]) if exponents is not None and exponents.array.size == 1 else None

    def evaluate(self, operands: Sequence[Tensor], results: Sequence[TensorType]) -> tuple[Array, ...]:
        x = operands[0].data
        if not self.is_calibrated:
            return (x,)
        held = TensorType(x.shape, block_float(self.held))
        return (real_numbers(Tensor.of(held, to_block(x, held))).astype(x.dtype),)


def to_block(x: Array, type: TensorType) -> BlockArray:
    """Real numbers as a value of a block floating-point type without free dimensions."""
    return BlockArray(
        *block_conversion.to_block(x, block_float(type).format, blocks_of(type), fixed_grid(type))
    )


def fixed_grid(type: TensorType) -> Array | None:
    """The exponents that a type without free dimensions fixes, on the block grid; None where it fixes none."""
    elem = block_float(type)
    if elem.exponents is None:
        return None
    return np.broadcast_to(elem.exponents.array, static_shape(block_float_grid(type.shape, elem.blocks)))


def real_numbers(tensor: Tensor) -> Array:
    """What a block floating-point tensor stands for, in float64, which holds mantissas of up to 53 bits exactly."""
    mantissas, exponents = tensor.block
    each = block_conversion.spread(exponents, mantissas.shape, blocks_of(tensor.type))
    reals: Array = np.ldexp(mantissas.astype(np.float64), each)
    return reals
