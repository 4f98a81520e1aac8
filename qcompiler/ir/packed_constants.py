"""Constants in ``.safetensors`` files: those of 4-bit types packed, two to a byte, the low nibble first.

The file's metadata names each packed array with the format and shape that it has in memory, such as ``i4[3,5]``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from qcompiler.errors import QCompilerError
from qcompiler.ir.constant_array import ConstantArray
from qcompiler.ir.graph import Graph, walk
from qcompiler.ir.printer import citation
from qcompiler.ir.scalar import SCALARS, Scalar

Array = NDArray[Any]
_PACKED = re.compile(r"([iu]4)\[([\d,]*)\]")


def packed_formats(graph: Graph) -> dict[str, Scalar]:
    """The constants of 4-bit types in a program, by the name under which its text cites them, with their format."""
    found: dict[str, Scalar] = {}
    for node in walk(graph):
        value = getattr(node.op, "value", None)
        if node.op.name != "constant" or not isinstance(value, ConstantArray):
            continue
        scalar, array = node.results[0].type.storage, value.array
        # A program that is no good yet may hold numbers outside of its types; a dump must not change them.
        if scalar.bits == 4 and array.size and scalar.minimum <= array.min() <= array.max() <= scalar.maximum:
            found[citation(value)] = scalar
    return found


def save_constants(arrays: Mapping[str, Array], packed: Mapping[str, Scalar]) -> bytes:
    """The content of a ``.safetensors`` file.

    Args:
        arrays: constants by name.
        packed: those among them whose numbers fit 4 bits, with the format.
    """
    stored = {name: pack_nibbles(a) if name in packed else a for name, a in arrays.items()}
    shapes = {name: ",".join(map(str, a.shape)) for name, a in arrays.items() if name in packed}
    return save(stored, {name: f"{packed[name]}[{shape}]" for name, shape in shapes.items()} or None)


def load_constants(path: Path) -> dict[str, Array]:
    """The arrays of a file that :func:`save_constants` wrote, as they are in memory.

    Raises:
        QCompilerError: the file is missing or damaged, or its metadata do not fit its arrays.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            formats = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    except (OSError, SafetensorError) as error:
        raise QCompilerError(f"cannot read constants {path}: {getattr(error, 'strerror', None) or error}") from error
    for name, text in formats.items():
        match = _PACKED.fullmatch(text)
        shape = tuple(int(size) for size in match[2].split(",") if size) if match else ()
        count = int(np.prod(shape, dtype=np.int64))
        if match is None or name not in arrays or arrays[name].shape != (-(-count // 2),):
            raise QCompilerError(
                f"cannot read constants {path}: {name!r} does not hold packed numbers", found=text,
                expected="i4 or u4 with the shape of an array in the file",
            )
        arrays[name] = unpack_nibbles(arrays[name], SCALARS[match[1]], count).reshape(shape)
    return arrays


def pack_nibbles(array: Array) -> NDArray[np.uint8]:
    """Integers of 4 bits, two to a byte, the first in the low nibble; the last high nibble may be 0.

    Args:
        array: int8 within -8 and 7, or uint8 within 0 and 15, of any shape.

    Returns:
        uint8, of half as many elements.
    """
    nibbles = array.reshape(-1).view(np.uint8) & 0xF
    even = np.concatenate([nibbles, np.zeros(len(nibbles) % 2, np.uint8)])
    return np.asarray(even[::2] | (even[1::2] << 4), np.uint8)


def unpack_nibbles(packed: NDArray[np.uint8], scalar: Scalar, count: int) -> Array:
    """The opposite of :func:`pack_nibbles`: ``count`` integers, int8 for ``i4`` and uint8 for ``u4``."""
    nibbles = np.stack([packed & 0xF, packed >> 4], 1).reshape(-1)[:count]
    if scalar.kind == "uint":
        return nibbles
    # The sign stands in the fourth bit.
    return ((nibbles ^ 8).astype(np.int8) - 8).astype(np.int8)
