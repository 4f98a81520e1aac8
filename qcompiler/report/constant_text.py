"""Arrays and quantization parameters in a few words."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcompiler.ir import Affine, ConstantArray
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


def describe_constant(array: NDArray[Any]) -> list[tuple[str, str]]:
    """Elements and range of a constant's stored numbers."""
    facts = [("elements", f"{array.size:,}")]
    if array.size:
        text = str(array.reshape(-1)[0]) if array.size == 1 else _range(array)
        facts.append(("value" if array.size == 1 else "stored range", text))
    return facts


def describe_quantization(elem: Affine) -> list[tuple[str, str]]:
    """Scale, zero point and the real interval that can be held."""
    facts = [("scale", describe_array(elem.scale)), ("zero point", describe_array(elem.zero_point)),
             ("integers", f"{elem.qmin} to {elem.qmax}")]
    if elem.is_per_tensor:
        scale, zero = float(elem.scale.array), int(elem.zero_point.array)
        facts.append(("real range", f"{scale * (elem.qmin - zero):.6g} to {scale * (elem.qmax - zero):.6g}"))
    else:
        facts.append(("blocks", format_shape(elem.blocks)))
    return facts


def _range(array: NDArray[Any]) -> str:
    if array.dtype.kind == "b":
        return f"{np.count_nonzero(array):,} true"
    return f"{array.min():.6g} to {array.max():.6g}"
