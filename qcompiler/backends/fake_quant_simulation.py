"""What fake_quant and fake_block compute in a simulation: the numbers they round to, and which ones are left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcompiler.ir import BlockFloat, ConstantArray, Node, Original, Shape, TensorType, Value
from qcompiler.numerics.block_format import BlockFormat
from qcompiler.ops.block_conversion import FakeBlock
from qcompiler.ops.quantization import FakeQuant

Array = NDArray[Any]

_FLOAT32_INTEGERS = 1 << 24
"""float32 holds every integer up to this one."""


@dataclass(frozen=True)
class Bypass:
    """Which fake_quant and fake_block nodes act as the identity.

    Attributes:
        weights: those whose operand is a constant.
        activations: all others.
        names: those whose operand or result stands for an original value of such a name.
    """

    weights: bool = False
    activations: bool = False
    names: frozenset[str] = frozenset()

    def covers(self, node: Node) -> bool:
        """Whether the fake_quant or fake_block ``node`` acts as the identity."""
        (operand,) = node.operands
        of_constant = operand.producer is not None and operand.producer.op.name == "constant"
        if self.weights if of_constant else self.activations:
            return True
        return any(_original_name(value) in self.names for value in (operand, node.result))


def is_identity(node: Node, bypass: Bypass) -> bool:
    """Whether a node is a fake_quant or fake_block that does nothing: it is bypassed, or not calibrated yet."""
    op = node.op
    return isinstance(op, FakeQuant | FakeBlock) and (not op.is_calibrated or bypass.covers(node))


def _original_name(value: Value) -> str | None:
    return value.origin.name if isinstance(value.origin, Original) else None


@dataclass(frozen=True)
class Grid:
    """The real numbers ``scale * k`` with whole ``low <= k <= high``.

    Centred integers ``k = q - zero_point`` save an addition and a subtraction; they give the same numbers, since
    both are exact.

    Attributes:
        scale, low, high: numbers, or arrays that broadcast to the tensor.
        division: float format in which the tensor is divided by the scale and rounded.
        product: float format in which it is limited and multiplied by the scale.
    """

    scale: Array
    low: Array
    high: Array
    division: np.dtype[Any]
    product: np.dtype[Any]

    def evaluate(self, x: Array) -> Array:
        """Each number rounded to the grid, ties to even; format and shape of ``x``."""
        k = np.rint(np.divide(x, self.scale, dtype=self.division)).astype(self.product, copy=False)
        # Adding 0 turns -0 into 0, as the addition of a zero point does.
        k = np.clip(k, self.low.astype(self.product), self.high.astype(self.product)) + self.product.type(0)
        product: Array = k * self.scale.astype(self.product)
        return product.astype(x.dtype, copy=False)


def simulated_grid(op: FakeQuant, shape: Shape, dtype: np.dtype[Any], bits: int | None) -> Grid:
    """The grid of a calibrated fake_quant on a tensor of ``shape`` and ``dtype``.

    Without ``bits``, :meth:`Grid.evaluate` equals ``op.evaluate`` bit for bit on float32 and float64. With ``bits``
    the real range ``[(qmin - zero_point) * scale, (qmax - zero_point) * scale]``, made one step longer at both ends
    where ``bits`` is more than the format has, is divided into ``2**bits - 1`` steps, moved by at most half a step so
    that 0 stays on the grid.
    """
    elem = op.elem
    # A free dimension is never cut into blocks, so that any length stands for it.
    lengths = tuple(d if isinstance(d, int) else 1 for d in shape)
    zero_point = elem.zero_point_for(lengths)
    scale: Array = elem.scale_for(lengths)
    low, high = op.qmin - zero_point, op.qmax - zero_point
    division = np.result_type(dtype, np.float32)
    if bits is not None:
        # The coarse grid may miss the ends of the values' interval by up to a step: zero must lie on it, and
        # prescribed parameters may leave an end out (softmax at scale 1/256 has no 1.0).
        margin = 1 if bits > op.storage.bits else 0
        low, high = low - margin, high + margin
        steps = (1 << bits) - 1
        factor = steps / (op.qmax - op.qmin + 2 * margin)
        low = np.rint(low * factor).astype(np.int64)
        high = low + steps
        scale = scale / np.float64(factor)
    wide = max(int(np.abs(low).max()), int(np.abs(high).max())) >= _FLOAT32_INTEGERS
    product = np.dtype(np.float64) if wide else division
    if bits is not None:
        division = product
        scale = scale.astype(product)
    return Grid(np.asarray(scale), np.asarray(low), np.asarray(high), division, product)


def simulated_block(op: FakeBlock, bits: int | None) -> FakeBlock:
    """The calibrated fake_block that stands for ``op`` at a width; ``op`` itself without ``bits``.

    Mantissas get so many bits, and exponents that are found at run time any size, on the same blocks. Fixed exponents
    change so that the real range stays as it is. Every format becomes one of integers in two's complement.
    """
    elem = op.held.elem
    if bits is None or not isinstance(elem, BlockFloat):
        return op
    # Rounding never leaves the range of a block whose exponent may rise.
    wide = BlockFormat(bits, 16, overflow="raise")
    exponents = elem.exponents
    if exponents is not None:
        exponents = ConstantArray(exponents.array + np.int32(elem.format.leading_bit - wide.leading_bit))
    return FakeBlock(TensorType(op.held.shape, BlockFloat(wide, elem.blocks, exponents)), op.is_fixed)
