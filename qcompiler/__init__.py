"""Compile float neural networks to exact integer and block-floating-point programs for named targets."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from qcompiler.errors import QCompilerError

if TYPE_CHECKING:
    from qcompiler.compilation import compile
    from qcompiler.ir import BlockArray
    from qcompiler.program import Program, load

__all__ = ["BlockArray", "Program", "QCompilerError", "compile", "load"]

_HOMES = {
    "BlockArray": "qcompiler.ir", "Program": "qcompiler.program", "compile": "qcompiler.compilation",
    "load": "qcompiler.program",
}


def __getattr__(name: str) -> Any:
    # Loaded when first used: they bring in onnx and onnxruntime, which the command line's help has no need of.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
