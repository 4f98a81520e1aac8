"""Type inference that several ops share."""

from __future__ import annotations

from collections.abc import Sequence

from qcompiler.ir.dimension import Dim, Shape, broadcast_shapes
from qcompiler.ir.op import OpTypeError, require
from qcompiler.ir.scalar import Scalar
from qcompiler.ir.types import Affine, Elem, TensorType


def operand_count(operands: Sequence[TensorType], least: int, most: int | None = None) -> None:
    """Require between ``least`` and ``most`` operands."""
    most = least if most is None else most
    wanted = str(least) if least == most else f"{least} to {most}"
    require(least <= len(operands) <= most, f"takes {wanted} operands, found {len(operands)}")


def same_elem(operands: Sequence[TensorType]) -> Elem:
    """The element type that all operands share: they are tied."""
    first = operands[0].elem
    for other in operands[1:]:
        require(other.elem == first, f"operands must share one element type, found {first} and {other.elem}")
    return first


def float_elem(operands: Sequence[TensorType]) -> Elem:
    """The float format that all operands share."""
    elem = same_elem(operands)
    require(isinstance(elem, Scalar), f"has no meaning on quantized type {elem}; realize gives it one")
    return elem


def open_if_quantized(operands: Sequence[TensorType]) -> Elem | None:
    """The shared scalar type, or None where operands are affine: the result's parameters are then free."""
    if all(isinstance(t.elem, Affine) for t in operands):
        return None
    return float_elem(operands)


def broadcast(operands: Sequence[TensorType]) -> Shape:
    """The numpy broadcast of the operands' shapes.

    Raises:
        OpTypeError: two dimensions differ and neither is 1.
    """
    try:
        return broadcast_shapes(*(t.shape for t in operands))
    except ValueError as error:
        raise OpTypeError(str(error)) from error


def normalize_axis(axis: int, rank: int) -> int:
    """``axis`` counted from the front."""
    require(-rank <= axis < rank, f"axis {axis} is outside rank {rank}")
    return axis % rank


def static_dim(dim: Dim, what: str) -> int:
    """``dim`` as an integer; the batch is none."""
    if not isinstance(dim, int):
        raise OpTypeError(f"{what} must be a fixed dimension, found {dim}")
    return dim


def per_tensor_elem(type: TensorType, op_name: str) -> Elem:
    """The element type, which must not vary over the tensor."""
    elem = type.elem
    require(
        not isinstance(elem, Affine) or elem.is_per_tensor,
        f"{op_name} does not map the blocks of {type}; use per-tensor parameters",
    )
    return elem
