"""Ops as calls of kernels.

A lowering for backend ``"tvm"`` takes a node and a ``ProgramBuilder``; one for ``"tvm-root"`` takes a ``Region``, whose
root is such a node and whose steps the kernel runs too; one for ``"tvm-element"`` takes a node and returns an
``Element``.
"""

from qcompiler.backends.tvm import stages
from qcompiler.backends.tvm.lowerings import contraction, interpolation, movement, reduction, table

__all__ = ["contraction", "interpolation", "movement", "reduction", "stages", "table"]
