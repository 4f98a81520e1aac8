"""From a program to what the page shows of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from qcompiler.compare import ValueDifference
from qcompiler.ir import (
    Affine,
    BlockFloat,
    ConstantArray,
    Constants,
    Fact,
    Graph,
    Node,
    Original,
    Scalar,
    TensorType,
    Value,
    print_node,
    value_names,
)
from qcompiler.ir.dimension import format_shape
from qcompiler.ops.block_conversion import FakeBlock, FromBlock, Normalize, ToBlock
from qcompiler.ops.block_values import block_float
from qcompiler.ops.constant import Constant, constant_tensor, constant_value
from qcompiler.ops.fused import Fused
from qcompiler.ops.quantization import Dequantize, FakeQuant, Quantize, Requantize
from qcompiler.report.constant_text import describe_array, describe_constant, describe_quantization
from qcompiler.report.drawing import draw
from qcompiler.report.page_data import ErrorFigure, NodeData, Part, Stage, ValueData

Errors = dict[str, ValueDifference]

_CONVERSIONS = (Quantize, Dequantize, Requantize, FakeQuant, ToBlock, FromBlock, Normalize, FakeBlock)


def collect_stage(graph: Graph, title: str, differences: Iterable[ValueDifference] = ()) -> Stage:
    """Everything that the page shows of ``graph``.

    Constants are no boxes: they are listed with the nodes that use them.

    Args:
        graph: a program at any stage.
        title: what the page calls it, such as its file name.
        differences: errors of its values against float, from :func:`qcompiler.compare.compare`.
    """
    errors = {d.name: d for d in differences}
    names = value_names(graph)
    nodes = [_input_box(value, names, errors) for value in graph.inputs]
    box_of: dict[Value, int] = {value: index for index, value in enumerate(graph.inputs)}
    edges: list[tuple[int, int]] = []
    for node in graph.nodes:
        if isinstance(node.op, Constant):
            continue
        index = len(nodes)
        nodes.append(_node_box(node, names, errors))
        edges.extend((box_of[v], index) for v in dict.fromkeys(node.operands) if v in box_of)
        box_of.update(dict.fromkeys(node.results, index))
    for output in graph.outputs:
        if output.value in box_of:
            edges.append((box_of[output.value], len(nodes)))
        nodes.append(_output_box(output.name, output.value, names, errors))
    subtitle = f"{graph.name} for {graph.target}" if graph.target else graph.name
    return draw(title, subtitle, nodes, list(dict.fromkeys(edges)))


# Boxes


def _input_box(value: Value, names: dict[Value, str], errors: Errors) -> NodeData:
    result = _value(value, names, errors)
    return NodeData(value.name, ["input"], "boundary", _short_type(value.type), [], f"{names[value]}: {value.type}",
                    results=[result], parts=[Part("input", result.original or value.name, str(value.type))])


def _output_box(name: str, value: Value, names: dict[Value, str], errors: Errors) -> NodeData:
    return NodeData(name, ["output"], "boundary", _short_type(value.type), [], f"return {names[value]}",
                    operands=[_value(value, names, errors)], parts=[Part("output", name, str(value.type))])


def _node_box(node: Node, names: dict[Value, str], errors: Errors) -> NodeData:
    body = node.op.body.nodes if isinstance(node.op, Fused) else iter((node,))
    parts = [part for part in body if not isinstance(part.op, Constant)]
    results = [_value(value, names, errors) for value in node.results]
    if isinstance(node.op, FakeQuant) and node.op.is_calibrated:
        results[0].facts.extend(describe_quantization(node.op.elem))
    elif isinstance(node.op, FakeBlock) and node.op.is_calibrated:
        results[0].facts.extend(describe_quantization(block_float(node.op.held)))
    return NodeData(
        node.op.name,
        [part.op.name for part in parts],
        _kind(parts),
        _short_type(node.results[0].type) if node.results else "",
        list(node.loc),
        print_node(node, names),
        operands=[_value(v, names, errors) for v in node.operands if constant_value(v) is None],
        results=results,
        constants=[_constant(v, names) for v in node.operands if constant_value(v) is not None],
        attributes=_attributes(node),
        parts=[_part(part) for part in parts],
    )


def _part(node: Node) -> Part:
    originals = [v.origin.name for v in node.results if isinstance(v.origin, Original)]
    types = " ".join(str(v.type) for v in node.results)
    signature = f"{types} {_attributes(node)}"
    return Part(node.op.name, originals[0] if originals else "", signature, node.loc[0] if node.loc else "")


def _value(value: Value, names: dict[Value, str], errors: Errors) -> ValueData:
    data = ValueData(names.get(value, ""), str(value.type))
    if isinstance(value.origin, Original):
        data.original = value.origin.name
        data.origin = value.origin.name
        if value.origin.permutation is not None:
            data.origin += f", axes {list(value.origin.permutation)}"
        if value.origin.factor is not None:
            data.origin += ", times a factor"
        found = errors.get(value.origin.name)
        if found is not None and value.producer is None and isinstance(value.type.elem, Scalar):
            # What was compared under this name is the quantized value behind it; the input itself is the user's.
            data.error = ErrorFigure(_finite(math.inf), 0.0, False)
        elif found is not None:
            data.error = ErrorFigure(_finite(found.sqnr_db), found.max_error, found.recovered)
    else:
        data.origin = f"none: {value.origin.reason}"
    if isinstance(value.type.elem, Affine | BlockFloat):
        data.facts = describe_quantization(value.type.elem)
    return data


def _constant(value: Value, names: dict[Value, str]) -> ValueData:
    tensor = constant_tensor(value)
    data = _value(value, names, {})
    if tensor is not None:
        data.facts = describe_constant(tensor.stored) + data.facts
    return data


def _attributes(node: Node) -> list[tuple[str, str]]:
    """Name and text of every attribute that is set, defaults included; arrays of an arithmetic one by one."""
    found: list[tuple[str, str]] = []
    for name, attribute in node.op.attributes().items():
        if isinstance(attribute, Constants):
            found.extend((key, describe_array(array)) for key, array in attribute.items())
        elif isinstance(attribute, ConstantArray):
            found.append((name, describe_array(attribute)))
        elif isinstance(attribute, tuple):
            found.append((name, "[" + ", ".join(map(str, attribute)) + "]"))
        elif attribute is not None and not isinstance(attribute, Graph):
            found.append((name, str(attribute)))
    return found


def _kind(parts: Sequence[Node]) -> str:
    """What decides the colour of a box."""
    if any(Fact.CONTRACTION in part.op.facts for part in parts):
        return "contraction"
    if parts and all(isinstance(part.op, _CONVERSIONS) for part in parts):
        return "quantization"
    if parts and Fact.VALUE_PRESERVING in parts[0].op.facts:
        return "movement"
    return "elementwise" if parts and Fact.ELEMENTWISE in parts[0].op.facts else "other"


def _short_type(tensor_type: TensorType) -> str:
    return f"{tensor_type.storage} {format_shape(tensor_type.shape)}"


def _finite(figure: float) -> float | None:
    """JSON knows no infinity."""
    return figure if math.isfinite(figure) else None
