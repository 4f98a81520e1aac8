"""Tensors stored in an ONNX model, as numpy arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from qcompiler.errors import QCompilerError
from qcompiler.ir import Scalar, scalar_of

Array = NDArray[Any]

FIX_PRECISION = "convert the model to float32"


def tensor_array(tensor: onnx.TensorProto, layer: str | None = None) -> Array:
    """The numbers of ``tensor``.

    Raises:
        QCompilerError: it holds strings, or its bytes do not fit its shape.
    """
    if tensor.data_type in (onnx.TensorProto.STRING, onnx.TensorProto.UNDEFINED):
        kind = onnx.TensorProto.DataType.Name(tensor.data_type)
        raise QCompilerError(f"tensor {tensor.name!r} holds no numbers", layer=layer, found=f"data type {kind}")
    try:
        return numpy_helper.to_array(tensor)
    except Exception as error:  # numpy_helper raises several types for damaged tensors
        raise QCompilerError(
            f"tensor {tensor.name!r} is damaged", layer=layer,
            found=f"data that does not fit shape {list(tensor.dims)}: {error}", fix="export the model again",
        ) from error


def scalar_for(dtype: np.dtype[Any], what: str, layer: str | None = None) -> Scalar:
    """The element type of imported values of ``dtype``.

    Raises:
        QCompilerError: floats other than float32, or no numbers.
    """
    try:
        scalar = scalar_of(dtype)
    except KeyError:
        scalar = None
    if scalar is None or (scalar.is_float and scalar.bits != 32):
        raise QCompilerError(
            f"{what} has an element type that is not supported", layer=layer,
            expected="float32, integer or bool", found=str(dtype), fix=FIX_PRECISION,
        )
    return scalar


def check_finite(array: Array, name: str, layer: str) -> None:
    """Refuse weights that are not numbers.

    Raises:
        QCompilerError: ``array`` holds NaN or infinity.
    """
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        count = int(np.count_nonzero(~np.isfinite(array)))
        raise QCompilerError(
            f"constant {name!r} holds NaN or infinity", layer=layer, expected="finite numbers",
            found=f"{count} of {array.size} elements", fix="train or export the model again",
        )
