"""Checks that a graph is well formed: def-use links, order, types."""

from __future__ import annotations

import numpy as np

from qcompiler.errors import QCompilerError
from qcompiler.ir.dimension import format_shape
from qcompiler.ir.graph import Graph
from qcompiler.ir.node import Node
from qcompiler.ir.op import Op, OpTypeError
from qcompiler.ir.scalar import F32
from qcompiler.ir.types import Affine, BlockFloat, TensorType, block_grid, fixed_exponents_shape
from qcompiler.ir.value import Value


def verify(graph: Graph) -> None:
    """Check every node of ``graph``, and the bodies of fused nodes.

    Raises:
        QCompilerError: a value is used before it is defined, a use is not recorded, a type is malformed, or result
            types differ from what the op infers; names the layer.
    """
    defined: set[Value] = set(graph.inputs)
    checked: set[TensorType] = set()
    for value in graph.inputs:
        _check_type(value.type, f"input {value.name}", checked)
        _check_uses(value, f"input {value.name}")
    for node in graph.nodes:
        _check_links(node, defined)
        for value in node.results:
            _check_type(value.type, node.layer, checked)
            if value.producer is not node:
                raise QCompilerError(f"a result of {node.op.name} names another producer", layer=node.layer)
        _check_types(node)
        body = getattr(node.op, "body", None)
        if isinstance(body, Graph):
            verify(body)
        defined.update(node.results)
    for index, output in enumerate(graph.outputs):
        if output.value not in defined:
            raise QCompilerError(f"output {output.name!r} returns a value that the graph does not define")
        if (graph.terminator, index) not in output.value.uses:
            raise QCompilerError(f"output {output.name!r} is not recorded among the uses of its value")


def _check_links(node: Node, defined: set[Value]) -> None:
    for index, value in enumerate(node.operands):
        if value not in defined:
            raise QCompilerError(f"operand {index} of {node.op.name} is used before it is defined", layer=node.layer)
        if (node, index) not in value.uses:
            raise QCompilerError(f"operand {index} of {node.op.name} is missing among its uses", layer=node.layer)
    for value in node.results:
        _check_uses(value, node.layer)


def _check_uses(value: Value, layer: str) -> None:
    for user, index in value.uses:
        if user.operand(index) is not value:
            raise QCompilerError("a value records a use that does not exist", layer=layer, found=repr(user))


def _check_types(node: Node) -> None:
    operands = [v.type for v in node.operands]
    results = [v.type for v in node.results]
    op: Op = node.op
    try:
        shapes, elems = op.infer_shapes(operands), op.result_elems(operands)
        op.check(operands, results)
    except OpTypeError as error:
        raise QCompilerError(f"{op.name}: {error}", layer=node.layer) from error
    if len(shapes) != len(results):
        raise QCompilerError(f"{op.name} has {len(results)} results", layer=node.layer, expected=str(len(shapes)))
    for result, shape, elem in zip(results, shapes, elems, strict=True):
        inferred = TensorType(shape, result.elem if elem is None else elem)
        if inferred != result:
            raise QCompilerError(
                f"{op.name} has a result type that its operands do not give",
                layer=node.layer, expected=str(inferred), found=str(result),
            )


def _check_type(type: TensorType, layer: str, checked: set[TensorType]) -> None:
    if type in checked:
        return
    checked.add(type)
    elem = type.elem
    if isinstance(elem, BlockFloat):
        _check_block_float(type, elem, layer)
    if not isinstance(elem, Affine):
        return
    try:
        grid = block_grid(type.shape, elem.blocks)
    except ValueError as error:
        raise QCompilerError(f"malformed type {type}: {error}", layer=layer) from error
    if elem.scale.shape != grid or elem.zero_point.shape != grid:
        # Such a type has no text.
        raise QCompilerError(
            f"type of {elem.storage}{format_shape(type.shape)} has scales of shape {elem.scale.shape} and zero "
            f"points of shape {elem.zero_point.shape} for a block grid of {grid}", layer=layer,
        )
    problem = None
    if elem.scale.array.dtype != F32.dtype:
        problem = "a scale that is not float32"
    elif not ((elem.scale.array > 0) & np.isfinite(elem.scale.array)).all():
        problem = "a scale that is not positive and finite"
    elif not elem.storage.is_integer:
        problem = "a storage format that is not an integer"
    elif not elem.storage.minimum <= elem.qmin <= elem.qmax <= elem.storage.maximum:
        problem = f"bounds [{elem.qmin},{elem.qmax}] outside {elem.storage}"
    elif elem.zero_point.array.size and not (
        elem.storage.minimum <= elem.zero_point.array.min() <= elem.zero_point.array.max() <= elem.storage.maximum
    ):
        problem = "a zero point outside its storage format"
    if problem:
        raise QCompilerError(f"type {type} has {problem}", layer=layer)


def _check_block_float(type: TensorType, elem: BlockFloat, layer: str) -> None:
    try:
        grid = fixed_exponents_shape(type.shape, elem.blocks)
    except ValueError as error:
        raise QCompilerError(f"malformed type {type}: {error}", layer=layer) from error
    if elem.exponents is None:
        return
    found, (lowest, highest) = elem.exponents.array, elem.format.exponent_range
    if found.shape not in (grid, (1,) * len(grid)) or found.dtype != np.int32:
        # Such a type has no text.
        raise QCompilerError(
            f"a type of shape {format_shape(type.shape)} fixes {found.dtype} exponents of shape {found.shape}",
            layer=layer, expected=f"int32, one, or one for each block: {grid}",
        )
    if found.size and not lowest <= found.min() <= found.max() <= highest:
        raise QCompilerError(
            f"type {type} fixes exponents outside its format", layer=layer, expected=f"{lowest} to {highest}"
        )
