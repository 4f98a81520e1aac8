"""Tensor types. A quantized type tells the real value of every stored integer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcompiler.ir.constant_array import ConstantArray
from qcompiler.ir.dimension import Dim, Shape, SymbolicDim, bind_dim, format_shape
from qcompiler.ir.scalar import Scalar, scalar_of
from qcompiler.numerics.block_format import BlockFormat


@dataclass(frozen=True)
class Affine:
    """Integers that stand for ``scale * (q - zero_point)``, with parameters for each block of values.

    ``blocks`` gives the block length in each dimension: ``(1, 64)`` on a ``[32, 64]`` tensor is one scale for each
    row, ``(1, 16)`` four groups a row, ``()`` one scale for the whole tensor. The last block of a dimension may be
    shorter than the others. ``scale`` and ``zero_point`` have the shape of the grid of blocks, which for ``()`` is the
    shape of a scalar.

    Attributes:
        storage: integer format of ``q``.
        scale: float32, positive, one for each block.
        zero_point: int64, one for each block.
        blocks: block length in each dimension, or ``()``.
        qmin, qmax: bounds that every stored ``q`` keeps.
    """

    storage: Scalar
    scale: ConstantArray
    zero_point: ConstantArray
    blocks: Shape
    qmin: int
    qmax: int

    @classmethod
    def per_tensor(
        cls, storage: Scalar, scale: float | np.floating[Any], zero_point: int = 0,
        qmin: int | None = None, qmax: int | None = None,
    ) -> Affine:
        """One scale and zero point for all values; bounds default to those of ``storage``."""
        return cls.blocked(storage, np.float32(scale), np.int64(zero_point), (), qmin, qmax)

    @classmethod
    def blocked(
        cls, storage: Scalar, scale: Any, zero_point: Any, blocks: Shape,
        qmin: int | None = None, qmax: int | None = None,
    ) -> Affine:
        """Scales and zero points on the block grid; a scalar zero point serves every block."""
        scales = np.asarray(scale, np.float32)
        zeros = np.broadcast_to(np.asarray(zero_point, np.int64), scales.shape)
        return cls(
            storage, ConstantArray(scales), ConstantArray(zeros), blocks,
            storage.minimum if qmin is None else qmin, storage.maximum if qmax is None else qmax,
        )

    @property
    def is_per_tensor(self) -> bool:
        return not self.blocks

    @property
    def full_range(self) -> bool:
        return (self.qmin, self.qmax) == (self.storage.minimum, self.storage.maximum)

    def scale_for(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """``scale``, broadcastable to a tensor of ``shape``."""
        return spread_blocks(self.scale.array, shape, self.blocks)

    def zero_point_for(self, shape: tuple[int, ...]) -> NDArray[np.int64]:
        """``zero_point``, broadcastable to a tensor of ``shape``."""
        return spread_blocks(self.zero_point.array, shape, self.blocks)

    @cached_property
    def symmetric(self) -> bool:
        """Whether every zero point is 0."""
        return not self.zero_point.array.any()

    def __str__(self) -> str:
        from qcompiler.ir.printer import format_elem

        return format_elem(self)


@dataclass(frozen=True)
class BlockFloat:
    """Mantissas that share one exponent a block: value = mantissa * 2**exponent.

    A value holds two arrays: mantissas, and exponents on the grid of blocks. The last block of a dimension may be
    shorter than the others.

    Attributes:
        format: widths, scale rule, rounding and overflow.
        blocks: block length in each dimension. No block spans several samples: along an axis with a free dimension it
            divides the number of rows that belong to one sample.
        exponents: int32 where they are fixed in advance, on the block grid with length 1 for free dimensions, or one
            for all blocks with length 1 everywhere; None where they are found at run time.
    """

    format: BlockFormat
    blocks: Shape
    exponents: ConstantArray | None = None

    @property
    def storage(self) -> Scalar:
        """The machine format of the mantissas."""
        return scalar_of(self.format.mantissa_dtype)

    def __str__(self) -> str:
        from qcompiler.ir.printer import format_elem

        return format_elem(self)


Elem = Scalar | Affine | BlockFloat


@dataclass(frozen=True)
class TensorType:
    """Shape and element type of a value."""

    shape: Shape
    elem: Elem

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def carries_batch(self) -> bool:
        return any(isinstance(d, SymbolicDim) for d in self.shape)

    @property
    def storage(self) -> Scalar:
        """The machine format of the stored numbers; of block floating point that of the mantissas."""
        return self.elem if isinstance(self.elem, Scalar) else self.elem.storage

    def with_shape(self, shape: Shape) -> TensorType:
        return TensorType(shape, self.elem)

    def bind(self, symbols: Mapping[str, int]) -> TensorType:
        """The same type with symbols replaced by integers."""
        elem = self.elem
        if isinstance(elem, Affine) and elem.blocks:
            blocks = tuple(bind_dim(b, symbols) for b in elem.blocks)
            elem = Affine(elem.storage, elem.scale, elem.zero_point, blocks, elem.qmin, elem.qmax)
        elif isinstance(elem, BlockFloat):
            elem = replace(elem, blocks=tuple(bind_dim(b, symbols) for b in elem.blocks))
        return TensorType(tuple(bind_dim(d, symbols) for d in self.shape), elem)

    def __str__(self) -> str:
        return f"{self.elem}{format_shape(self.shape)}"


def block_grid(shape: Shape, blocks: Shape) -> tuple[int, ...]:
    """How many blocks stand along each dimension, the last perhaps shorter; ``()`` for a single block.

    Raises:
        ValueError: not one length for each dimension, or one that is not positive or longer than its dimension.
    """
    if not blocks:
        return ()
    if len(blocks) != len(shape):
        raise ValueError(f"blocks {format_shape(blocks)} do not fit shape {format_shape(shape)}")
    return tuple(_block_count(d, b) for d, b in zip(shape, blocks, strict=True))


def _block_count(dim: Dim, block: Dim) -> int:
    if dim == block:
        return 1
    if isinstance(dim, int) and isinstance(block, int) and block > 0 and (block <= dim or dim == 0):
        return -(-dim // block)
    raise ValueError(f"block length {block} does not fit dimension {dim}")


def block_float_grid(shape: Shape, blocks: Shape) -> tuple[Dim, ...]:
    """How many blocks of block floating point stand along each dimension; the last may be shorter.

    Raises:
        ValueError: not one positive length for each dimension, or a block that spans several samples.
    """
    if len(blocks) != len(shape):
        raise ValueError(f"blocks {format_shape(blocks)} do not fit shape {format_shape(shape)}")
    return tuple(_block_float_count(d, b) for d, b in zip(shape, blocks, strict=True))


def fixed_exponents_shape(shape: Shape, blocks: Shape) -> tuple[int, ...]:
    """Shape of the fixed exponents of a block floating-point type that has one for each block.

    Raises:
        ValueError: the blocks do not fit the shape.
    """
    return tuple(count if isinstance(count, int) else 1 for count in block_float_grid(shape, blocks))


def _block_float_count(dim: Dim, block: Dim) -> Dim:
    if not isinstance(block, int) or block < 1:
        raise ValueError(f"a block has a fixed, positive length, found {block}")
    if isinstance(dim, int):
        return -(-dim // block)
    if dim.coefficient % block:
        raise ValueError(f"a block of {block} spans several samples of {dim}")
    return SymbolicDim(dim.symbol, dim.coefficient // block)


def channel_blocks(shape: Shape, axis: int) -> Shape:
    """Blocks of one scale for each index along ``axis``."""
    return tuple(1 if i == axis else d for i, d in enumerate(shape))


def spread_blocks(grid: NDArray[Any], shape: tuple[int, ...], blocks: Shape = ()) -> NDArray[Any]:
    """Values on a block grid, repeated so that they broadcast against a tensor of ``shape``.

    Without ``blocks`` all blocks of a dimension are equally long.
    """
    if not grid.shape:
        return grid
    for axis, (count, length) in enumerate(zip(grid.shape, shape, strict=True)):
        if count not in (1, length):
            block = blocks[axis] if blocks else length // count
            assert isinstance(block, int)
            grid = np.take(grid, np.arange(length) // block, axis)
    return grid
