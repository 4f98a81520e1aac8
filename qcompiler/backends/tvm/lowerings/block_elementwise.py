"""Sums, differences, products and selections of two values of block floating point."""

from __future__ import annotations

from qcompiler.backends.lowering import lowering
from qcompiler.backends.tvm.block_regions import BlockRegion
from qcompiler.backends.tvm.kernel_program import ProgramBuilder
from qcompiler.backends.tvm.kernels.mantissa_addressing import address
from qcompiler.backends.tvm.kernels.mantissa_pair import PairSource
from qcompiler.backends.tvm.lowerings.block_exponents import lower_pair_exponents
from qcompiler.backends.tvm.lowerings.block_results import SourceViews, finish_region, stored_value, tensor_views
from qcompiler.ir.dimension import static_shape
from qcompiler.ops.block_values import block_float, blocks_of


@lowering("tvm-block-root", "add", "sub", arithmetic="align-larger")
def lower_sum(region: BlockRegion, builder: ProgramBuilder) -> None:
    """Operands meet at the largest exponent of the result's block."""
    lower_pair(region, builder)


@lowering("tvm-block-root", "mul", arithmetic="exact-product")
def lower_product(region: BlockRegion, builder: ProgramBuilder) -> None:
    """Products of mantissas at sums of exponents."""
    lower_pair(region, builder)


@lowering("tvm-block-root", "maximum", "minimum")
def lower_pair(region: BlockRegion, builder: ProgramBuilder) -> None:
    """The exponents at which two operands meet, then their function; see ``PairSource``."""
    root = region.root
    a, b = root.operands
    shape, function = static_shape(root.result.type.shape), root.op.name
    met = lower_pair_exponents(
        root.result, [a, b], "sum" if function == "mul" else "max", builder, region.label
    )
    source = PairSource(
        shape, function, stored_value(a, shape), stored_value(b, shape),
        address(shape, blocks_of(root.result.type), shape), block_float(root.result.type).format.rounding,
    )
    views = {**tensor_views("a", a, builder), **tensor_views("b", b, builder), "met_exponents": met}
    finish_region(region, SourceViews(source, views), builder)
