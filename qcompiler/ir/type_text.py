"""Reads the text of a tensor type, such as ``q<i8[-127,127], blocks=[1,64], scale=@3f2a>[32,64]``."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from qcompiler.ir.constant_array import ConstantArray
from qcompiler.ir.dimension import Shape, parse_dim
from qcompiler.ir.scalar import SCALARS
from qcompiler.ir.types import Affine, BlockFloat, Elem, TensorType, block_grid

Cited = Callable[[str], ConstantArray]
"""Finds the array behind a citation such as ``@3f2a``."""

_BLOCK_FLOAT = re.compile(r"bf<m(\d+)e(\d+), blocks=\[([^\]]*)\]>")
_PER_TENSOR = re.compile(r"q<(\w+)(?:\[(-?\d+),(-?\d+)\])?, ([^:>]+):(-?\d+)>")
_BLOCKED = re.compile(
    r"q<(\w+)(?:\[(-?\d+),(-?\d+)\])?, blocks=\[([^\]]*)\], scale=([^\s>]+?)(?:, zero_point=([^\s>]+))?>"
)


def read_type(text: str, cited: Cited) -> TensorType:
    """A tensor type from its text.

    Raises:
        ValueError, TypeError, KeyError, OverflowError: the text is malformed.
    """
    elem_text, _, shape_text = text[:-1].rpartition("[")
    shape = _dims(shape_text)
    return TensorType(shape, _elem(elem_text, shape, cited))


def _elem(text: str, shape: Shape, cited: Cited) -> Elem:
    if text in SCALARS:
        return SCALARS[text]
    block = _BLOCK_FLOAT.fullmatch(text)
    if block:
        return BlockFloat(int(block[1]), int(block[2]), _dims(block[3]))
    single = _PER_TENSOR.fullmatch(text)
    if single:
        bounds = _optional(single[2]), _optional(single[3])
        return Affine.per_tensor(SCALARS[single[1]], float(single[4]), int(single[5]), *bounds)
    grid = _BLOCKED.fullmatch(text)
    if not grid:
        raise ValueError("not an element type")
    blocks = _dims(grid[4])
    counts = block_grid(shape, blocks)
    scale = _grid(grid[5], counts, np.float32, cited)
    zero_point = _grid(grid[6], counts, np.int64, cited) if grid[6] else np.zeros(counts, np.int64)
    return Affine.blocked(SCALARS[grid[1]], scale, zero_point, blocks, _optional(grid[2]), _optional(grid[3]))


def _grid(text: str, counts: tuple[int, ...], dtype: type[np.generic], cited: Cited) -> Any:
    if text.startswith("@"):
        return cited(text).array
    read = float if dtype is np.float32 else int
    return np.array([read(item) for item in text[1:-1].split(",")], dtype).reshape(counts)


def _dims(text: str) -> Shape:
    return tuple(parse_dim(item.strip()) for item in text.split(",") if item.strip())


def _optional(text: str | None) -> int | None:
    return None if text is None else int(text)
