"""Exact integer arithmetic in numpy: pure functions, registered by op and name where a target may choose."""

from qcompiler.numerics import (
    averaging,
    block_arithmetic,
    block_table,
    elementwise,
    interpolation,
    onnxruntime_elementwise,
    power_of_two,
    softmax,
    table_softmax,
)
from qcompiler.numerics.affine import (
    AffineQuantize,
    Intermediate,
    Quantization,
    dequantize,
    next_power_of_two,
    parameters_from_range,
)
from qcompiler.numerics.block_arithmetic import BlockArithmetic
from qcompiler.numerics.block_format import BlockFormat
from qcompiler.numerics.interpolated_table import tabulate_interpolated
from qcompiler.numerics.registry import ARITHMETIC, arithmetic, resolve
from qcompiler.numerics.requantize_forms import RequantizeForm, requantize, requantize_form
from qcompiler.numerics.table import tabulate

__all__ = [
    "ARITHMETIC", "AffineQuantize", "BlockArithmetic", "BlockFormat", "Intermediate", "Quantization", "RequantizeForm",
    "arithmetic", "averaging", "block_arithmetic", "block_table", "dequantize", "elementwise", "interpolation",
    "next_power_of_two", "onnxruntime_elementwise", "parameters_from_range", "power_of_two", "requantize",
    "requantize_form", "resolve", "softmax", "table_softmax", "tabulate", "tabulate_interpolated",
]
