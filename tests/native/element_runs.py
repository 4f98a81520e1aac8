"""Element-wise nodes run by native code, and by the reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from kernel_harness import Array, run_kernel

from qcompiler.backends.lowering import find_lowering
from qcompiler.backends.tvm import stages
from qcompiler.backends.tvm.element import Element, Step
from qcompiler.backends.tvm.instruction_set import InstructionSet
from qcompiler.backends.tvm.kernels.elementwise import elementwise
from qcompiler.ir import Affine, Builder, Graph, Node, Op, Scalar, Tensor, TensorType
from qcompiler.ops.fused import evaluate_node

assert stages, "registers the lowerings"


def node_of(op: Op, types: Sequence[TensorType], result: Affine | Scalar | None = None) -> Node:
    """A node on operands of these types."""
    graph = Graph("elements")
    operands = [graph.add_input(f"x{i}", type) for i, type in enumerate(types)]
    node = Builder(graph)(op, *operands, elem=result).producer
    assert node is not None
    return node


def element_of(node: Node, backend: str = "tvm-element") -> Element:
    """What a node computes for each element."""
    found = find_lowering(backend, node.op)
    assert found is not None, f"no lowering of {node.op}"
    element = found(node)
    assert isinstance(element, Element)
    return element


def run_element(
    element: Element, operands: Sequence[Array], shape: tuple[int, ...], dtype: Any, isa: InstructionSet,
    scalar: bool = False,
) -> Array:
    """The element of operands that broadcast to ``shape``, as numbers of ``dtype``.

    Args:
        element: what is computed.
        operands: stored numbers.
        shape: of the result.
        dtype: of the result.
        isa: what it is compiled for.
        scalar: compute one number at a time: the result is taken as columns of one number.
    """
    limits = [np.asarray(b, np.int64 if np.dtype(dtype).itemsize == 8 else np.int32) for b in element.bounds or ()]
    arrays = [np.asarray(a) for a in (*operands, *element.constants, *limits)]
    step = Step(element.stage, tuple(range(len(arrays))), element.bounds is not None)
    if scalar:
        # Rows of two equal numbers are too short for vectors, and constants keep them from being merged.
        arrays = [np.repeat(a[..., None], 2, -1) for a in arrays]
        shape = (*shape, 2)
    inputs = [(str(a.dtype), a.shape, i >= len(operands)) for i, a in enumerate(arrays)]
    kernel = elementwise(shape, inputs, [step], str(np.dtype(dtype)))
    assert not scalar or kernel.shape[-1] == 2
    result = np.zeros(shape, dtype)
    run_kernel(kernel, isa, {**{f"input_{i}": a for i, a in enumerate(arrays)}, "y": result})
    if scalar:
        assert (result[..., 0] == result[..., 1]).all()
        return np.asarray(result[..., 0])
    return result


def run_node(node: Node, operands: Sequence[Array], isa: InstructionSet) -> Array:
    """The result of an element-wise node by native code."""
    shape = np.broadcast_shapes(*(o.shape for o in operands))
    return run_element(element_of(node), operands, shape, node.result.type.storage.dtype, isa)


def evaluate(node: Node, operands: Sequence[Array]) -> Array:
    """The result of a node by the reference."""
    values = {v: Tensor(v.type, a) for v, a in zip(node.operands, operands, strict=True)}
    evaluate_node(node, values, {})
    return values[node.result].data
