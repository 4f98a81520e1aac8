"""Convolutions and matrix products of 16-bit activations with constant weights.

Where a proof shows that no sum leaves 32 bits, one kernel does it all, as with bytes. Else sums are formed in parts of
32 bits (``kernels/wide_contraction``), put together in 64, and finished by steps of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qcompiler.analysis.accumulators import accumulator_bounds
from qcompiler.backends.tvm.element import Stage, Step
from qcompiler.backends.tvm.kernel import Kernel
from qcompiler.backends.tvm.kernel_program import ProgramBuilder, View
from qcompiler.backends.tvm.kernels.contraction import Convolution, Tile
from qcompiler.backends.tvm.kernels.contraction_tiles import choose_tile
from qcompiler.backends.tvm.kernels.contraction_weights import pack_channels, pack_constants
from qcompiler.backends.tvm.kernels.depthwise import Depthwise
from qcompiler.backends.tvm.kernels.elementwise import elementwise
from qcompiler.backends.tvm.kernels.epilogue import Epilogue
from qcompiler.backends.tvm.kernels.wide_contraction import ContractionGeometry, wide_contraction
from qcompiler.backends.tvm.kernels.wide_kernel import WideKernel
from qcompiler.backends.tvm.lanes import Expr, convert, literal_like
from qcompiler.backends.tvm.lowerings.tail import call_with_steps, epilogue_of, lower_elementwise
from qcompiler.backends.tvm.regions import Region
from qcompiler.ir import Node
from qcompiler.ir.dimension import static_shape
from qcompiler.ir.scalar import I16, I32, I64, U16
from qcompiler.ops.constant import constant_value
from qcompiler.ops.contraction import Contraction, Conv2D, Matmul
from qcompiler.ops.quantized import affine

Array = NDArray[Any]

_MIDDLE = 1 << 15
"""What is taken off unsigned activations, so that they are int16."""
_LARGEST_SUM = (1 << 31) - 1
_MOST_TERMS = 1 << 16
"""Weights of an output of which the kernels for parts take fewer."""


@dataclass(frozen=True)
class Int16Contraction:
    """A contraction as the kernels for numbers of 16 bits take it.

    Attributes:
        geometry: of one sample.
        samples: how many.
        weights: int16 ``[outputs, kernel height, kernel width, channels / groups]``.
        bias: int64 ``[outputs]``.
        zero_point: of the activations as int16.
        unsigned: whether they are stored as uint16.
    """

    geometry: ContractionGeometry
    samples: int
    weights: NDArray[np.int16]
    bias: NDArray[np.int64]
    zero_point: int
    unsigned: bool

    @staticmethod
    def of(node: Node) -> Int16Contraction | None:
        """A node's contraction; None where the kernels do not serve it."""
        op, x = node.op, node.operands[0].type
        assert isinstance(op, Contraction)
        weights, bias = _weights(node), _bias(node)
        if weights is None or bias is None or x.storage not in (I16, U16):
            return None
        if node.result.type.storage not in (I32, I64):
            return None
        outputs, height, width, _ = weights.shape
        shape = static_shape(x.shape)
        if isinstance(op, Conv2D):
            top, left, bottom, right = op.pads
            geometry = ContractionGeometry(
                shape[1], shape[2], shape[3], outputs, (height, width), op.strides, op.dilations,
                (top, left, bottom, right), op.groups,
            )
            samples = shape[0]
        else:
            geometry, samples = ContractionGeometry.of_matrices(prod(shape[:-1]), shape[-1], outputs), 1
        unsigned = x.storage == U16
        zero_point = int(affine(x).zero_point.array) - (_MIDDLE if unsigned else 0)
        return Int16Contraction(geometry, samples, weights, bias, zero_point, unsigned)

    @property
    def folded_bias(self) -> NDArray[np.int64]:
        """The bias less what the zero point contributes, to which products of the int16 activations are added."""
        sums = self.weights.reshape(len(self.weights), -1).sum(1, dtype=np.int64)
        folded: NDArray[np.int64] = self.bias - self.zero_point * sums
        return folded

    def fits_int32(self, node: Node) -> bool:
        """Whether neither the sums nor anything on the way to them leaves 32 bits."""
        magnitudes = np.abs(self.weights.astype(np.int64)).reshape(len(self.weights), -1).sum(1)
        on_the_way = np.abs(self.folded_bias) + (magnitudes << 15)
        return bool(on_the_way.max() <= _LARGEST_SUM) and bool(accumulator_bounds(node).max() <= _LARGEST_SUM)

    @property
    def serves_parts(self) -> bool:
        """Whether sums can be formed in parts: padding is then 0."""
        inside = prod(self.weights.shape[1:]) < _MOST_TERMS
        return inside and (self.zero_point == 0 or not any(self.geometry.pads))


def lower_int16_contraction(region: Region, builder: ProgramBuilder) -> bool:
    """Add the calls of a region whose root multiplies 16-bit activations by constants.

    Returns:
        whether it did; where it did not, sums have to be formed as they are defined.
    """
    found, epilogue = Int16Contraction.of(region.root), epilogue_of(region)
    if found is None or not found.weights.size:
        return False
    if epilogue is not None and found.fits_int32(region.root):
        _lower_whole(region, builder, found, epilogue)
        return True
    if not found.serves_parts:
        return False
    _lower_parts(region, builder, found)
    return True


def _lower_whole(region: Region, builder: ProgramBuilder, found: Int16Contraction, epilogue: Epilogue) -> None:
    """One kernel a sample."""
    isa, geometry = builder.isa.wide, found.geometry
    pack: Callable[[Array], Array]
    kernel: Kernel
    bias = found.bias.astype(np.int32)
    if geometry.is_depthwise:
        kernel = depthwise = Depthwise(
            geometry.height, geometry.width, geometry.channels, geometry.kernel, geometry.strides, geometry.dilations,
            geometry.pads, "int16", epilogue,
        )
        packed = depthwise.pack(found.weights[..., 0], bias, found.zero_point, isa)
        constants = dict(zip(("weights", "bias", "fill"), packed, strict=False))
        pack = partial(depthwise.pack_channels, isa=isa)
    else:
        shape = Convolution(
            geometry.height, geometry.width, geometry.channels, geometry.outputs, geometry.kernel, geometry.strides,
            geometry.dilations, geometry.pads, geometry.groups, "int16", epilogue, Tile(1, 1),
        )
        kernel = convolution = replace(shape, tile=choose_tile(shape, isa))
        constants = pack_constants(convolution, isa, found.weights, bias, found.zero_point)
        pack = partial(pack_channels, convolution, isa)
    views = {name: builder.constant(array) for name, array in constants.items()}
    views["x"] = _activations(region, builder, found)
    call_with_steps(builder, WideKernel(kernel), views, region, pack, found.samples)


def _lower_parts(region: Region, builder: ProgramBuilder, found: Int16Contraction) -> None:
    """Partial sums of each sample, then the sums in 64 bits, then the steps."""
    root, geometry = region.root, found.geometry
    way = wide_contraction(geometry, found.weights, builder.isa)
    constants = [{n: builder.constant(a) for n, a in call.constants.items()} for call in way.calls]
    x = _activations(region, builder, found)
    each = geometry.height * geometry.width * geometry.channels
    partial_sums = builder.temporary("int32", found.samples * way.sums.elements)
    for sample in range(found.samples):
        source = x.behind(sample * each)
        high = source
        if way.high_bytes is not None:
            high = builder.temporary(way.high_bytes.result, each)
            builder.call_by_name(way.high_bytes, {"input_0": source, "y": high}, region.label)
        sums = partial_sums.behind(sample * way.sums.elements)
        for call, known in zip(way.calls, constants, strict=True):
            taken = high if call.takes_high_bytes else source
            builder.call_by_name(call.kernel, {**known, "x": taken, "y": sums.behind(call.offset)}, region.label)
    results = static_shape(root.result.type.shape)
    products = builder.temporary("int64", prod(results))
    views = [partial_sums.behind(offset) for offset in way.sums.offsets]
    builder.call(way.sums.combination(found.samples), [*views, products], region.label)
    storage = str(root.result.type.storage.dtype)
    totals = builder.temporary(storage, prod(results)) if region.steps else builder.result(root.result)
    inputs = [("int64", results, False), ("int64", (results[-1],), True)]
    add = elementwise(results, inputs, (Step(AddBias(storage), (0, 1)),), storage)
    builder.call(add, [products, builder.constant(found.folded_bias), totals], region.label)
    if region.steps:
        lower_elementwise(region, builder, totals)


def _activations(region: Region, builder: ProgramBuilder, found: Int16Contraction) -> View:
    """The activations as int16."""
    view = builder.view(region.root.operands[0])
    if not found.unsigned:
        return view
    count = prod(static_shape(region.root.operands[0].type.shape))
    signed = builder.temporary("int16", count)
    kernel = elementwise((count,), [("uint16", (count,), False)], (Step(ToSigned(), (0,)),), "int16")
    builder.call(kernel, [view, signed], region.label)
    return signed


@dataclass(frozen=True)
class ToSigned(Stage):
    """Unsigned numbers of 16 bits less 2**15."""

    def expression(self, operands: Sequence[Expr]) -> Expr:
        (x,) = operands
        return x - literal_like(_MIDDLE, x)


@dataclass(frozen=True)
class AddBias(Stage):
    """int64 sums of products and their channel's bias.

    Attributes:
        result: format of the total, which it fits.
    """

    result: str

    def expression(self, operands: Sequence[Expr]) -> Expr:
        products, bias = operands
        return convert(products + bias, self.result)


def _weights(node: Node) -> NDArray[np.int16] | None:
    """Weights less their zero point, ``[O, KH, KW, C / groups]``; None where they do not serve."""
    op, w = node.op, node.operands[1]
    stored = constant_value(w)
    assert isinstance(op, Contraction)
    if stored is None:
        return None
    whole = op.integer_weights(w.type, stored)
    weights = whole.astype(np.int16)
    if (weights != whole).any():
        return None
    if isinstance(op, Conv2D):
        return weights if op.layout == "NHWC" else None
    if isinstance(op, Matmul) and prod(weights.shape[:-2]) == 1 and weights.ndim <= node.operands[0].type.rank:
        matrix = weights.reshape(weights.shape[-2:])
        return np.ascontiguousarray(matrix if op.transpose_b else matrix.T)[:, None, None, :]
    return None


def _bias(node: Node) -> NDArray[np.int64] | None:
    """The bias, zeros where there is none; None where it is computed."""
    outputs = static_shape(node.result.type.shape)
    if len(node.operands) < 3:
        assert isinstance(node.op, Contraction)
        return np.zeros(outputs[node.op.result_channel_axis(len(outputs))], np.int64)
    bias = constant_value(node.operands[2])
    return None if bias is None else bias.astype(np.int64)

