"""Exact integer arithmetic in numpy: pure functions, registered by op and name where a target may choose."""

from qcompiler.numerics import (
    averaging,
    block_arithmetic,
    block_table,
    elementwise,
    interpolation,
    onnxruntime_elementwise,
    softmax,
)
from qcompiler.numerics.affine import AffineQuantize, Intermediate, Quantization, dequantize, parameters_from_range
from qcompiler.numerics.block_arithmetic import BlockArithmetic
from qcompiler.numerics.block_format import BlockFormat
from qcompiler.numerics.registry import ARITHMETIC, arithmetic, resolve
from qcompiler.numerics.requantize_forms import RequantizeForm, requantize, requantize_form
from qcompiler.numerics.table import tabulate

__all__ = [
    "ARITHMETIC", "AffineQuantize", "BlockArithmetic", "BlockFormat", "Intermediate", "Quantization",
    "RequantizeForm", "arithmetic", "averaging", "block_arithmetic", "block_table", "dequantize", "elementwise",
    "interpolation", "onnxruntime_elementwise", "parameters_from_range", "requantize", "requantize_form", "resolve",
    "softmax", "tabulate",
]
