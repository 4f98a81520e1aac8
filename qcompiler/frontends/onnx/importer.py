"""Imports an ONNX model: inputs, constants and nodes in order, then the outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx

from qcompiler.errors import QCompilerError
from qcompiler.frontends.onnx import (  # noqa: F401 - importing the operator modules registers their handlers
    operators_contraction,
    operators_elementwise,
    operators_normalization,
    operators_pooling,
    operators_reduction,
    operators_resize,
    operators_shape,
)
from qcompiler.frontends.onnx.environment import Environment
from qcompiler.frontends.onnx.graph_inputs import input_types
from qcompiler.frontends.onnx.layer import Layer, UnsupportedOperator
from qcompiler.frontends.onnx.model_file import default_opset, load_model
from qcompiler.frontends.onnx.tensor_data import tensor_array
from qcompiler.ir import Graph, Original, Value


def import_model(
    model: str | Path | onnx.ModelProto,
    *,
    shapes: Mapping[str, Sequence[int]] | None = None,
    batch: int | None = None,
) -> Graph:
    """The float program of an ONNX model, in the model's own layout.

    A dynamic leading dimension of an input is the batch, the symbol ``N`` that all inputs share. Every value that
    the model names has it as origin, every node the model's node name as ``loc``. Shapes are computed here, and
    nodes that no output needs are left out.

    Args:
        model: an ONNX file of opset 9 to 21, or a model in memory. External data must lie in the file's folder.
        shapes: shapes of inputs by name, where the model leaves more than the batch open; -1 as, or a lack of, the
            leading entry keeps the batch free.
        batch: fixes the batch size.

    Raises:
        QCompilerError: the file is no usable ONNX model, a dimension beside the batch is dynamic, a weight holds NaN
            or infinity, a layer is malformed, or operators are not supported (all of them in one error).
    """
    proto = load_model(model)
    source = proto.graph
    if source.sparse_initializer:
        raise QCompilerError(
            f"initializer {source.sparse_initializer[0].values.name!r} is sparse", fix="export dense weights"
        )
    stored = {tensor.name: tensor for tensor in source.initializer}
    inputs = [value for value in source.input if value.name not in stored]
    graph = Graph(source.name or "main")
    needed, nodes = _needed(source)
    environment = Environment(graph, default_opset(proto), needed)
    for value, type in zip(inputs, input_types(inputs, shapes or {}, batch), strict=True):
        environment.values[value.name] = graph.add_input(value.name, type, Original(value.name))
    for name, tensor in stored.items():
        if name in needed:
            environment.arrays[name] = tensor_array(tensor)
    for node in nodes:
        environment.import_node(node)
    if environment.unsupported:
        raise _unsupported_error(environment.unsupported)
    graph.set_outputs((output.name, _output(environment, output.name)) for output in source.output)
    return graph


def _needed(graph: onnx.GraphProto) -> tuple[set[str], list[onnx.NodeProto]]:
    """The names that the outputs depend on, and the nodes that compute them, in order."""
    needed = {output.name for output in graph.output}
    nodes = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            nodes.append(node)
            needed.update(name for name in node.input if name)
            for attribute in node.attribute:
                for body in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                    needed.update(_captured(body))
    return needed, nodes[::-1]


def _captured(graph: onnx.GraphProto) -> set[str]:
    """Names that a subgraph may take from outside."""
    names = {output.name for output in graph.output}
    for node in graph.node:
        names.update(node.input)
        for attribute in node.attribute:
            for body in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                names.update(_captured(body))
    return names


def _output(environment: Environment, name: str) -> Value:
    if not (name in environment.values or environment.is_known(name)):
        raise QCompilerError(f"no node computes output {name!r}", fix="export the model again")
    # An output that is constant becomes a constant node of its own.
    user = Layer(onnx.helper.make_node("Identity", [name], [name]), environment.opset, environment)
    try:
        return environment.value(name, user)
    except UnsupportedOperator as missing:
        raise QCompilerError(f"output {name!r} cannot be computed: {missing}", layer=user.name) from missing


class UnsupportedLayers(QCompilerError):
    """A model has layers that cannot be imported.

    Attributes:
        layers: of each its name, its operator, and why it cannot be.
    """

    def __init__(self, layers: Sequence[tuple[str, str, str]], problem: str, **details: str | None) -> None:
        super().__init__(problem, **details)
        self.layers = tuple(layers)


def _unsupported_error(unsupported: Sequence[tuple[Layer, str]]) -> UnsupportedLayers:
    lines = [f"{layer.name!r} ({layer.op_type}): {reason}" for layer, reason in unsupported]
    count = f"{len(lines)} layers are" if len(lines) > 1 else "a layer is"
    kinds = sorted({layer.op_type for layer, _ in unsupported})
    return UnsupportedLayers(
        [(layer.name, layer.op_type, reason) for layer, reason in unsupported],
        f"{count} not supported: {', '.join(kinds)}",
        layer=unsupported[0][0].name if len(lines) == 1 else None,
        found="".join(f"\n    {line}" for line in lines),
        fix="replace these layers, or export the model without them",
    )
