"""Element-wise arithmetic by family. Importing this package registers the lowerings of all of it.

A lowering ``("tvm-element", op, arithmetic)`` takes a node whose types have static shapes and returns an
:class:`~qcompiler.backends.tvm.element.Element`. A lowering ``("tvm-sums", op, arithmetic)`` does the same for an op
that sums stored integers: its element takes the sums.
"""

from qcompiler.backends.tvm.stages import averaging, binary, conversion, quantize, requantize, selection

__all__ = ["averaging", "binary", "conversion", "quantize", "requantize", "selection"]
