"""Conversions into, between and out of block formats, and limits."""

from __future__ import annotations

from qcompiler.backends.lowering import lowering
from qcompiler.backends.tvm.block_regions import BlockRegion, label_of
from qcompiler.backends.tvm.kernel_program import ProgramBuilder
from qcompiler.backends.tvm.kernels.mantissa_addressing import merged
from qcompiler.backends.tvm.kernels.mantissa_reals import WriteReals
from qcompiler.backends.tvm.lowerings.block_results import source_of, write_result
from qcompiler.ir import Node


@lowering("tvm-block", "to_block", "normalize")
def lower_conversion(node: Node, builder: ProgramBuilder) -> None:
    """Mantissas and exponents by the rules of the result's format."""
    write_result(source_of(node.operands[0], builder), None, node, node.result, builder, label_of([node]))


@lowering("tvm-block-root", "relu", "clip")
def lower_limit(region: BlockRegion, builder: ProgramBuilder) -> None:
    """Limited mantissas, which a conversion may take over."""
    found = source_of(region.root.operands[0], builder)
    write_result(found, region.root, region.conversion, region.result, builder, region.label)


@lowering("tvm-block", "from_block")
def lower_reals(node: Node, builder: ProgramBuilder) -> None:
    """Real numbers."""
    found = source_of(node.operands[0], builder)
    shape, addresses = merged(found.source.shape, found.source.addresses)
    kernel = WriteReals(found.source.readdressed(shape, addresses))
    builder.call_by_name(kernel, {**found.views, "y": builder.result(node.result)}, label_of([node]))
