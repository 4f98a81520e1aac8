"""Resampling along two axes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from qcompiler.ir.arithmetic import Arithmetic
from qcompiler.ir.dimension import Dim, Shape
from qcompiler.ir.op import Array, Constants, Tensor, op, require
from qcompiler.ir.types import Elem, TensorType
from qcompiler.ops.inference import normalize_axis, operand_count, per_tensor_elem, static_dim
from qcompiler.ops.quantized import ArithmeticOp, is_quantized, parameters, resolve, store

Pair = tuple[int, int]

COORDINATES = ("half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners")
NEAREST = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")


@op("resize")
class Resize(ArithmeticOp):
    """Resample two neighbouring ``axes`` to ``sizes``.

    Attributes:
        mode: "nearest" or "linear".
        coordinates: how a result index maps to a source position (ONNX Resize's names).
        nearest: how "nearest" rounds a position (ONNX Resize's names).
    """

    axes: Pair
    sizes: Pair
    mode: str = "nearest"
    coordinates: str = "half_pixel"
    nearest: str = "round_prefer_floor"
    arithmetic: Arithmetic | None = None
    constants: Constants = Constants()

    def infer_shapes(self, operands: Sequence[TensorType]) -> tuple[Shape, ...]:
        operand_count(operands, 1)
        shape: list[Dim] = list(operands[0].shape)
        require(self.mode in ("nearest", "linear"), f"unknown mode {self.mode!r}")
        require(self.coordinates in COORDINATES, f"unknown coordinates {self.coordinates!r}")
        require(self.nearest in NEAREST, f"unknown rounding {self.nearest!r}")
        require(self.axes[1] == self.axes[0] + 1, "axes must be neighbours")
        for axis, size in zip(self.axes, self.sizes, strict=True):
            static_dim(shape[normalize_axis(axis, len(shape))], f"resized axis {axis}")
            shape[axis] = size
        return (tuple(shape),)

    def infer_elems(self, operands: Sequence[TensorType]) -> tuple[Elem | None, ...]:
        return (per_tensor_elem(operands[0], self.name),)

    def verify(self, operands: Sequence[TensorType], results: Sequence[TensorType]) -> None:
        if self.mode == "linear":
            super().verify(operands, results)

    def derive_constants(self, operands: Sequence[TensorType], results: Sequence[TensorType]) -> Constants:
        resolve(self, self.arithmetic)
        return Constants()

    def evaluate(self, operands: Sequence[Tensor], results: Sequence[TensorType]) -> tuple[Array, ...]:
        x = operands[0].data
        if self.mode == "nearest":
            for axis, size in zip(self.axes, self.sizes, strict=True):
                x = np.take(x, self.nearest_indices(x.shape[axis], size), axis)
            return (x,)
        if is_quantized([operands[0].type]):
            return (self.integer_linear(x, results[0]),)
        for axis, size in zip(self.axes, self.sizes, strict=True):
            x = self.linear(x, axis, size)
        return (x.astype(results[0].storage.dtype),)

    def positions(self, input_size: int, output_size: int) -> NDArray[np.float64]:
        """Source position of each result index."""
        index = np.arange(output_size, dtype=np.float64)
        ratio = input_size / output_size
        if self.coordinates == "align_corners":
            return index * ((input_size - 1) / (output_size - 1)) if output_size > 1 else np.zeros(1)
        if self.coordinates == "asymmetric":
            return index * ratio
        if self.coordinates == "pytorch_half_pixel" and output_size == 1:
            return np.zeros(1)
        return (index + 0.5) * ratio - 0.5

    def nearest_indices(self, input_size: int, output_size: int) -> NDArray[np.int64]:
        """Source index of each result index."""
        position = self.positions(input_size, output_size)
        if self.nearest == "round_prefer_floor":
            rounded = np.ceil(position - 0.5)
        elif self.nearest == "round_prefer_ceil":
            rounded = np.floor(position + 0.5)
        else:
            rounded = np.floor(position) if self.nearest == "floor" else np.ceil(position)
        return np.asarray(np.clip(rounded, 0, input_size - 1), np.int64)

    def linear(self, x: Array, axis: int, size: int) -> Array:
        """Linear interpolation along one axis."""
        position = np.clip(self.positions(x.shape[axis], size), 0, x.shape[axis] - 1)
        lower = np.floor(position).astype(np.int64)
        upper = np.minimum(lower + 1, x.shape[axis] - 1)
        shape = [1] * x.ndim
        shape[axis] = size
        weight = (position - lower).astype(x.dtype).reshape(shape)
        mixed: Array = np.take(x, lower, axis) * (1 - weight) + np.take(x, upper, axis) * weight
        return mixed

    def integer_linear(self, x: Array, result: TensorType) -> Array:
        leading = x.shape[: self.axes[0]]
        trailing = x.shape[self.axes[1] + 1 :]
        source = x.reshape(
            math.prod(leading), x.shape[self.axes[0]], x.shape[self.axes[1]], math.prod(trailing)
        ).astype(np.int64)
        q = resolve(self, self.arithmetic).apply(
            source, self.sizes, parameters(result),
            half_pixel=self.coordinates in ("half_pixel", "pytorch_half_pixel"),
            align_corners=self.coordinates == "align_corners",
        )
        return store(q.reshape(*leading, *self.sizes, *trailing), result)
