"""Contractions of block floating point: which kernels serve them."""

from __future__ import annotations

from qcompiler.backends.lowering import lowering
from qcompiler.backends.tvm.block_regions import BlockRegion
from qcompiler.backends.tvm.kernel_program import NoLowering, ProgramBuilder, exponent_count
from qcompiler.backends.tvm.lowerings.block_contraction_operands import ConvolutionOperands, convolution_operands
from qcompiler.backends.tvm.lowerings.channel_block_contraction import (
    choose_fixed_kernel,
    choose_float_kernel,
    lower_channel_contraction,
)
from qcompiler.backends.tvm.lowerings.direct_block_contraction import lower_direct_convolution, lower_direct_matmul
from qcompiler.backends.tvm.lowerings.whole_block_contraction import has_whole_exponents, lower_whole_contraction
from qcompiler.ir import Node
from qcompiler.ir.dimension import static_shape
from qcompiler.ops.quantized import resolve


@lowering("tvm-block-root", "conv2d", "conv_transpose2d", "matmul", arithmetic="fixed-point")
def lower_fixed_point_sum(region: BlockRegion, builder: ProgramBuilder) -> None:
    """Sums at one exponent a sample, or at those of blocks of channels."""
    root = region.root
    if has_whole_exponents(root):
        lower_whole_contraction(region, builder)
        return
    operands = convolution_operands(root)
    _refuse_single_dots(root, operands)
    rule = resolve(root.op, root.op.arithmetic)  # type: ignore[attr-defined]
    if operands is None:
        lower_direct_matmul(region, rule, builder)
        return
    chosen = choose_fixed_kernel(region, rule, operands, builder.isa)
    if chosen is None:
        lower_direct_convolution(region, rule, operands, builder)
    else:
        lower_channel_contraction(region, chosen, operands, builder)


@lowering("tvm-block-root", "conv2d", "conv_transpose2d", "matmul", arithmetic="float32")
def lower_float32_sum(region: BlockRegion, builder: ProgramBuilder) -> None:
    """Sums of dots that are rounded to float32."""
    root = region.root
    rule = resolve(root.op, root.op.arithmetic)  # type: ignore[attr-defined]
    operands = convolution_operands(root)
    if operands is None:
        lower_direct_matmul(region, rule, builder)
        return
    chosen = choose_float_kernel(region, rule, operands, builder.isa)
    if chosen is None:
        lower_direct_convolution(region, rule, operands, builder)
    else:
        lower_channel_contraction(region, chosen, operands, builder)


def _refuse_single_dots(root: Node, operands: ConvolutionOperands | None) -> None:
    """Refuse sums at one exponent whose result has several: they are rounded once, not once for each tap."""
    x, w = root.operands[:2]
    is_whole = exponent_count(x) == static_shape(x.type.shape)[0] and exponent_count(w) == 1
    if is_whole and (operands is None or operands.pairs > 1 or any(operands.pads)):
        raise NoLowering(
            "native code has no sums at one exponent whose results have several", layer=root.layer,
            fix="let the accumulator's type have one exponent a tensor",
        )
