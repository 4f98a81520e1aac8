"""The built-in ops. Importing this package registers them all."""

from qcompiler.ops import (
    activation,
    binary,
    block_conversion,
    block_forms,
    constant,
    contraction,
    fused,
    layer_norm,
    normalization,
    pooling,
    quantization,
    reduction,
    resize,
    shape,
    slicing,
    table,
)

__all__ = [
    "activation", "binary", "block_conversion", "block_forms", "constant", "contraction", "fused", "layer_norm",
    "normalization", "pooling", "quantization", "reduction", "resize", "shape", "slicing", "table",
]
