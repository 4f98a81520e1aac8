"""Compile float neural networks to exact integer and block-floating-point programs for named targets."""

from qcompiler.compilation import compile
from qcompiler.errors import QCompilerError
from qcompiler.program import Program, load

__all__ = ["Program", "QCompilerError", "compile", "load"]
