"""Element-wise nodes run by native code, and by the reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from kernel_harness import run_kernel
from numpy.typing import NDArray

from qcompiler.backends.lowering import find_lowering
from qcompiler.backends.tvm import stages
from qcompiler.backends.tvm.element import Element, Step
from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.kernels.elementwise import elementwise
from qcompiler.ir import Node

Array = NDArray[Any]
assert stages, "registers the lowerings"


def element_of(node: Node, backend: str = "tvm-element") -> Element:
    """What a node computes for each element."""
    found = find_lowering(backend, node.op)
    assert found is not None, f"no lowering of {node.op}"
    element = found(node)
    assert isinstance(element, Element)
    return element


def run_element(
    element: Element, operands: Sequence[Array], shape: tuple[int, ...], dtype: Any, isa: InstructionSet
) -> Array:
    """The element of operands that broadcast to ``shape``, as numbers of ``dtype``."""
    limits = [np.asarray(b, np.int64 if np.dtype(dtype).itemsize == 8 else np.int32) for b in element.bounds or ()]
    arrays = [*operands, *element.constants, *limits]
    step = Step(element.stage, tuple(range(len(arrays))), element.bounds is not None)
    inputs = [(str(a.dtype), a.shape, i >= len(operands)) for i, a in enumerate(arrays)]
    kernel = elementwise(shape, inputs, [step], str(np.dtype(dtype)))
    result = np.zeros(shape, dtype)
    run_kernel(kernel, isa, {**{f"input_{i}": a for i, a in enumerate(arrays)}, "y": result})
    return result


def run_node(node: Node, operands: Sequence[Array], isa: InstructionSet) -> Array:
    """The result of an element-wise node by native code."""
    type = node.result.type
    shape = tuple(int(d) for d in np.broadcast_shapes(*(o.shape for o in operands)))
    return run_element(element_of(node), operands, shape, type.storage.dtype, isa)
