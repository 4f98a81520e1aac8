"""What quantized ops share: numeric parameters of a type, and the arithmetic they cite."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from qcompiler import numerics
from qcompiler.errors import QCompilerError
from qcompiler.ir.arithmetic import Arithmetic
from qcompiler.ir.dimension import static_shape
from qcompiler.ir.op import Array, Constants, Op, OpTypeError, require
from qcompiler.ir.types import Affine, TensorType


def is_quantized(types: Sequence[TensorType]) -> bool:
    """Whether any of the types has a scale and a zero point."""
    return any(isinstance(t.elem, Affine) for t in types)


def affine(type: TensorType) -> Affine:
    """The affine element type of ``type``."""
    if not isinstance(type.elem, Affine):
        raise OpTypeError(f"needs a quantized type, found {type}")
    return type.elem


def parameters(type: TensorType) -> numerics.Quantization:
    """Numeric parameters of an affine type without free dimensions, broadcastable to its shape."""
    elem = affine(type)
    if elem.is_per_tensor:
        return numerics.Quantization(elem.scale.array, elem.zero_point.array, elem.qmin, elem.qmax)
    shape = static_shape(type.shape)
    return numerics.Quantization(elem.scale_for(shape), elem.zero_point_for(shape), elem.qmin, elem.qmax)


def tensor_parameters(type: TensorType) -> numerics.Quantization:
    """Numeric parameters of a per-tensor affine type; the shape may have free dimensions."""
    elem = affine(type)
    require(elem.is_per_tensor, f"needs one scale for the whole tensor, found {elem}")
    return numerics.Quantization(elem.scale.array, elem.zero_point.array, elem.qmin, elem.qmax)


def store(q: Array, type: TensorType) -> Array:
    """Computed integers in the storage format of ``type``.

    Raises:
        QCompilerError: a number does not fit; a legal program never does this.
    """
    storage = type.storage
    if q.size and (q.min() < storage.minimum or q.max() > storage.maximum):
        raise QCompilerError(f"overflow of {storage}", found=f"values from {q.min()} to {q.max()}")
    return q.astype(storage.dtype)


def resolve(op: Op, citation: Arithmetic | None) -> Any:
    """The registered arithmetic that ``op`` cites.

    Raises:
        OpTypeError: ``op`` cites none, or one that does not exist.
    """
    if citation is None:
        raise OpTypeError("quantized operands need an arithmetic")
    try:
        return numerics.resolve(op.name, citation.name, citation.options)
    except QCompilerError as error:
        raise OpTypeError(str(error)) from error


class ArithmeticOp(Op):
    """An op whose integer form is a named arithmetic, cited on the node with its constants."""

    arithmetic: Arithmetic | None
    constants: Constants

    def derive_constants(self, operands: Sequence[TensorType], results: Sequence[TensorType]) -> Constants:
        """The constants that the cited arithmetic has for these types."""
        raise NotImplementedError

    def intermediates(
        self, operands: Sequence[TensorType], results: Sequence[TensorType]
    ) -> Sequence[numerics.Intermediate]:
        """Numbers inside the cited arithmetic that could overflow, with what bounds and what limits them."""
        return ()

    def citing(self, citation: Arithmetic, operands: Sequence[TensorType], results: Sequence[TensorType]) -> Any:
        """This op with an arithmetic and the constants that follow from the types.

        Raises:
            OpTypeError: there is no such arithmetic, or it does not take these types.
        """
        cited = self.replace(arithmetic=citation, constants=Constants())
        try:
            return cited.replace(constants=cited.derive_constants(operands, results))
        except QCompilerError as error:
            raise OpTypeError(str(error)) from error

    def verify(self, operands: Sequence[TensorType], results: Sequence[TensorType]) -> None:
        if not is_quantized(operands):
            require(self.arithmetic is None, "cites an integer arithmetic but its operands are not quantized")
            return
        if self.arithmetic is None:
            raise OpTypeError("quantized operands need an arithmetic")
        expected = self.citing(self.arithmetic, operands, results).constants
        require(expected == self.constants, f"constants are not those of {self.arithmetic} for these types")


def constants_from(arrays: dict[str, Any]) -> Constants:
    """Named arrays, as an op keeps those of its arithmetic; element types and shapes stay as they are."""
    return Constants({name: np.asarray(array) for name, array in arrays.items()})
