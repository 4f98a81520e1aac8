"""What ops mean on block floating point, one family of ops a file."""

from qcompiler.ops.block_forms import contraction, elementwise, movement, softmax, table, window_reduction

__all__ = ["contraction", "elementwise", "movement", "softmax", "table", "window_reduction"]
