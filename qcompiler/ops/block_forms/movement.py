"""Ops that move values: blocks of the result that take in values of several exponents go to the largest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from qcompiler.ir.block_array import BlockArray
from qcompiler.ir.op import Array, BlockForm, Tensor, block_form, require
from qcompiler.ir.scalar import I32, I64
from qcompiler.ir.types import BlockFloat, Elem, TensorType
from qcompiler.numerics.block_alignment import NO_EXPONENT
from qcompiler.ops.block_values import aligned_blocks, mantissas_and_exponents, same_format
from qcompiler.ops.resize import Resize
from qcompiler.ops.slicing import Pad


@block_form("reshape", "transpose", "slice", "split", "concat", "pad", "expand", "gather", "resize")
class Movement(BlockForm):
    """Values keep what they stand for where all that meet in a block of the result have one exponent.

    Otherwise those at smaller exponents are shifted right and rounded as the format says. What padding inserts is
    zero, which has no exponent.
    """

    def infer_elems(self, op: Any, operands: Sequence[TensorType]) -> tuple[Elem | None, ...]:
        if isinstance(op, Pad):
            require(op.mode != "constant" or op.value == 0, f"pads with zeros, found {op.value}")
        if isinstance(op, Resize):
            require(op.mode == "nearest", f"resizes to the nearest element, found mode {op.mode!r}")
        return super().infer_elems(op, operands)

    def verify(self, op: Any, operands: Sequence[TensorType], results: Sequence[TensorType]) -> None:
        for operand in operands:
            if isinstance(operand.elem, BlockFloat):
                for result in results:
                    same_format(op.name, operand, result)

    def evaluate(self, op: Any, operands: Sequence[Tensor], results: Sequence[TensorType]) -> tuple[BlockArray, ...]:
        values: list[Tensor] = []
        exponents: list[Tensor] = []
        for operand in operands:
            if operand.exponents is None:
                values.append(operand)
                exponents.append(operand)
                continue
            mantissas, each = mantissas_and_exponents(operand)
            spread = np.broadcast_to(each, mantissas.shape).astype(np.int32)
            values.append(Tensor(TensorType(mantissas.shape, I64), mantissas))
            exponents.append(Tensor(TensorType(mantissas.shape, I32), spread))
        of_exponents = op.replace(value=float(NO_EXPONENT)) if isinstance(op, Pad) else op
        moved: Sequence[Array] = op.evaluate(values, [TensorType(t.shape, I64) for t in results])
        moved_exponents = of_exponents.evaluate(exponents, [TensorType(t.shape, I32) for t in results])
        return tuple(
            aligned_blocks(m, e, type) for m, e, type in zip(moved, moved_exponents, results, strict=True)
        )
