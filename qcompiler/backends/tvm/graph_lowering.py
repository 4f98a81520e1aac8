"""From a legalized program to calls of kernels."""

from __future__ import annotations

import re

from qcompiler.analysis.boundary import before_dequantize
from qcompiler.analysis.sample_order import samples_in_order
from qcompiler.backends.lowering import find_lowering
from qcompiler.backends.tvm import lowerings as _lowerings
from qcompiler.backends.tvm.block_regions import BlockRegion
from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.kernel_program import KernelProgram, NoLowering, ProgramBuilder, elements, is_block
from qcompiler.backends.tvm.kernels.table import ByteLookup
from qcompiler.backends.tvm.lowerings.tail import lower_elementwise
from qcompiler.backends.tvm.program_source import Interface, TensorDescription
from qcompiler.backends.tvm.regions import Region, form_regions
from qcompiler.backends.tvm.tile_choices import TileChoices
from qcompiler.ir import BlockFloat, Graph, SymbolicDim, TensorType, Value, clone
from qcompiler.ir.clone import inline_bodies
from qcompiler.ir.dimension import static_shape
from qcompiler.ir.types import block_float_grid
from qcompiler.ops.constant import constant_value

del _lowerings


def lower_program(
    graph: Graph, isa: InstructionSet, tiles: TileChoices | None = None
) -> tuple[KernelProgram, Interface]:
    """The calls that compute a program for one sample, and what callers see of it.

    Args:
        graph: a legalized program; every output of one with a free batch has the samples along its first axis.
        isa: what the kernels may use.
        tiles: measured tiles of convolutions; the user's by default.

    Raises:
        NoLowering: an op has no native form; or the program's outputs cannot be computed sample by sample.
    """
    one = one_sample(graph)
    builder = ProgramBuilder(isa, tiles)
    for value in one.inputs:
        builder.add_input(value)
    stored = [before_dequantize(o.value) for o in one.outputs]
    kept = frozenset([*stored, *(o.value for o in one.outputs)])
    for region in form_regions(one, kept, isinstance(isa, ByteLookup)):
        if isinstance(region, BlockRegion):
            lower_block_region(region, builder)
        else:
            lower_region(region, builder)
    for output, integers in zip(one.outputs, stored, strict=True):
        builder.add_output(output.value, integers)
    return builder.finish(), _interface(graph, one, stored)


def one_sample(graph: Graph) -> Graph:
    """A copy of a program for a batch of one, without fused bodies.

    Raises:
        NoLowering: an input or output does not have the samples along its first axis, one after the other.
    """
    symbols = {d.symbol for v in graph.inputs for d in v.type.shape if isinstance(d, SymbolicDim)}
    if symbols:
        for value in graph.inputs:
            if value.type.carries_batch and not _is_batched(value.type):
                raise NoLowering(
                    f"input {value.name!r} does not have the samples along its first axis", found=str(value.type),
                    fix="fix the batch with --batch",
                )
        for output in graph.outputs:
            if not _is_batched(output.value.type) and constant_value(output.value) is None:
                raise NoLowering(
                    f"output {output.name!r} does not have the samples along its first axis",
                    found=str(output.value.type), fix="fix the batch with --batch",
                )
        if not samples_in_order(graph):
            raise NoLowering(
                "the program mixes samples of a batch: it pairs them, or joins an axis with the batch behind it",
                expected="outputs that hold one sample after the other", fix="fix the batch with --batch",
            )
    one = clone(graph, dict.fromkeys(symbols, 1))
    inline_bodies(one)
    return one


def lower_region(region: Region, builder: ProgramBuilder) -> None:
    """Add the calls of one region.

    Raises:
        NoLowering: its op has no native form.
    """
    root = region.root
    if len(root.results) == 1 and not elements(region.result):
        # Nothing to compute. An op with several results sees to the empty ones itself.
        builder.result(region.stored)
        return
    if region.is_elementwise:
        lower_elementwise(region, builder)
        return
    with_tail = find_lowering("tvm-root", root.op)
    if with_tail is not None:
        with_tail(region, builder)
        return
    alone = find_lowering("tvm", root.op)
    if alone is None:
        raise NoLowering(
            f"native code has no form of op {root.op.name!r}", layer=root.layer,
            fix="run the program with the reference backend, or register a lowering for backend 'tvm'",
        )
    alone(root, builder)


def lower_block_region(region: BlockRegion, builder: ProgramBuilder) -> None:
    """Add the calls of one region of block floating point.

    Raises:
        NoLowering: its op has no native form.
    """
    root = region.root
    if len(root.results) == 1 and not elements(region.result):
        builder.result(region.result)
        if is_block(region.result):
            builder.exponents_result(region.result)
        return
    with_tail = find_lowering("tvm-block-root", root.op)
    alone = find_lowering("tvm-block", root.op)
    if with_tail is not None:
        with_tail(region, builder)
    elif alone is not None:
        alone(root, builder)
    else:
        raise NoLowering(
            f"native code has no form of op {root.op.name!r} on block floating point", layer=root.layer,
            fix="run the program with the reference backend, or register a lowering for backend 'tvm-block'",
        )


def _is_batched(type: TensorType) -> bool:
    return bool(type.shape) and isinstance(type.shape[0], SymbolicDim)


def _interface(graph: Graph, one: Graph, stored: list[Value]) -> Interface:
    name = re.sub(r"\W", "_", graph.name, flags=re.ASCII)
    return Interface(
        # The runtime's own names begin so.
        name if re.match(r"(?!qcompiler)[A-Za-z_]", name) else f"_{name}",
        tuple(_describe(v.name, v, b.type) for v, b in zip(one.inputs, graph.inputs, strict=True)),
        tuple(_describe(o.name, o.value, b.value.type) for o, b in zip(one.outputs, graph.outputs, strict=True)),
        tuple(
            _describe(o.name, v, b.value.type) for o, v, b in zip(one.outputs, stored, graph.outputs, strict=True)
        ),
        tuple(
            _describe_exponents(o.name, v, b.value.type)
            for o, v, b in zip(one.outputs, stored, graph.outputs, strict=True)
        ),
    )


def _describe_exponents(name: str, value: Value, symbolic: TensorType) -> TensorDescription | None:
    """The exponents of a value; None where it is no block floating point."""
    elem = value.type.elem
    if not isinstance(elem, BlockFloat):
        return None
    grid = static_shape(block_float_grid(value.type.shape, elem.blocks))
    return TensorDescription(name, "int32", grid, _is_batched(symbolic))


def _describe(name: str, value: Value, symbolic: TensorType) -> TensorDescription:
    return TensorDescription(
        name, str(value.type.storage.dtype), static_shape(value.type.shape), _is_batched(symbolic)
    )
