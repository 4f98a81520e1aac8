"""Whole programs against LiteRT, kernel by kernel.

The reference interpreter runs a program and keeps every value. Each node is then run by LiteRT's reference kernels on
the operand values that the reference saw, and must give the reference's result. Since both start from the same
inputs, equality of every node is equality of the program.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from ai_edge_litert.schema_py_generated import Padding
from numpy.typing import NDArray

from litert.tflite_model import Operator, Tensor, constant, run_model, variable, write_model
from qcompiler.backends import reference
from qcompiler.ir import Graph, Node, TensorType, Value
from qcompiler.ir import Tensor as StoredTensor
from qcompiler.ops.constant import Constant
from qcompiler.ops.contraction import Contraction, Conv2D, Matmul
from qcompiler.ops.fused import Fused
from qcompiler.ops.pooling import Pool2D
from qcompiler.ops.quantization import Clamp, Requantize
from qcompiler.ops.quantized import affine
from qcompiler.ops.reduction import Mean
from qcompiler.ops.resize import Resize
from qcompiler.ops.shape import Concat, Reshape, Transpose
from qcompiler.ops.slicing import Pad, Slice, Split
from qcompiler.ops.table import LookupTable

Array = NDArray[Any]
Call = tuple[Operator, list[Tensor | None], list[Array], TensorType]
"""Operator, its inputs (variables and constants), the variables' values, and the result's type."""


def compare_with_litert(graph: Graph, feeds: Mapping[str, Array]) -> Counter[str]:
    """Run every kernel of ``graph`` in LiteRT as well.

    Args:
        graph: an integer program in layout NHWC.
        feeds: one sample.

    Returns:
        How many nodes of each op were confirmed.

    Raises:
        AssertionError: a result differs; names the layer.
    """
    values: dict[Value, StoredTensor] = {}
    reference.run(graph, feeds, values.__setitem__)
    for node in graph.nodes:
        if isinstance(node.op, Fused):
            values.update(zip(node.op.body.inputs, (values[v] for v in node.operands), strict=True))
    confirmed: Counter[str] = Counter()
    for kernel in kernels(graph):
        call = litert_call(kernel, values)
        result = kernel[-1].result
        if call is None:
            raise AssertionError(f"{kernel[0].op.name} of layer {kernel[0].layer!r} has no LiteRT counterpart")
        operator, inputs, data, type = call
        found = run_model(write_model(operator, inputs, variable(type)), data)
        expected = values[result].data
        wrong = int((found.reshape(expected.shape) != expected).sum())
        assert not wrong, f"{wrong} of {expected.size} values of layer {kernel[0].layer!r} differ from {operator.code}"
        confirmed.update(node.op.name for node in kernel)
    return confirmed


def kernels(graph: Graph) -> Iterator[list[Node]]:
    """What LiteRT runs as one operator: a contraction with its requantize, or a single node."""
    for node in graph.nodes:
        if isinstance(node.op, Constant | Split):
            continue
        body = list(node.op.body.nodes) if isinstance(node.op, Fused) else [node]
        while body:
            first = body.pop(0)
            if isinstance(first.op, Contraction):
                yield [first, body.pop(0)] if body else [first, only_requantize(first)]
            elif not isinstance(first.op, Requantize) or not isinstance(_producer_op(first), Contraction):
                yield [first]


def only_requantize(node: Node) -> Node:
    (user,) = node.result.users
    assert isinstance(user.op, Requantize)
    return user


def _producer_op(node: Node) -> Any:
    producer = node.operands[0].producer
    return producer.op if producer else None


def litert_call(kernel: list[Node], values: Mapping[Value, StoredTensor]) -> Call | None:
    node = kernel[0]
    if isinstance(node.op, Contraction):
        return contraction_call(node, kernel[1], values)
    maker = MAKERS.get(node.op.name)
    return maker(node, values) if maker else None


def contraction_call(node: Node, requantize: Node, values: Mapping[Value, StoredTensor]) -> Call | None:
    """CONV_2D or DEPTHWISE_CONV_2D; a matrix product with constant weights is a 1x1 CONV_2D, as on hardware."""
    op = node.op
    x, w = (values[v] for v in node.operands[:2])
    result = values[requantize.result].type
    scale = affine(w.type).scale.array.reshape(-1)
    bias = values[node.operands[2]].data if len(node.operands) == 3 else np.zeros(result.shape[-1], np.int32)  # type: ignore[arg-type]
    if isinstance(op, Matmul):
        if w.data.ndim != 2 or affine(w.type).zero_point.array.any():
            return None  # a product of two computed tensors; BATCH_MATMUL rounds its scale product otherwise
        rows = w.data if op.transpose_b else w.data.T
        weights = np.ascontiguousarray(rows)[:, None, None, :]
        source = x.data.reshape(-1, 1, 1, x.data.shape[-1])
        shape = (len(source), 1, 1, len(rows))
        return convolution_call(weights, scale, bias, source, x.type, result.with_shape(shape), (1, 1), (1, 1))
    if not isinstance(op, Conv2D):
        return None
    top, left, bottom, right = op.pads
    zero_point = int(affine(x.type).zero_point.array)
    # LiteRT pads explicitly by a PAD operator, which inserts the zero point.
    source = np.pad(x.data, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=zero_point)
    if op.groups == 1:
        return convolution_call(w.data, scale, bias, source, x.type, result, op.strides, op.dilations)
    if op.groups != x.data.shape[-1]:
        return None
    fields = {**window_fields(op.strides, op.dilations), "depthMultiplier": w.data.shape[0] // op.groups}
    weights = np.ascontiguousarray(w.data.transpose(3, 1, 2, 0))
    inputs = [variable(x.type.with_shape(source.shape)), constant(weights, scale, 3), bias_tensor(x.type, scale, bias)]
    return Operator("DEPTHWISE_CONV_2D", 3, "DepthwiseConv2D", fields), list(inputs), [source], result


def convolution_call(
    weights: Array, scale: Array, bias: Array, source: Array, x: TensorType, result: TensorType,
    strides: tuple[int, int], dilations: tuple[int, int],
) -> Call:
    inputs = [variable(x.with_shape(source.shape)), constant(weights, scale), bias_tensor(x, scale, bias)]
    return Operator("CONV_2D", 3, "Conv2D", window_fields(strides, dilations)), list(inputs), [source], result


def bias_tensor(x: TensorType, scale: Array, bias: Array) -> Tensor:
    return constant(bias, (affine(x).scale.array * scale).astype(np.float32))


def window_fields(strides: tuple[int, int], dilations: tuple[int, int]) -> dict[str, Any]:
    return {
        "padding": Padding.VALID, "strideH": strides[0], "strideW": strides[1],
        "dilationHFactor": dilations[0], "dilationWFactor": dilations[1],
    }


def plain_call(
    operator: Operator, node: Node, values: Mapping[Value, StoredTensor], extra: list[Tensor] | None = None
) -> Call:
    """An operator whose inputs are the node's operands, constants following."""
    operands = [values[v] for v in node.operands]
    inputs: list[Tensor | None] = [variable(t.type) for t in operands]
    return operator, [*inputs, *(extra or [])], [t.data for t in operands], values[node.result].type


def int32(*numbers: Any) -> Tensor:
    return constant(np.array(numbers, np.int32))


def clamp_call(node: Node, values: Mapping[Value, StoredTensor]) -> Call:
    """MINIMUM with the upper bound of MAXIMUM with the lower one; the latter is done here, on stored integers."""
    op, x = node.op, values[node.operands[0]]
    assert isinstance(op, Clamp)
    elem = affine(x.type)
    high = Tensor((1,), np.dtype(np.int8), elem.scale.array.reshape(1), int(elem.zero_point.array), 0,
                  np.array([op.maximum], np.int8))
    raised = np.maximum(x.data, np.int8(op.minimum))
    return Operator("MINIMUM", 2, "MaximumMinimum"), [variable(x.type), high], [raised], x.type


def pool_call(code: str) -> Callable[[Node, Mapping[Value, StoredTensor]], Call | None]:
    def make(node: Node, values: Mapping[Value, StoredTensor]) -> Call | None:
        op = node.op
        assert isinstance(op, Pool2D)
        if any(op.pads) or op.dilations != (1, 1):
            return None
        fields = {
            "filterHeight": op.kernel[0], "filterWidth": op.kernel[1], "strideH": op.strides[0],
            "strideW": op.strides[1], "padding": Padding.VALID,
        }
        return plain_call(Operator(code, 2, "Pool2D", fields), node, values)

    return make


def mean_call(node: Node, values: Mapping[Value, StoredTensor]) -> Call:
    assert isinstance(node.op, Mean)
    operator = Operator("MEAN", 2, "Reducer", {"keepDims": node.op.keepdims})
    return plain_call(operator, node, values, [int32(*node.op.axes)])


def reshape_call(node: Node, values: Mapping[Value, StoredTensor]) -> Call:
    assert isinstance(node.op, Reshape)
    return plain_call(Operator("RESHAPE"), node, values, [int32(*values[node.result].data.shape)])


def transpose_call(node: Node, values: Mapping[Value, StoredTensor]) -> Call:
    assert isinstance(node.op, Transpose)
    return plain_call(Operator("TRANSPOSE", 2, "Transpose"), node, values, [int32(*node.op.permutation)])


def concat_call(node: Node, values: Mapping[Value, StoredTensor]) -> Call:
    assert isinstance(node.op, Concat)
    return plain_call(Operator("CONCATENATION", 2, "Concatenation", {"axis": node.op.axis}), node, values)


def pad_call(node: Node, values: Mapping[Value, StoredTensor]) -> Call | None:
    assert isinstance(node.op, Pad)
    if node.op.mode != "constant" or node.op.value != 0.0:
        return None
    pads = constant(np.array(list(zip(node.op.before, node.op.after, strict=True)), np.int32))
    return plain_call(Operator("PAD", 2, "Pad"), node, values, [pads])


def slice_call(node: Node, values: Mapping[Value, StoredTensor]) -> Call:
    op = node.op
    assert isinstance(op, Slice)
    shape = values[node.operands[0]].data.shape
    begin, end, step = [0] * len(shape), list(shape), [1] * len(shape)
    for axis, low, high, stride in zip(op.axes, op.starts, op.ends, op.steps, strict=True):
        # An end of -1 lies before the first element here; LiteRT counts it from the back.
        begin[axis], end[axis], step[axis] = low, high if high >= 0 else -shape[axis] - 1, stride
    operator = Operator("STRIDED_SLICE", 2, "StridedSlice")
    return plain_call(operator, node, values, [int32(*begin), int32(*end), int32(*step)])


def table_call(node: Node, values: Mapping[Value, StoredTensor]) -> Call:
    """A table is a GATHER by the stored integer plus 128, which a CAST and an ADD make; those two are done here."""
    op, x = node.op, values[node.operands[0]]
    assert isinstance(op, LookupTable)
    result = values[node.result].type
    elem = affine(result)
    table = Tensor(op.table.shape, np.dtype(np.int8), elem.scale.array.reshape(1), int(elem.zero_point.array), 0,
                   op.table.array)
    indices = Tensor(x.data.shape, np.dtype(np.int32))
    return Operator("GATHER", 2, "Gather"), [table, indices], [x.data.astype(np.int32) + 128], result


def resize_call(node: Node, values: Mapping[Value, StoredTensor]) -> Call | None:
    op = node.op
    assert isinstance(op, Resize)
    if op.axes != (1, 2) or op.mode != "linear":
        return None
    fields = {"halfPixelCenters": op.coordinates == "half_pixel", "alignCorners": op.coordinates == "align_corners"}
    return plain_call(Operator("RESIZE_BILINEAR", 3, "ResizeBilinear", fields), node, values, [int32(*op.sizes)])


Maker = Callable[[Node, Mapping[Value, StoredTensor]], "Call | None"]


def simple(*arguments: Any) -> Maker:
    return lambda node, values: plain_call(Operator(*arguments), node, values)


MAKERS: dict[str, Maker] = {
    "quantize": simple("QUANTIZE", 2, "Quantize"),
    "dequantize": simple("DEQUANTIZE", 2, "Dequantize"),
    "requantize": simple("QUANTIZE", 2, "Quantize"),
    "add": simple("ADD", 2, "Add"),
    "sub": simple("SUB", 2, "Sub"),
    "mul": simple("MUL", 2, "Mul"),
    "softmax": simple("SOFTMAX", 2, "Softmax", {"beta": 1.0}),
    "maximum": simple("MAXIMUM", 2, "MaximumMinimum"),
    "minimum": simple("MINIMUM", 2, "MaximumMinimum"),
    "max_pool2d": pool_call("MAX_POOL_2D"),
    "average_pool2d": pool_call("AVERAGE_POOL_2D"),
    "mean": mean_call,
    "clamp": clamp_call,
    "lut": table_call,
    "reshape": reshape_call,
    "transpose": transpose_call,
    "concat": concat_call,
    "pad": pad_call,
    "slice": slice_call,
    "resize": resize_call,
}
