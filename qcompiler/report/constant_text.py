"""Arrays and quantization parameters in a few words."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcompiler.analysis.op_changes import format_text
from qcompiler.ir import Affine, BlockArray, BlockFloat, ConstantArray, Stored
from qcompiler.ir.dimension import format_shape

_SHOWN_ELEMENTS = 8
"""Longer arrays show their range."""


def describe_array(constant: ConstantArray) -> str:
    """All numbers of a short array; shape and range of a long one."""
    array = constant.array
    if array.size <= _SHOWN_ELEMENTS:
        numbers = ", ".join(map(str, array.reshape(-1)))
        return f"[{numbers}]" if array.ndim else numbers
    return f"{array.dtype}{format_shape(array.shape)}, {_range(array)}"


def describe_constant(stored: Stored) -> list[tuple[str, str]]:
    """Elements and range of a constant's stored numbers; of blocks those of mantissas and exponents."""
    if isinstance(stored, BlockArray):
        mantissas, exponents = stored
        facts = [("elements", f"{mantissas.size:,}"), ("exponents", f"{exponents.size:,}")]
        if mantissas.size:
            facts += [("mantissas", _numbers(mantissas)), ("blocks by exponent", _counts(exponents))]
        return facts
    facts = [("elements", f"{stored.size:,}")]
    if stored.size:
        facts.append(("value" if stored.size == 1 else "stored range", _numbers(stored)))
    return facts


def describe_quantization(elem: Affine | BlockFloat) -> list[tuple[str, str]]:
    """Scale, zero point and the real interval that can be held; of block floating point, the format."""
    return _describe_affine(elem) if isinstance(elem, Affine) else _describe_blocks(elem)


def _describe_affine(elem: Affine) -> list[tuple[str, str]]:
    facts = [("scale", describe_array(elem.scale)), ("zero point", describe_array(elem.zero_point)),
             ("integers", f"{elem.qmin} to {elem.qmax}")]
    if elem.is_per_tensor:
        scale, zero = float(elem.scale.array), int(elem.zero_point.array)
        facts.append(("real range", f"{scale * (elem.qmin - zero):.6g} to {scale * (elem.qmax - zero):.6g}"))
    else:
        facts.append(("blocks", format_shape(elem.blocks)))
    return facts


def _describe_blocks(elem: BlockFloat) -> list[tuple[str, str]]:
    block_format = elem.format
    lowest, highest = block_format.exponent_range
    found = f"found at run time, {lowest} to {highest}"
    return [
        ("format", format_text(block_format)),
        ("mantissas can be", f"{block_format.smallest} to {block_format.largest}"),
        ("blocks", format_shape(elem.blocks)),
        ("exponents can be", found if elem.exponents is None else f"fixed, {describe_array(elem.exponents)}"),
    ]


def _counts(exponents: NDArray[Any]) -> str:
    """How many blocks have each exponent; the range where many different ones occur."""
    found, counts = np.unique(exponents, return_counts=True)
    if len(found) > _SHOWN_ELEMENTS:
        return f"{_range(exponents)}, most often {found[counts.argmax()]}"
    return ", ".join(f"{exponent}: {count:,}" for exponent, count in zip(found, counts, strict=True))


def _numbers(array: NDArray[Any]) -> str:
    return str(array.reshape(-1)[0]) if array.size == 1 else _range(array)


def _range(array: NDArray[Any]) -> str:
    if array.dtype.kind in "iu":
        return f"{array.min()} to {array.max()}"
    if array.dtype.kind == "b":
        return f"{np.count_nonzero(array):,} true"
    return f"{array.min():.6g} to {array.max():.6g}"
