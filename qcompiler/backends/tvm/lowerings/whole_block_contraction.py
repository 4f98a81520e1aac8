"""Convolutions and matrix products of block floating point with one exponent a sample."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcompiler.backends.tvm.block_regions import BlockRegion
from qcompiler.backends.tvm.kernel_program import NoLowering, ProgramBuilder, View, exponent_count
from qcompiler.backends.tvm.kernels.direct_contraction import DirectConvolution, DirectMatmul
from qcompiler.backends.tvm.kernels.mantissa_limits import Limits, limit_constants
from qcompiler.backends.tvm.kernels.whole_sum_exponent import ChooseSumExponent, SumExtremes
from qcompiler.backends.tvm.kernels.whole_sum_writing import WriteSums
from qcompiler.backends.tvm.kernels.whole_sums import SumLayout, WholeSums
from qcompiler.backends.tvm.kernels.wide_contraction import ContractionGeometry, WideContraction, wide_contraction
from qcompiler.backends.tvm.lowerings.block_results import finish_region, source_of
from qcompiler.ir import Node
from qcompiler.ir.dimension import static_shape
from qcompiler.numerics.block_arithmetic import FixedPointSum
from qcompiler.numerics.block_format import BlockFormat
from qcompiler.ops.block_conversion import fixed_grid
from qcompiler.ops.block_values import block_float
from qcompiler.ops.constant import constant_tensor, constant_value
from qcompiler.ops.contraction import Conv2D, Conv2DBase, ConvTranspose2D, Matmul
from qcompiler.ops.quantized import resolve

Array = NDArray[Any]

_MOST_TERMS = 1 << 16
"""Weights of an output of which the wide kernels take fewer."""


def has_whole_exponents(root: Node) -> bool:
    """Whether each sample of operand 0 has one exponent, as do operand 1, or each sample of it, and the result's."""
    (x, w), samples = root.operands[:2], _samples(root)
    w_exponents = exponent_count(w)
    return (
        exponent_count(x) == samples == static_shape(x.type.shape)[0] == exponent_count(root.result)
        and (w_exponents == 1 or (w_exponents == samples == static_shape(w.type.shape)[0]))
    )


def lower_whole_contraction(region: BlockRegion, builder: ProgramBuilder) -> None:
    """Partial sums of each sample, then what finishes them in one pass or two.

    Where a normalize finds a new exponent, the first pass looks for the largest sum and the second one computes all of
    them again: that is faster than to store 64 bits for each.
    """
    _Lowering(region, builder).lower()


def _samples(root: Node) -> int:
    return static_shape(root.result.type.shape)[0]


@dataclass
class _Lowering:
    region: BlockRegion
    builder: ProgramBuilder

    @property
    def root(self) -> Node:
        return self.region.root

    def lower(self) -> None:
        region, root = self.region, self.root
        format_ = self._result_format()
        # What the kernels here do not write is finished by others, from sums in memory.
        is_stored = region.conversion is not None and format_ is None
        result = root.result if is_stored else region.result
        limit = None if is_stored else region.limit
        layout, run = self._partial_sums()
        sums, views = self._finishing(layout, limit)
        y, exponents = self.builder.result(result), self._exponents_of(result)
        for sample in range(_samples(root)):
            taken = {**views, "sums": run(sample)}
            taken["x_exponents"] = self.builder.exponents(root.operands[0]).behind(sample)
            w_exponents = self.builder.exponents(root.operands[1])
            taken["w_exponents"] = w_exponents.behind(sample if exponent_count(root.operands[1]) > 1 else 0)
            taken["y_exponents"] = exponents.behind(sample)
            taken["y"] = y.behind(sample * layout.pixels * layout.channels)
            self._finish(sums, taken, None if is_stored else format_, str(result.type.storage.dtype),
                         fixed_grid(result.type) is not None)
        if is_stored:
            finish_region(region, source_of(root.result, self.builder), self.builder)

    def _exponents_of(self, result: Any) -> View:
        if fixed_grid(result.type) is not None:
            return self.builder.exponents(result)
        return self.builder.exponents_result(result)

    def _result_format(self) -> BlockFormat | None:
        """The format of normalized sums that the kernels here write; None for others, or none."""
        region = self.region
        if region.conversion is None or exponent_count(region.result) != _samples(self.root):
            return None
        found = block_float(region.result.type).format
        return found if found.precision is None else None

    def _finish(
        self, sums: WholeSums, views: dict[str, View], format_: BlockFormat | None, stored: str, is_fixed: bool
    ) -> None:
        builder, label = self.builder, self.region.label
        if not is_fixed:
            if format_ is not None:
                views["extremes"] = builder.temporary("int64", 2 * sums.layout.items)
                builder.call_by_name(SumExtremes(sums), views, label)
            builder.call_by_name(ChooseSumExponent(sums, format_), views, label)
        builder.call_by_name(WriteSums(sums, format_, stored), views, label)

    def _finishing(self, layout: SumLayout, limit: Node | None) -> tuple[WholeSums, dict[str, View]]:
        """What is done to sums, and its constants."""
        root, builder = self.root, self.builder
        views: dict[str, View] = {}
        bias = ""
        if len(root.operands) == 3:
            tensor = constant_tensor(root.operands[2])
            if tensor is None:
                raise NoLowering("native code needs a constant bias", layer=root.layer)
            numbers = np.broadcast_to(tensor.data.reshape(-1), (layout.channels,))
            bias = str(numbers.dtype)
            views = {
                "bias": builder.constant(numbers),
                "bias_exponents": builder.constant(tensor.block.exponents.reshape(1)),
            }
        block_format = block_float(root.result.type).format
        limits = None
        if limit is not None:
            ends = limit.op.limits  # type: ignore[attr-defined]
            limits = Limits.of(ends, block_format)
            if limits.arguments():
                views |= {name: builder.constant(array) for name, array in limit_constants(ends).items()}
        rule: FixedPointSum = resolve(root.op, root.op.arithmetic)  # type: ignore[attr-defined]
        return WholeSums(
            layout, bias, block_format.mantissa, rule.overflow, block_format.rounding, rule.fraction,
            block_format.exponent_range[0], limits,
        ), views

    def _partial_sums(self) -> tuple[SumLayout, Callable[[int], View]]:
        """Where partial sums lie, and what makes those of a sample."""
        root = self.root
        weights = _wide_weights(root)
        if weights is not None:
            return self._wide_sums(weights)
        if isinstance(root.op, Matmul):
            return self._direct_matmul()
        return self._direct_convolution()

    def _wide_sums(self, weights: NDArray[np.int16]) -> tuple[SumLayout, Callable[[int], View]]:
        root, builder, label = self.root, self.builder, self.region.label
        x = root.operands[0]
        shape = static_shape(x.type.shape)
        geometry = _geometry(root, weights)
        way = wide_contraction(geometry, weights, builder.isa)
        constants = [{n: builder.constant(a) for n, a in call.constants.items()} for call in way.calls]

        def run(sample: int) -> View:
            source = builder.view(x).behind(sample * prod(shape[1:]))
            high = source
            if way.high_bytes is not None:
                high = builder.temporary(way.high_bytes.result, prod(shape[1:]))
                builder.call_by_name(way.high_bytes, {"input_0": source, "y": high}, label)
            sums = builder.temporary("int32", way.sums.elements)
            for call, known in zip(way.calls, constants, strict=True):
                taken = high if call.takes_high_bytes else source
                builder.call_by_name(call.kernel, {**known, "x": taken, "y": sums.behind(call.offset)}, label)
            return sums

        return _layout(geometry, way), run

    def _direct_convolution(self) -> tuple[SumLayout, Callable[[int], View]]:
        root, builder, op = self.root, self.builder, self.root.op
        assert isinstance(op, Conv2DBase)
        x, w = root.operands[:2]
        weights = constant_value(w)
        if weights is None:
            raise NoLowering("native code needs constant weights of a convolution", layer=root.layer)
        _, *source = static_shape(x.type.shape)
        _, *target = static_shape(root.result.type.shape)
        outputs = weights.shape[0]
        kernel = DirectConvolution(
            (source[0], source[1], source[2]), _dense(source), (target[0], target[1], target[2]), _dense(target),
            (weights.shape[1], weights.shape[2]), op.strides, op.dilations, (op.pads[0], op.pads[1]), op.groups,
            isinstance(op, ConvTranspose2D), str(x.type.storage.dtype), str(weights.dtype), "int64",
        )
        nothing = np.zeros(outputs, np.int64)
        views = {
            "zero_point": builder.constant(nothing[:1]), "weights": builder.constant(weights),
            "bias": builder.constant(nothing),
        }

        def run(sample: int) -> View:
            sums = builder.temporary("int64", prod(target))
            taken = builder.view(x).behind(sample * prod(source))
            builder.call_by_name(kernel, {**views, "x": taken, "accumulator": sums}, self.region.label)
            return sums

        return _plain_layout(prod(target[:-1]), outputs), run

    def _direct_matmul(self) -> tuple[SumLayout, Callable[[int], View]]:
        root, builder, op = self.root, self.builder, self.root.op
        assert isinstance(op, Matmul)
        x, w = root.operands[:2]
        result, x_shape, w_shape = (static_shape(v.type.shape) for v in (root.result, x, w))
        leading, (rows, columns) = result[:-2], result[-2:]
        w_strides = _matrix_strides(w_shape, leading)
        if not op.transpose_b:
            w_strides = (*w_strides[:-2], w_strides[-1], w_strides[-2])
        kernel = DirectMatmul(
            leading, rows, columns, x_shape[-1], _matrix_strides(x_shape, leading), w_strides, prod(x_shape),
            prod(w_shape), str(x.type.storage.dtype), str(w.type.storage.dtype), "int64",
        )
        nothing = builder.constant(np.zeros(columns, np.int64))
        sums = builder.temporary("int64", prod(result))
        views = {
            "x": builder.view(x), "w": builder.view(w), "x_zero_point": nothing, "w_zero_point": nothing,
            "bias": nothing, "accumulator": sums,
        }
        builder.call_by_name(kernel, views, self.region.label)
        each = prod(result[1:])
        return _plain_layout(each // columns, columns), lambda sample: sums.behind(sample * each)


def _wide_weights(root: Node) -> NDArray[np.int16] | None:
    """Weights ``[O, KH, KW, C / groups]`` that the wide kernels take; None where they do not serve this node."""
    x, w = root.operands[:2]
    weights = constant_value(w)
    if weights is None or weights.dtype != np.int16 or x.type.storage.dtype != np.int16:
        return None
    if isinstance(root.op, Matmul):
        if prod(weights.shape[:-2]) != 1 or weights.ndim > x.type.rank:
            return None
        matrix = weights.reshape(weights.shape[-2:])
        weights = np.ascontiguousarray(matrix if root.op.transpose_b else matrix.T)[:, None, None, :]
    elif not isinstance(root.op, Conv2D):
        return None
    return weights if 0 < prod(weights.shape[1:]) < _MOST_TERMS else None


def _geometry(root: Node, weights: NDArray[np.int16]) -> ContractionGeometry:
    _, *sizes, channels = static_shape(root.operands[0].type.shape)
    outputs, height, width, _ = weights.shape
    op = root.op
    if not isinstance(op, Conv2D):
        return ContractionGeometry.of_matrices(prod(sizes), channels, outputs)
    top, left, bottom, right = op.pads
    return ContractionGeometry(
        sizes[0], sizes[1], channels, outputs, (height, width), op.strides, op.dilations, (top, left, bottom, right),
        op.groups,
    )


def _layout(geometry: ContractionGeometry, way: WideContraction) -> SumLayout:
    """Partial sums as the wide kernels lay them out, by pixel and channel."""
    sums, pixels = way.sums, prod(geometry.output_size)
    groups = sums.outer // pixels if sums.outer > 1 else 1
    outputs = geometry.outputs // groups
    row = sums.parts * outputs if sums.outer > 1 else outputs
    return SumLayout(
        pixels, groups, outputs, sums.parts, groups * row, row, sums.inner, "int32", sums.stage
    )


def _plain_layout(pixels: int, outputs: int) -> SumLayout:
    return SumLayout(pixels, 1, outputs, 1, outputs, outputs, 0, "int64", None)


def _dense(sizes: list[int]) -> tuple[int, int, int]:
    return sizes[1] * sizes[2], sizes[2], 1


def _matrix_strides(shape: tuple[int, ...], leading: tuple[int, ...]) -> tuple[int, ...]:
    """Elements between neighbours along each axis of the result's rank; 0 where the operand is broadcast."""
    strides = [prod(shape[i + 1 :]) if size > 1 or i >= len(shape) - 2 else 0 for i, size in enumerate(shape)]
    return (*(0 for _ in range(len(leading) + 2 - len(shape))), *strides)
