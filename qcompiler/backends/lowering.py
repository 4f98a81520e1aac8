"""Lowerings: what an op becomes in a backend, by backend, op and cited arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from qcompiler.ir import Op
from qcompiler.registry import Registry

Lowering = Callable[..., Any]

LOWERINGS: Registry[tuple[str, str, str], Lowering] = Registry("lowering")
"""Lowerings by (backend, op, arithmetic); the arithmetic is empty for those that serve any, and for float ops."""

_Function = TypeVar("_Function", bound=Lowering)


def lowering(backend: str, *ops: str, arithmetic: str = "") -> Callable[[_Function], _Function]:
    """Register a function as the lowering of ``ops`` in ``backend``; the backend says what it takes and returns.

    Args:
        backend: "onnx": float ops for ONNX Runtime, see :mod:`qcompiler.backends.onnx_emitter`.
        ops: op names.
        arithmetic: the arithmetic that it serves; empty for any, or none.

    Raises:
        QCompilerError: one of the ops has such a lowering.
    """

    def register(function: _Function) -> _Function:
        for name in ops:
            LOWERINGS.add((backend, name, arithmetic), function)
        return function

    return register


def find_lowering(backend: str, op: Op) -> Lowering | None:
    """The lowering for an op: that for its arithmetic, else that for any; None where there is none."""
    citation = getattr(op, "arithmetic", None)
    exact = LOWERINGS.get((backend, op.name, citation.name)) if citation is not None else None
    return exact or LOWERINGS.get((backend, op.name, ""))
