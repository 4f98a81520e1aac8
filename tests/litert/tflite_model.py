"""Writes .tflite models of one operator or many, and runs those of one on LiteRT's reference kernels.

Schema: ``ai_edge_litert.schema_py_generated``, the object API that flatc generates from LiteRT's ``schema.fbs``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import ai_edge_litert.schema_py_generated as schema
import flatbuffers
import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from numpy.typing import NDArray

from qcompiler.ir import TensorType
from qcompiler.ir.types import Affine

Array = NDArray[Any]

_SCHEMA_VERSION = 3
_FILE_IDENTIFIER = b"TFL3"
_LARGEST_DEPRECATED_CODE = 127
"""The operator code's old 8-bit field holds at most this; readers take the larger of the two fields."""

_TENSOR_TYPES = {
    np.dtype(name): getattr(schema.TensorType, name.upper()) for name in ("int8", "int16", "int32", "int64", "float32")
}


@dataclass(frozen=True)
class Tensor:
    """A tensor of a .tflite file.

    Attributes:
        shape, dtype: as stored.
        scale: float32 scales, empty for a tensor that is not quantized.
        zero_point: serves every scale.
        axis: quantized dimension, where there are several scales.
        data: constant contents; None for a variable.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    scale: Array = field(default_factory=lambda: np.zeros(0, np.float32))
    zero_point: int = 0
    axis: int = 0
    data: Array | None = None


@dataclass(frozen=True)
class Operator:
    """An operator of a .tflite file.

    Attributes:
        code: name in ``BuiltinOperator``.
        version: operator version; decides which types the kernel takes.
        options: name of the options table without "Options", or "" for none.
        fields: values of the options table's fields.
    """

    code: str
    version: int = 1
    options: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)


def variable(type: TensorType) -> Tensor:
    """The .tflite tensor of an IR type: a per-tensor affine one, or a plain scalar one."""
    shape = tuple(int(d) for d in type.shape if isinstance(d, int))
    assert len(shape) == type.rank
    if not isinstance(type.elem, Affine):
        return Tensor(shape, np.dtype(type.storage.dtype))
    assert type.elem.is_per_tensor
    return Tensor(
        shape, np.dtype(type.storage.dtype), type.elem.scale.array.reshape(1), int(type.elem.zero_point.array)
    )


def constant(data: Array, scale: Any = (), axis: int = 0) -> Tensor:
    """A constant tensor; symmetric where it has scales."""
    return Tensor(data.shape, data.dtype, np.atleast_1d(np.asarray(scale, np.float32)), 0, axis, data)


@dataclass(frozen=True)
class Step:
    """An operator of a network, with the positions of its inputs (-1: absent) and its output among the tensors."""

    operator: Operator
    inputs: tuple[int, ...]
    output: int


def write_model(operator: Operator, inputs: Sequence[Tensor | None], output: Tensor) -> bytes:
    """A model of one operator; the inputs without data are the model's inputs, None is an absent optional input."""
    present = [t for t in inputs if t is not None]
    positions = iter(range(len(present)))
    step = Step(operator, tuple(-1 if t is None else next(positions) for t in inputs), len(present))
    return write_network(
        [*present, output], [step], [i for i, t in enumerate(present) if t.data is None], [len(present)]
    )


def write_network(
    tensors: Sequence[Tensor], steps: Sequence[Step], inputs: Sequence[int], outputs: Sequence[int]
) -> bytes:
    """A model of many operators.

    Args:
        tensors: variables and constants; everything else names them by position.
        steps: the operators, in an order in which they can run.
        inputs, outputs: the model's own.
    """
    model = schema.ModelT()
    model.version = _SCHEMA_VERSION
    # Buffer 0 is empty by convention and serves every variable.
    model.buffers = [schema.BufferT()]
    kinds = list(dict.fromkeys((s.operator.code, s.operator.version) for s in steps))
    model.operatorCodes = [_operator_code(*kind) for kind in kinds]
    graph = schema.SubGraphT()
    graph.tensors = [_tensor(f"t{i}", tensor, model.buffers) for i, tensor in enumerate(tensors)]
    graph.operators = [_node(s, kinds.index((s.operator.code, s.operator.version))) for s in steps]
    graph.inputs, graph.outputs = list(inputs), list(outputs)
    model.subgraphs = [graph]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), _FILE_IDENTIFIER)
    return bytes(builder.Output())


def run_model(
    model: bytes, feeds: Sequence[Array], resolver: OpResolverType = OpResolverType.BUILTIN_REF
) -> Array:
    """The model's output, computed by LiteRT's reference kernels or those of another ``resolver``."""
    interpreter = Interpreter(model_content=model, experimental_op_resolver_type=resolver, num_threads=1)
    interpreter.allocate_tensors()
    for details, feed in zip(interpreter.get_input_details(), feeds, strict=True):
        interpreter.set_tensor(details["index"], feed)
    interpreter.invoke()
    result: Array = interpreter.get_tensor(interpreter.get_output_details()[0]["index"]).copy()
    return result


def _operator_code(name: str, version: int) -> Any:
    code = schema.OperatorCodeT()
    code.builtinCode = getattr(schema.BuiltinOperator, name)
    code.deprecatedBuiltinCode = min(code.builtinCode, _LARGEST_DEPRECATED_CODE)
    code.version = version
    return code


def _node(step: Step, code: int) -> Any:
    node = schema.OperatorT()
    node.opcodeIndex = code
    node.inputs, node.outputs = list(step.inputs), [step.output]
    if step.operator.options:
        node.builtinOptionsType = getattr(schema.BuiltinOptions, f"{step.operator.options}Options")
        node.builtinOptions = _options(step.operator)
    return node


def _options(operator: Operator) -> Any:
    options = getattr(schema, f"{operator.options}OptionsT")()
    for name, value in operator.fields.items():
        assert hasattr(options, name), f"{operator.options} has no field {name}"
        setattr(options, name, value)
    return options


def _tensor(name: str, tensor: Tensor, buffers: list[Any]) -> Any:
    record = schema.TensorT()
    record.name = name.encode()
    record.shape = list(tensor.shape)
    record.type = _TENSOR_TYPES[tensor.dtype]
    record.buffer = 0
    if tensor.data is not None:
        contents = schema.BufferT()
        contents.data = np.frombuffer(np.ascontiguousarray(tensor.data).tobytes(), np.uint8)
        buffers.append(contents)
        record.buffer = len(buffers) - 1
    if tensor.scale.size:
        quantization = schema.QuantizationParametersT()
        quantization.scale = [float(s) for s in tensor.scale]
        quantization.zeroPoint = [tensor.zero_point] * tensor.scale.size
        quantization.quantizedDimension = tensor.axis
        record.quantization = quantization
    return record
