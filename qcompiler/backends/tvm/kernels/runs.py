"""Runs of neighbouring numbers, copied or filled in as few vectors as their length allows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from tvm import tirx

from qcompiler.backends.tvm.kernel import load, loop, named, store
from qcompiler.backends.tvm.lanes import Expr, spread


def for_each_vector(length: int, widest: int, body: Callable[[Expr, int], None]) -> None:
    """Cover ``length`` neighbouring numbers by vectors, never beyond the end.

    Args:
        length: at least 1.
        widest: lanes of the widest vector, a power of two.
        body: takes where a vector starts and its lanes; must not mind doing some numbers twice.
    """
    width = min(widest, 1 << (length.bit_length() - 1))
    if length == width:
        body(tirx.const(0, "int32"), width)
        return
    # The last vector is moved back to end with the run.
    with loop(0, -(-length // width)) as index:
        body(named(tirx.min(index * width, length - width)), width)


def copy_run(
    source: Any, source_offset: Expr, target: Any, target_offset: Expr, length: int, vector_bytes: int
) -> None:
    """Copy ``length`` neighbouring numbers between buffers of one format that do not overlap."""

    def body(start: Expr, lanes: int) -> None:
        store(target, target_offset + start, load(source, source_offset + start, lanes))

    for_each_vector(length, lanes_in(vector_bytes, target.dtype), body)


def fill_run(value: Expr, target: Any, target_offset: Expr, length: int, vector_bytes: int) -> None:
    """Put one number in ``length`` neighbouring places."""

    def body(start: Expr, lanes: int) -> None:
        store(target, target_offset + start, spread(value, lanes))

    for_each_vector(length, lanes_in(vector_bytes, target.dtype), body)


def lanes_in(vector_bytes: int, dtype: str) -> int:
    """Numbers of a format in a vector."""
    return vector_bytes // np.dtype(str(dtype)).itemsize
