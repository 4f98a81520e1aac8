"""A compiled ``tpu-int8`` program as one .tflite file: float in and out, int8 between, weights per channel.

The file holds what a TensorFlow converter would write: padding inside the convolution where it is TensorFlow's SAME,
a matrix product as FULLY_CONNECTED, a clamp that its type already says left out, so that LiteRT has it as easy as with
a model of its own.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.schema_py_generated import Padding
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent.parent))

from litert.network import bias_tensor, kernels, litert_call, window_fields
from litert.padding import same_padding
from litert.tflite_model import Operator, Step, Tensor, constant, variable, write_network

from qcompiler.backends import reference
from qcompiler.ir import Graph, Node, Value
from qcompiler.ir import Tensor as StoredTensor
from qcompiler.ops.contraction import Conv2D, Matmul
from qcompiler.ops.fused import Fused
from qcompiler.ops.quantization import Clamp, Quantize
from qcompiler.ops.quantized import affine
from qcompiler.ops.shape import Transpose
from qcompiler.ops.slicing import Slice

Array = NDArray[Any]


@dataclass(frozen=True)
class TfliteModel:
    """A .tflite model and how to feed it.

    Attributes:
        content: the file.
        tensors, steps: what it holds.
        permutation: of the program's input axes that gives the model's input; None where they are equal.
    """

    content: bytes
    tensors: tuple[Tensor, ...]
    steps: tuple[Step, ...]
    permutation: tuple[int, ...] | None


def write_program(graph: Graph, feeds: Mapping[str, Array], channels_last_input: bool = True) -> TfliteModel:
    """Write a whole program.

    Args:
        graph: a legal ``tpu-int8`` program with one input and one output.
        feeds: one sample, from which the shapes are read.
        channels_last_input: take the input as NHWC, LiteRT's own layout, where the program begins with that transpose.

    Raises:
        ValueError: the program holds something that has no counterpart here; names the layer.
    """
    writer = _Writer({})
    reference.run(graph, feeds, writer.values.__setitem__)
    for node in graph.nodes:
        if isinstance(node.op, Fused):
            inside = zip(node.op.body.inputs, node.operands, strict=True)
            outside = zip(node.results, (o.value for o in node.op.body.outputs), strict=True)
            writer.aliases.update([*inside, *outside])
            writer.values.update((inner, writer.values[operand]) for inner, operand in zip(
                node.op.body.inputs, node.operands, strict=True
            ))
    permutation = writer.take_input_permuted(graph) if channels_last_input else None
    for value in graph.inputs:
        writer.position(value)
    for kernel in kernels(graph):
        writer.add(kernel)
    content = write_network(
        writer.tensors, writer.steps, [writer.position(v) for v in graph.inputs],
        [writer.position(o.value) for o in graph.outputs],
    )
    return TfliteModel(content, tuple(writer.tensors), tuple(writer.steps), permutation)


def write_step(model: TfliteModel, index: int) -> bytes:
    """A model of one operator of ``model``."""
    step = model.steps[index]
    used = list(dict.fromkeys([*(i for i in step.inputs if i >= 0), step.output]))
    local = Step(step.operator, tuple(used.index(i) if i >= 0 else -1 for i in step.inputs), used.index(step.output))
    tensors = [model.tensors[i] for i in used]
    variables = dict.fromkeys(i for i in local.inputs if i >= 0 and tensors[i].data is None)
    return write_network(tensors, [local], list(variables), [local.output])


@dataclass
class _Writer:
    """Tensors and steps so far. ``aliases`` maps a value to another that holds the same numbers."""

    values: dict[Value, StoredTensor]
    aliases: dict[Value, Value] = field(default_factory=dict)
    tensors: list[Tensor] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    positions: dict[Value, int] = field(default_factory=dict)

    def position(self, value: Value) -> int:
        while value in self.aliases:
            value = self.aliases[value]
        if value not in self.positions:
            self.positions[value] = self.new(variable(self.values[value].type))
        return self.positions[value]

    def new(self, tensor: Tensor) -> int:
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def emit(self, operator: Operator, inputs: list[int], output: int) -> None:
        self.steps.append(Step(operator, tuple(inputs), output))

    def take_input_permuted(self, graph: Graph) -> tuple[int, ...] | None:
        """Where the input is only quantized and then transposed, move the transpose to whoever feeds the model."""
        (source,) = graph.inputs
        users = list(source.users)
        if len(users) != 1 or not isinstance(users[0].op, Quantize):
            return None
        quantized = users[0].result
        users = list(quantized.users)
        if len(users) != 1 or not isinstance(users[0].op, Transpose):
            return None
        permutation = tuple(users[0].op.permutation)
        for value in (source, quantized):
            held = self.values[value]
            shape = tuple(held.data.shape[axis] for axis in permutation)
            self.values[value] = StoredTensor(held.type.with_shape(shape), held.data.transpose(permutation))
        self.aliases[users[0].result] = quantized
        return permutation

    def add(self, kernel: list[Node]) -> None:
        node, result = kernel[0], kernel[-1].result
        if result in self.aliases:
            return  # the transpose that the model's input has undergone
        if isinstance(node.op, Clamp):
            self.drop_clamp(node)
        elif isinstance(node.op, Conv2D):
            self.add_convolution(node, result)
        elif isinstance(node.op, Matmul):
            self.add_fully_connected(node, result)
        elif isinstance(node.op, Slice) and self.joins_slice(node):
            pass
        else:
            self.add_plain(node, result)

    def drop_clamp(self, node: Node) -> None:
        op, elem = node.op, affine(self.values[node.result].type)
        assert isinstance(op, Clamp)
        if op.minimum > elem.qmin or op.maximum < elem.qmax:
            raise ValueError(f"clamp of layer {node.layer!r} narrows its type")
        self.aliases[node.result] = node.operands[0]

    def joins_slice(self, node: Node) -> bool:
        """A slice of another axis than the slice before it: one STRIDED_SLICE does both, as a converter writes it."""
        source = node.operands[0]
        inner = source.producer
        if inner is None or not isinstance(inner.op, Slice) or len(source.uses) != 1:
            return False
        first, second = inner.op, node.op
        assert isinstance(second, Slice)
        if set(first.axes) & set(second.axes):
            return False
        step = self.steps.pop()
        assert step.output == self.positions[source]
        begin, end, stride = (self.tensors[i] for i in step.inputs[1:])
        for axis, low, high, by in zip(second.axes, second.starts, second.ends, second.steps, strict=True):
            size = self.values[source].data.shape[axis]
            for tensor, number in ((begin, low), (end, high if high >= 0 else -size - 1), (stride, by)):
                assert tensor.data is not None
                tensor.data[axis] = number
        self.tensors[step.output] = variable(self.values[node.result].type)
        self.aliases[node.result] = source
        self.steps.append(step)
        return True

    def add_plain(self, node: Node, result: Value) -> None:
        call = litert_call([node], self.values)
        if call is None or node.op.name == "lut":
            raise ValueError(f"{node.op.name} of layer {node.layer!r} has no counterpart")
        operator, inputs, _, _ = call
        operands = iter(node.operands)
        places = []
        for tensor in inputs:
            if tensor is None:
                places.append(-1)
            else:
                places.append(self.position(next(operands)) if tensor.data is None else self.new(tensor))
        self.emit(operator, places, self.position(result))

    def add_convolution(self, node: Node, result: Value) -> None:
        op, (x, w) = node.op, (self.values[v] for v in node.operands[:2])
        assert isinstance(op, Conv2D)
        source, fields = self.padded(node, op, x, w.data.shape[1:3])
        fields |= window_fields(op.strides, op.dilations) | {"padding": fields["padding"]}
        scale = affine(w.type).scale.array.reshape(-1)
        operator = Operator("CONV_2D", 3, "Conv2D", fields)
        weights = constant(w.data, scale)
        if op.groups != 1:
            if op.groups != x.data.shape[-1]:
                raise ValueError(f"grouped convolution of layer {node.layer!r} has no counterpart")
            fields["depthMultiplier"] = w.data.shape[0] // op.groups
            operator = Operator("DEPTHWISE_CONV_2D", 3, "DepthwiseConv2D", fields)
            weights = constant(np.ascontiguousarray(w.data.transpose(3, 1, 2, 0)), scale, 3)
        bias = bias_tensor(x.type, scale, self.bias(node, w.data.shape[0]))
        self.emit(operator, [source, self.new(weights), self.new(bias)], self.position(result))

    def padded(self, node: Node, op: Conv2D, x: StoredTensor, kernel: tuple[int, ...]) -> tuple[int, dict[str, Any]]:
        """The convolution's input and padding: VALID, SAME, or VALID behind a PAD."""
        source = self.position(node.operands[0])
        top, left, bottom, right = op.pads
        if not any(op.pads):
            return source, {"padding": Padding.VALID}
        same = [same_padding(*a) for a in zip(x.data.shape[1:3], kernel, op.strides, op.dilations, strict=True)]
        if same == [(top, bottom), (left, right)]:
            return source, {"padding": Padding.SAME}
        pads = constant(np.array([[0, 0], [top, bottom], [left, right], [0, 0]], np.int32))
        batch, height, width, channels = x.data.shape
        shape = (batch, height + top + bottom, width + left + right, channels)
        output = self.new(replace(variable(x.type), shape=shape))
        self.emit(Operator("PAD", 2, "Pad"), [source, self.new(pads)], output)
        return output, {"padding": Padding.VALID}

    def add_fully_connected(self, node: Node, result: Value) -> None:
        op, (x, w) = node.op, (self.values[v] for v in node.operands[:2])
        assert isinstance(op, Matmul)
        if w.data.ndim != 2 or affine(w.type).zero_point.array.any():
            raise ValueError(f"matmul of layer {node.layer!r} has no constant weights")
        scale = affine(w.type).scale.array.reshape(-1)
        rows = w.data if op.transpose_b else np.ascontiguousarray(w.data.T)
        weights = self.new(constant(rows, scale))
        bias = self.new(bias_tensor(x.type, scale, self.bias(node, len(rows))))
        fields = {"keepNumDims": x.data.ndim > 2}
        operator = Operator("FULLY_CONNECTED", 9, "FullyConnected", fields)
        self.emit(operator, [self.position(node.operands[0]), weights, bias], self.position(result))

    def bias(self, node: Node, channels: int) -> Array:
        return self.values[node.operands[2]].data if len(node.operands) == 3 else np.zeros(channels, np.int32)
