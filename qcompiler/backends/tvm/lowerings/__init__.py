"""Ops as calls of kernels.

A lowering for backend ``"tvm"`` takes a node and a ``ProgramBuilder``; one for ``"tvm-root"`` takes a ``Region``, whose
root is such a node and whose steps the kernel runs too; one for ``"tvm-element"`` takes a node and returns an
``Element``.

Ops of block floating point have lowerings of their own: one for backend ``"tvm-block"`` takes a node and a
``ProgramBuilder``; one for ``"tvm-block-root"`` takes a ``BlockRegion``.
"""

from qcompiler.backends.tvm import stages
from qcompiler.backends.tvm.lowerings import (
    block_contraction,
    block_conversion,
    block_elementwise,
    block_movement,
    block_reduction,
    block_table,
    contraction,
    interpolation,
    movement,
    reduction,
    table,
)

__all__ = [
    "block_contraction", "block_conversion", "block_elementwise", "block_movement", "block_reduction", "block_table",
    "contraction", "interpolation", "movement", "reduction", "stages", "table",
]
