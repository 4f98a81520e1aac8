"""Which scales a requantize multiplies, and the constants that follow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcompiler.analysis.accumulators import NOTHING
from qcompiler.ir import Affine, Value
from qcompiler.numerics import RequantizeForm
from qcompiler.ops.contraction import Contraction
from qcompiler.ops.quantized import affine


def scales_behind(value: Value, outer: Mapping[Value, Value] = NOTHING) -> list[NDArray[np.float32]]:
    """The scales whose product is the scale of ``value``, in the order in which hardware multiplies them.

    For a contraction's accumulator these are the scales of its two operands, the second one without group
    multipliers and on the block grid of the accumulator; for any other value its own scale.

    Args:
        value: what is brought to another scale.
        outer: for a value of a fused body, the operand behind each input of the body.
    """
    producer = outer.get(value, value).producer
    elem = affine(value.type)
    if producer is None or not isinstance(producer.op, Contraction):
        return [elem.scale.array]
    x, w = (operand.type for operand in producer.operands[:2])
    return [affine(x).scale.array, producer.op.weight_scales(w).reshape(elem.scale.shape)]


def requantize_constants(
    form: RequantizeForm, value: Value, result: Affine, outer: Mapping[Value, Value] = NOTHING
) -> dict[str, NDArray[Any]]:
    """Constants of the requantize that brings ``value`` to the type ``result``; see :func:`scales_behind`."""
    return form.constants(scales_behind(value, outer), result.scale.array)
