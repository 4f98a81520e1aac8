"""The edge of an integer program: what its inputs and outputs are stored as."""

from __future__ import annotations

from qcompiler.ir import Value
from qcompiler.ops.block_conversion import FromBlock, ToBlock
from qcompiler.ops.quantization import Dequantize, Quantize


def behind_quantize(value: Value) -> Value:
    """The integers that a graph input becomes; the input itself where it stays as it is."""
    return next((user.result for user in value.users if isinstance(user.op, Quantize | ToBlock)), value)


def before_dequantize(value: Value) -> Value:
    """The integers that stand behind a graph output; the output itself where it is returned as it is."""
    producer = value.producer
    return producer.operands[0] if producer is not None and isinstance(producer.op, Dequantize | FromBlock) else value
