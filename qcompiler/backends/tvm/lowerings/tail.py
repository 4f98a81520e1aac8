"""The element-wise steps of a region, behind a contraction or in a kernel of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from numpy.typing import NDArray

from qcompiler.backends.tvm.kernel import Kernel
from qcompiler.backends.tvm.kernel_program import ProgramBuilder, View, shared_arguments
from qcompiler.backends.tvm.kernels.elementwise import elementwise
from qcompiler.backends.tvm.kernels.epilogue import Epilogue, EpilogueInput, InputKind
from qcompiler.backends.tvm.regions import Region, TailInput
from qcompiler.ir import Value
from qcompiler.ir.constant_array import ConstantArray
from qcompiler.ir.dimension import static_shape
from qcompiler.ops.constant import constant_value

Array = NDArray[Any]


@dataclass(frozen=True)
class Tail:
    """Steps behind a contraction.

    Attributes:
        epilogue: what the kernel does with its accumulators.
        constants: the epilogue's scalars and numbers by channel, in order.
        tensors: places of its tensors by the name of the kernel's argument.
    """

    epilogue: Epilogue
    constants: tuple[Array, ...]
    tensors: Mapping[str, View]


def fit_tail(region: Region, builder: ProgramBuilder) -> Tail | None:
    """A region's steps as an epilogue over channels that lie along the last axis; None where they need more."""
    shape = static_shape(region.result.type.shape)
    entries: list[EpilogueInput] = []
    constants: list[Array] = []
    tensors: dict[str, View] = {}
    for number, entry in enumerate(region.inputs[1:], 1):
        array = _constant(entry)
        if array is not None and array.size == 1:
            entries.append(EpilogueInput(InputKind.SCALAR, entry.dtype))
            constants.append(array.reshape(()))
        elif array is not None and array.shape[-1:] == shape[-1:] and array.size == shape[-1]:
            entries.append(EpilogueInput(InputKind.CHANNEL, entry.dtype))
            constants.append(array.reshape(-1))
        elif prod(entry.shape) == prod(shape):
            entries.append(EpilogueInput(InputKind.TENSOR, entry.dtype))
            tensors[f"input_{number}"] = _view(entry, builder)
        else:
            return None
    epilogue = Epilogue(tuple(region.steps), tuple(entries), str(region.result.type.storage.dtype))
    return Tail(epilogue, tuple(constants), tensors)


def lower_elementwise(region: Region, builder: ProgramBuilder, accumulator: View | None = None) -> None:
    """One kernel for all steps of a region.

    Args:
        region: its root is element-wise, or has been computed.
        builder: takes the call.
        accumulator: where the root's result stands, if it is no step itself.
    """
    shape = static_shape(region.result.type.shape)
    views = [
        accumulator if accumulator is not None and entry.source is region.root.result else _view(entry, builder)
        for entry in region.inputs
    ]
    inputs = [(entry.dtype, entry.shape, _constant(entry) is not None) for entry in region.inputs]
    kernel = elementwise(shape, inputs, region.steps, str(region.result.type.storage.dtype))
    builder.call(kernel, [*views, builder.result(region.result)], region.label)


def call_by_name(builder: ProgramBuilder, kernel: Kernel, views: Mapping[str, View], label: str) -> None:
    """A call whose views are given by the names of the kernel's arguments."""
    builder.call(kernel, [views[a.name] for a in shared_arguments(kernel, builder.isa)], label)


def _view(entry: TailInput, builder: ProgramBuilder) -> View:
    if isinstance(entry.source, Value):
        return builder.view(entry.source)
    return builder.constant(entry.source.array)


def _constant(entry: TailInput) -> Array | None:
    return entry.source.array if isinstance(entry.source, ConstantArray) else constant_value(entry.source)
