"""Sums of products: convolution, transposed convolution, matrix product.

On quantized operands the result is the accumulator: sum((x - zero_point_x) * (w - zero_point_w)) + b, exact, at
scale(x) * scale(w). Padding inserts real zero. Weights in groups have a multiplier for each group, by which the sum of
the group is multiplied; see :mod:`qcompiler.ops.weight_groups`.

``parts`` says how an accumulator narrower than the sum is used: the terms of the reduction (taps row by row, at each
tap the input channels of the group; for matmul the reduced axis) are cut into consecutive parts of these lengths. Each
part is summed in the accumulator, and the sums of the parts and the bias are added in the result's storage. Without
``parts`` everything is summed in the accumulator. The result is the same integer either way.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from qcompiler.ir.arithmetic import Arithmetic
from qcompiler.ir.constant_array import ConstantArray
from qcompiler.ir.dimension import Dim, Shape, broadcast_shapes, sample_elements
from qcompiler.ir.op import Array, Fact, Op, OpTypeError, Tensor, op, require
from qcompiler.ir.scalar import Scalar
from qcompiler.ir.types import Affine, Elem, TensorType, channel_blocks
from qcompiler.ops.convolution_kernel import convolve
from qcompiler.ops.exact_product import matmul
from qcompiler.ops.inference import float_elem, operand_count, static_dim
from qcompiler.ops.quantized import affine, is_quantized, parameters, store
from qcompiler.ops.weight_groups import integer_weights, weight_scales

Pair = tuple[int, int]
Pads = tuple[int, int, int, int]
"""Top, left, bottom, right."""


class Contraction(Op):
    """Base: operands x, w and an optional bias b."""

    facts = Fact.CONTRACTION
    arithmetic: Arithmetic | None
    """How block floating point is summed; None for other types."""
    group_multipliers: ConstantArray | None
    """uint8 on the block grid of grouped weights; None for other weights."""
    parts: tuple[int, ...]
    """Lengths of the parts in which an accumulator sums the reduction; empty where it sums everything at once."""

    def weight_channel_axis(self, rank: int) -> int:
        """Axis of operand 1 that runs over output channels."""
        raise NotImplementedError

    def result_channel_axis(self, rank: int) -> int:
        """Axis of the result that runs over output channels."""
        raise NotImplementedError

    def reduction_length(self, operands: Sequence[TensorType]) -> int:
        """Products summed into one result element."""
        raise NotImplementedError

    def contract(self, x: Array, w: Array) -> Array:
        """The sums of products, without bias."""
        raise NotImplementedError

    def infer_elems(self, operands: Sequence[TensorType]) -> tuple[Elem | None, ...]:
        if not is_quantized(operands):
            return (float_elem(operands),)
        for operand in operands:
            affine(operand)
        return (None,)

    def accumulator(
        self, operands: Sequence[TensorType], result: Shape, storage: Scalar, of_bias: bool = False
    ) -> Affine:
        """Type of the sums (or of the bias): scale(x) * scale(w) in float32, zero point 0.

        Raises:
            OpTypeError: x has several scales, or w has scales along anything but its output channels that are not
                those of its groups.
        """
        x = affine(operands[0])
        require(x.is_per_tensor, f"operand 0 must have one scale, found {x}")
        w_scale = self.weight_scales(operands[1])
        if not w_scale.shape:
            return Affine.blocked(storage, x.scale.array * w_scale, 0, ())
        scale = (x.scale.array * w_scale).astype(np.float32)
        if of_bias:
            return Affine.blocked(storage, scale, 0, (1,))
        channel = self.result_channel_axis(len(result))
        grid = tuple(-1 if i == channel else 1 for i in range(len(result)))
        return Affine.blocked(storage, scale.reshape(grid), 0, channel_blocks(result, channel))

    def weight_scales(self, weights: TensorType) -> NDArray[np.float32]:
        """The scale of the integers of :meth:`integer_weights`: one, or one for each output channel.

        Raises:
            OpTypeError: scales along other axes, or group multipliers that do not fit.
        """
        return weight_scales(weights, self.weight_channel_axis(weights.rank), self.group_multipliers)

    def integer_weights(self, weights: TensorType, stored: Array) -> NDArray[np.int64]:
        """The integers by which operand 0 is multiplied: ``q - zero_point``, times the multiplier of its group.

        Args:
            weights: type of operand 1.
            stored: its stored integers.
        """
        return integer_weights(weights, stored, self.group_multipliers)

    def verify(self, operands: Sequence[TensorType], results: Sequence[TensorType]) -> None:
        require(self.arithmetic is None, f"cites {self.arithmetic}, which is one of block floating point")
        if not is_quantized(operands):
            require(self.group_multipliers is None, "has group multipliers, but its weights are not quantized")
            require(not self.parts, "has parts, but its operands are not quantized")
            return
        if self.parts:
            length = self.reduction_length(operands)
            require(
                min(self.parts) > 0 and sum(self.parts) == length,
                f"parts must be positive and add to the {length} terms of the reduction, found {list(self.parts)}",
            )
        (result,) = results
        expected = self.accumulator(operands, result.shape, result.storage)
        require(result.elem == expected, f"the accumulator's type must be {expected}, found {result.elem}")
        if len(operands) == 3:
            bias = self.accumulator(operands, result.shape, operands[2].storage, of_bias=True)
            require(operands[2].elem == bias, f"the bias must have type {bias}, found {operands[2].elem}")

    def evaluate(self, operands: Sequence[Tensor], results: Sequence[TensorType]) -> tuple[Array, ...]:
        x, w = operands[0].data, operands[1].data
        quantized = is_quantized([operands[0].type])
        if quantized:
            x = _centered(operands[0])
            w = _centered(operands[1], self.group_multipliers)
        total: Array = self.contract(x, w)
        if len(operands) == 3:
            shape = [1] * total.ndim
            shape[self.result_channel_axis(total.ndim)] = -1
            bias = operands[2].data.reshape(shape)
            # A sum of products may fill its format; adding the bias must not wrap.
            total = total.astype(np.int64) + bias if quantized else total + bias.astype(total.dtype)
        return (store(total, results[0]) if quantized else total.astype(results[0].storage.dtype),)

    def multiply_accumulates(self, operands: Sequence[TensorType], results: Sequence[TensorType]) -> int:
        return sample_elements(results[0].shape) * self.reduction_length(operands)


def _centered(tensor: Tensor, multipliers: ConstantArray | None = None) -> Array:
    """Stored integers less their zero point, times their group's multiplier, in the narrowest convenient format."""
    wide = np.int32 if tensor.type.storage.bits <= 16 else np.int64
    if multipliers is not None:
        return integer_weights(tensor.type, tensor.data, multipliers).astype(wide)
    zero_point = parameters(tensor.type).zero_point
    centered: Array = tensor.data.astype(wide) - zero_point.astype(wide)
    return centered


class Conv2DBase(Contraction):
    """What convolution and transposed convolution share: attributes and layouts."""

    strides: Pair
    dilations: Pair
    pads: Pads
    groups: int
    layout: str

    def weight_channel_axis(self, rank: int) -> int:
        return 0

    def result_channel_axis(self, rank: int) -> int:
        return 3 if self.layout == "NHWC" else 1

    def kernel(self, weights: Shape) -> Pair:
        """Kernel height and width."""
        first = 1 if self.layout == "NHWC" else 2
        return static_dim(weights[first], "kernel height"), static_dim(weights[first + 1], "kernel width")

    def channels(self, weights: Shape) -> tuple[int, int]:
        """Output channels, and input channels in a group."""
        return (
            static_dim(weights[0], "output channels"),
            static_dim(weights[3 if self.layout == "NHWC" else 1], "input channels"),
        )

    def reduction_length(self, operands: Sequence[TensorType]) -> int:
        kernel = self.kernel(operands[1].shape)
        return kernel[0] * kernel[1] * self.channels(operands[1].shape)[1]

    def spatial_result(self, index: int, size: int, kernel: int) -> int:
        """Result size along a spatial axis."""
        raise NotImplementedError

    def infer_shapes(self, operands: Sequence[TensorType]) -> tuple[Shape, ...]:
        operand_count(operands, 2, 3)
        x, w = operands[0].shape, operands[1].shape
        require(self.layout in ("NCHW", "NHWC"), f"unknown layout {self.layout!r}")
        require(len(x) == 4 and len(w) == 4, f"needs operands of rank 4, found {len(x)} and {len(w)}")
        batch, height, width, channels = x if self.layout == "NHWC" else (x[0], x[2], x[3], x[1])
        outputs, inputs = self.channels(w)
        require(
            channels == inputs * self.groups and outputs % self.groups == 0,
            f"{channels} input and {outputs} output channels do not fit {self.groups} groups of {inputs}",
        )
        if len(operands) == 3:
            require(operands[2].shape == (outputs,), f"bias must have shape [{outputs}]")
        kernel = self.kernel(w)
        sizes = [
            self.spatial_result(i, static_dim(size, "height" if i == 0 else "width"), kernel[i])
            for i, size in enumerate((height, width))
        ]
        require(min(sizes) > 0, f"kernel {kernel} is larger than the padded input")
        shape: Shape = (batch, *sizes, outputs) if self.layout == "NHWC" else (batch, outputs, *sizes)
        return (shape,)

    def contract(self, x: Array, w: Array) -> Array:
        if self.layout == "NHWC":
            return self.contract_channels_last(x, w)
        last = self.contract_channels_last(x.transpose(0, 2, 3, 1), w.transpose(0, 2, 3, 1))
        return last.transpose(0, 3, 1, 2)

    def contract_channels_last(self, x: Array, w: Array) -> Array:
        padded, kernel, strides = self.as_convolution(x, w, 0)
        return convolve(padded, kernel, strides, self.dilations, self.groups)

    def as_convolution(self, x: Array, w: Array, fill: int) -> tuple[Array, Array, Pair]:
        """The valid convolution that this op is: padded input, kernel and strides.

        Args:
            x: ``[N, H, W, C]``, or something else on the same grid of pixels.
            w: ``[O, KH, KW, C / groups]``, or something else for the same taps.
            fill: what stands where there is no input.
        """
        raise NotImplementedError


@op("conv2d")
class Conv2D(Conv2DBase):
    """Two-dimensional convolution (cross-correlation) with optional bias.

    Weights are ``[O, C / groups, KH, KW]`` in layout NCHW and ``[O, KH, KW, C / groups]`` in NHWC.
    """

    strides: Pair = (1, 1)
    dilations: Pair = (1, 1)
    pads: Pads = (0, 0, 0, 0)
    groups: int = 1
    layout: str = "NCHW"
    arithmetic: Arithmetic | None = None
    group_multipliers: ConstantArray | None = None
    parts: tuple[int, ...] = ()

    def spatial_result(self, index: int, size: int, kernel: int) -> int:
        padded = size + self.pads[index] + self.pads[index + 2]
        return (padded - (kernel - 1) * self.dilations[index] - 1) // self.strides[index] + 1

    def as_convolution(self, x: Array, w: Array, fill: int) -> tuple[Array, Array, Pair]:
        top, left, bottom, right = self.pads
        padded = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=fill)
        return padded, w, self.strides


@op("conv_transpose2d")
class ConvTranspose2D(Conv2DBase):
    """Two-dimensional transposed convolution with optional bias: the gradient of a convolution to its input.

    Weights are laid out as for conv2d, output channels first. ``pads`` are cut off the result;
    ``output_padding`` adds rows and columns at its end.
    """

    strides: Pair = (1, 1)
    dilations: Pair = (1, 1)
    pads: Pads = (0, 0, 0, 0)
    output_padding: Pair = (0, 0)
    groups: int = 1
    layout: str = "NCHW"
    arithmetic: Arithmetic | None = None
    group_multipliers: ConstantArray | None = None
    parts: tuple[int, ...] = ()

    def spatial_result(self, index: int, size: int, kernel: int) -> int:
        span = (size - 1) * self.strides[index] + (kernel - 1) * self.dilations[index] + 1
        return span + self.output_padding[index] - self.pads[index] - self.pads[index + 2]

    def as_convolution(self, x: Array, w: Array, fill: int) -> tuple[Array, Array, Pair]:
        # The kernel is flipped, the input spread out by the strides.
        spread = np.full(
            (len(x), (x.shape[1] - 1) * self.strides[0] + 1, (x.shape[2] - 1) * self.strides[1] + 1, x.shape[3]),
            fill, x.dtype,
        )
        spread[:, :: self.strides[0], :: self.strides[1]] = x
        reach = [(k - 1) * d for k, d in zip(w.shape[1:3], self.dilations, strict=True)]
        # Negative padding cuts rows and columns off.
        edges = [
            (reach[i] - self.pads[i], reach[i] - self.pads[i + 2] + self.output_padding[i]) for i in (0, 1)
        ]
        widths = ((0, 0), *((max(a, 0), max(b, 0)) for a, b in edges), (0, 0))
        padded = np.pad(spread, widths, constant_values=fill)
        rows, columns = (slice(max(-a, 0), -max(-b, 0) or None) for a, b in edges)
        return padded[:, rows, columns], w[:, ::-1, ::-1], (1, 1)


@op("matmul")
class Matmul(Contraction):
    """Matrix product ``x @ w`` with optional bias along the last axis; leading axes broadcast.

    With ``transpose_b`` operand 1 is ``[..., N, K]``: a row for each output channel.
    """

    transpose_b: bool = False
    arithmetic: Arithmetic | None = None
    group_multipliers: ConstantArray | None = None
    parts: tuple[int, ...] = ()

    def weight_channel_axis(self, rank: int) -> int:
        return rank - 2 if self.transpose_b else rank - 1

    def result_channel_axis(self, rank: int) -> int:
        return rank - 1

    def reduction_length(self, operands: Sequence[TensorType]) -> int:
        return static_dim(operands[0].shape[-1], "reduced axis")

    def infer_shapes(self, operands: Sequence[TensorType]) -> tuple[Shape, ...]:
        operand_count(operands, 2, 3)
        x, w = operands[0].shape, operands[1].shape
        require(len(x) >= 2 and len(w) >= 2, "needs operands of rank 2 or more")
        terms, outputs = (w[-1], w[-2]) if self.transpose_b else (w[-2], w[-1])
        require(x[-1] == terms, f"reduces over {x[-1]} and {terms} elements")
        static_dim(terms, "reduced axis")
        if len(operands) == 3:
            require(operands[2].shape == (outputs,), f"bias must have shape [{outputs}]")
        try:
            leading: tuple[Dim, ...] = broadcast_shapes(x[:-2], w[:-2])
        except ValueError as error:
            raise OpTypeError(str(error)) from error
        return ((*leading, x[-2], outputs),)

    def contract(self, x: Array, w: Array) -> Array:
        return matmul(x, np.swapaxes(w, -1, -2) if self.transpose_b else w)
