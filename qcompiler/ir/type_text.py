"""Reads the text of a tensor type, such as ``q<i8[-127,127], blocks=[1,64], scale=@3f2a>[32,64]``."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from qcompiler.errors import QCompilerError
from qcompiler.ir.constant_array import ConstantArray
from qcompiler.ir.dimension import Shape, parse_dim
from qcompiler.ir.scalar import SCALARS
from qcompiler.ir.types import Affine, BlockFloat, Elem, TensorType, block_grid, fixed_exponents_shape
from qcompiler.numerics.block_format import BlockFormat

Cited = Callable[[str], ConstantArray]
"""Finds the array behind a citation such as ``@3f2a``."""

_BLOCK_FLOAT = re.compile(
    r"bf<m(\d+)e(\d+)((?:, [a-z_]+=[\w.-]+)*), blocks=\[([^\]]*)\](?:, exponents=([^\s>]+))?>"
)
_FORMAT_FIELDS = {field.name: field for field in dataclasses.fields(BlockFormat)}
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
        return _block_float(block, shape, cited)
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


def _block_float(match: re.Match[str], shape: Shape, cited: Cited) -> BlockFloat:
    fields: dict[str, Any] = {}
    for item in match[3].split(", ")[1:]:
        name, _, text = item.partition("=")
        if name not in _FORMAT_FIELDS:
            raise ValueError(f"a block format has no {name!r}")
        fields[name] = _field(_FORMAT_FIELDS[name].default, text)
    try:
        block_format = BlockFormat(int(match[1]), int(match[2]), **fields)
    except QCompilerError as error:
        raise ValueError(str(error)) from error
    blocks = _dims(match[4])
    counts = fixed_exponents_shape(shape, blocks)
    if not match[5]:
        return BlockFloat(block_format, blocks)
    exponents = _fixed_exponents(match[5], counts, cited)
    return BlockFloat(block_format, blocks, ConstantArray(exponents))


def _fixed_exponents(text: str, counts: tuple[int, ...], cited: Cited) -> Any:
    """Exponents on the block grid; a single one stands for all blocks."""
    if text.startswith("@") or text == "[]" or "," in text:
        return _grid(text, counts, np.int32, cited)
    return _grid(text, (1,) * len(counts), np.int32, cited)


def _field(default: Any, text: str) -> Any:
    """A field of a block format, of the kind of its default value."""
    if isinstance(default, str):
        return text
    if isinstance(default, bool):
        return {"true": True, "false": False}[text]
    return int(text)


def _grid(text: str, counts: tuple[int, ...], dtype: type[np.generic], cited: Cited) -> Any:
    if text.startswith("@"):
        return cited(text).array
    read = float if dtype is np.float32 else int
    items = text[1:-1].split(",") if text != "[]" else []
    return np.array([read(item) for item in items], dtype).reshape(counts)


def _dims(text: str) -> Shape:
    return tuple(parse_dim(item.strip()) for item in text.split(",") if item.strip())


def _optional(text: str | None) -> int | None:
    return None if text is None else int(text)
