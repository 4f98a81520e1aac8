"""Rounding within the epilogues that tests hand to kernels."""

from __future__ import annotations

from qcompiler.backends.tvm.lanes import Expr, call, lanes_of, vector


def round_to_int32(x: Expr) -> Expr:
    """The nearest int32 of each float, ties to even; floats must be in range."""
    return call("llvm.lrint", vector("int32", lanes_of(x)), x)
