"""The element-wise steps of a region, behind a root or in a kernel of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

from numpy.typing import NDArray

from qcompiler.backends.tvm.kernel import Kernel
from qcompiler.backends.tvm.kernel_program import ProgramBuilder, View
from qcompiler.backends.tvm.kernels.elementwise import elementwise
from qcompiler.backends.tvm.kernels.epilogue import Epilogue, EpilogueInput, InputKind
from qcompiler.backends.tvm.regions import Region, TailInput
from qcompiler.ir import Node, Value
from qcompiler.ir.dimension import static_shape
from qcompiler.ops.table import LookupTable

Array = NDArray[Any]


def epilogue_of(region: Region) -> Epilogue | None:
    """A region's steps behind its root; None where they take numbers that an epilogue has no place for."""
    shape = static_shape(region.result.type.shape)
    kinds = [entry.kind(shape) for entry in region.inputs[1:]]
    entries = tuple(
        EpilogueInput(kind, entry.dtype)
        for kind, entry in zip(kinds, region.inputs[1:], strict=True)
        if kind is not None
    )
    if None in kinds:
        return None
    table = "" if region.table is None else str(region.stored.type.storage.dtype)
    return Epilogue(tuple(region.steps), entries, str(region.result.type.storage.dtype), table)


def call_with_steps(
    builder: ProgramBuilder,
    kernel: Kernel,
    views: Mapping[str, View],
    region: Region,
    pack_channels: Callable[[Array], Array],
    samples: int = 1,
) -> None:
    """Call a kernel that runs a region's steps, once for each sample of a fixed batch.

    Args:
        builder: takes the calls.
        kernel: its arguments ``input_1`` and so on are those of the epilogue, ``x`` and ``y`` operand and result.
        views: what it takes but for the epilogue's inputs and the result.
        region: the steps.
        pack_channels: puts constants by channel into the kernel's order.
        samples: how many the operand holds.
    """
    shape = static_shape(region.result.type.shape)
    found = {**views, "y": builder.result(region.stored)}
    if region.table is not None:
        assert isinstance(region.table.op, LookupTable)
        found["table"] = builder.constant(region.table.op.table.array)
    moving = {"x": prod(static_shape(region.root.operands[0].type.shape)), "y": prod(shape)}
    for number, entry in enumerate(region.inputs[1:], 1):
        name, kind, array = f"input_{number}", entry.kind(shape), entry.array
        if kind is InputKind.TENSOR or array is None:
            found[name] = view_of(entry, builder)
            moving[name] = prod(shape)
        else:
            flat = array.reshape(-1)
            found[name] = builder.constant(pack_channels(flat) if kind is InputKind.CHANNEL else flat)
    for sample in range(samples):
        moved = {name: found[name].behind(sample * (count // samples)) for name, count in moving.items()}
        builder.call_by_name(kernel, found | moved, region.label)


def lower_elementwise(region: Region, builder: ProgramBuilder, accumulator: View | None = None) -> None:
    """One kernel for all steps of a region.

    Args:
        region: its root is element-wise, or has been computed.
        builder: takes the call.
        accumulator: where the root's result stands, if it is no step itself.
    """
    shape = static_shape(region.result.type.shape)
    views = [accumulator if e.source is None and accumulator else view_of(e, builder) for e in region.inputs]
    inputs = [(entry.dtype, entry.shape, entry.array is not None) for entry in region.inputs]
    kernel = elementwise(shape, inputs, region.steps, str(region.result.type.storage.dtype))
    builder.call(kernel, [*views, builder.result(region.result)], region.label)


def view_of(entry: TailInput, builder: ProgramBuilder) -> View:
    """Where an input of a region's steps stands."""
    if isinstance(entry.source, Value):
        return builder.view(entry.source)
    assert entry.array is not None
    return builder.constant(entry.array)


def layers(node: Node) -> str:
    """The user's layers that a node stems from; the op where there are none."""
    return node.layer or node.op.name
