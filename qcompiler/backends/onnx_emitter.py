"""Writes float graphs as ONNX models: names, initializers, layouts, and the walk over the nodes.

What each op becomes stands in ``onnx_elementwise``, ``onnx_structure`` and ``onnx_spatial``. ONNX convolves
channels first. The emitter therefore keeps a channels-first form of values where it has one, lets element-wise ops
work on that form, and writes a channels-last form only where somebody asks for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from qcompiler.backends.fake_quant_simulation import Bypass
from qcompiler.backends.lowering import find_lowering, lowering
from qcompiler.errors import QCompilerError
from qcompiler.ir import Dim, Graph, Node, Op, Scalar, Shape, SymbolicDim, TensorType, Value
from qcompiler.ops.constant import Constant

Array = NDArray[Any]
Permutation = tuple[int, ...]
Elementwise = Callable[["OnnxEmitter", Node, list[str]], str]
Structural = Callable[["OnnxEmitter", Node], None]

BACKEND = "onnx"
"""The name under which ONNX forms are registered."""

CHANNELS_FIRST: Permutation = (0, 3, 1, 2)
CHANNELS_LAST: Permutation = (0, 2, 3, 1)

# Opset 20 brings Gelu; IR version 10 belongs to it.
_OPSET, _IR_VERSION = 20, 10
_INLINE_BYTES = 1024


def elementwise(*ops: str) -> Callable[[Elementwise], Elementwise]:
    """Register the ONNX form of element-wise ops: takes the names of the operands, gives the name of the result.

    Raises:
        QCompilerError: one of the ops has an ONNX form.
    """

    def register(emission: Elementwise) -> Elementwise:
        @wraps(emission)
        def in_any_layout(emitter: OnnxEmitter, node: Node) -> None:
            emitter.emit_elementwise(node, emission)

        lowering(BACKEND, *ops)(in_any_layout)
        return emission

    return register


def structural(*ops: str) -> Callable[[Structural], Structural]:
    """Register the ONNX form of ops that care about axes: asks for the operands in the layout it needs and defines
    the results.

    Raises:
        QCompilerError: one of the ops has an ONNX form.
    """
    return lowering(BACKEND, *ops)


def needed_nodes(graph: Graph, fetch: Iterable[Value]) -> list[Node]:
    """The nodes that ``fetch`` depends on, in order."""
    needed: set[Node] = set()
    open_values = list(fetch)
    while open_values:
        node = open_values.pop().producer
        if node is not None and node not in needed:
            needed.add(node)
            open_values.extend(node.operands)
    return [node for node in graph.nodes if node in needed]


def require_float(node: Node) -> None:
    """Refuse a node of an integer program.

    Raises:
        QCompilerError: it computes on quantized numbers; names the layer.
    """
    types = [v.type for v in (*node.operands, *node.results)]
    if not all(isinstance(t.elem, Scalar) for t in types):
        raise QCompilerError(
            f"{node.op.name} works on quantized numbers, and simulation ends at realize", layer=node.layer,
            expected="a float graph, with or without fake_quant and fake_block nodes",
            found=f"{node.op.name} -> {', '.join(str(v.type) for v in node.results)}",
            fix="simulate the graph as it is before realize, or run this one with the reference interpreter",
        )


def has_onnx_form(op: Op) -> bool:
    """Whether the op can be emitted as ONNX: it is a constant, or has a lowering for the backend ``onnx``."""
    return isinstance(op, Constant) or find_lowering(BACKEND, op) is not None


class OnnxEmitter:
    """One ONNX model in the making.

    Attributes:
        bypass: which fake_quants and fake_blocks act as the identity.
        bits: width that replaces that of every other fake_quant; None keeps it.
        static: arrays of values that are known while the model is written.
        large_initializers: arrays that the model names but does not hold; they are handed over with the model.
    """

    def __init__(self, graph: Graph, bypass: Bypass, bits: int | None) -> None:
        self.bypass = bypass
        self.bits = bits
        self.static: dict[Value, Array] = {}
        self.large_initializers: dict[str, Array] = {}
        self._graph = graph
        self._inputs: dict[Value, str] = {}
        self._aliases: dict[Value, Value] = {}
        self._forms: dict[tuple[Value, Permutation | None], str] = {}
        self._scalars: dict[tuple[str, bytes], str] = {}
        self._initializers: list[TensorProto] = []
        self._nodes: list[onnx.NodeProto] = []
        self._layer = ""
        self._names = 0

    # The walk

    def emit_nodes(self, nodes: Iterable[Node]) -> None:
        """Write ``nodes``, in order: float ops that have an ONNX form."""
        for node in nodes:
            self._layer = node.layer
            if isinstance(node.op, Constant):
                self.static[node.result] = node.op.value.array
            else:
                emission = find_lowering(BACKEND, node.op)
                assert emission is not None, f"{node.op.name} has no ONNX form"
                emission(self, node)

    def emit_elementwise(self, node: Node, emission: Elementwise) -> None:
        """Write an element-wise op in the layout that its operands have."""
        varying = [v for v in node.operands if self.resolve(v) not in self.static]
        if varying and node.result.type.rank == 4 and all(self.is_channels_first(v) for v in varying):
            names = [self.channels_first(v) for v in node.operands]
            self.define(node.result, emission(self, node, names), CHANNELS_FIRST)
        else:
            self.define(node.result, emission(self, node, [self.name(v) for v in node.operands]))

    # Values and their forms

    def define(self, value: Value, name: str, permutation: Permutation | None = None) -> None:
        """``name`` holds ``value``, or its transpose by ``permutation``."""
        self._forms[value, permutation] = name

    def alias(self, value: Value, source: Value) -> None:
        """``value`` is the same as ``source``."""
        self._aliases[value] = self.resolve(source)

    def resolve(self, value: Value) -> Value:
        """The value that ``value`` is an alias of; itself where it is none."""
        return self._aliases.get(value, value)

    def name(self, value: Value) -> str:
        """The ONNX name that holds ``value`` as it is."""
        value = self.resolve(value)
        name = self._forms.get((value, None))
        if name is None:
            if value in self.static:
                name = self.constant(self.static[value])
            elif (value, CHANNELS_FIRST) in self._forms:
                name = self.emit("Transpose", [self._forms[value, CHANNELS_FIRST]], perm=CHANNELS_LAST)
            else:
                # Every result is defined before it is used: this is a graph input.
                name = self._inputs[value] = self.fresh_name()
            self._forms[value, None] = name
        return name

    def transposed(self, value: Value, permutation: Permutation) -> str:
        """The ONNX name that holds ``value`` transposed; constants are transposed here and now."""
        value = self.resolve(value)
        name = self._forms.get((value, permutation))
        if name is None:
            if value in self.static:
                name = self.constant(self.static[value].transpose(permutation))
            else:
                name = self.emit("Transpose", [self.name(value)], perm=permutation)
            self._forms[value, permutation] = name
        return name

    def is_channels_first(self, value: Value) -> bool:
        """Whether a channels-first form of a channels-last value exists already."""
        return (self.resolve(value), CHANNELS_FIRST) in self._forms

    def channels_first(self, value: Value) -> str:
        """The ONNX name of a channels-last value in channels-first form; constants may lack leading axes."""
        array = self.static.get(self.resolve(value))
        if array is not None and array.ndim < 4:
            return self.constant(array.reshape((1,) * (4 - array.ndim) + array.shape).transpose(CHANNELS_FIRST))
        return self.transposed(value, CHANNELS_FIRST)

    # Pieces of the model

    def fresh_name(self) -> str:
        self._names += 1
        return f"#{self._names}"

    def emit(self, op_type: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Append a node with one output; gives the output's name."""
        return self.emit_many(op_type, inputs, 1, **attributes)[0]

    def emit_many(self, op_type: str, inputs: Sequence[str], outputs: int, **attributes: Any) -> list[str]:
        """Append a node; gives the names of its outputs. ONNX Runtime's messages cite its name, the user's layer."""
        names = [self.fresh_name() for _ in range(outputs)]
        self._nodes.append(helper.make_node(op_type, inputs, names, f"{self._layer} {names[0]}", **attributes))
        return names

    def cast(self, name: str, source: np.dtype[Any], target: np.dtype[Any]) -> str:
        return name if source == target else self.emit("Cast", [name], to=helper.np_dtype_to_tensor_dtype(target))

    def constant(self, value: Any, dtype: Any = None) -> str:
        """Append an initializer; gives its name. Scalars and short lists are shared."""
        array = np.ascontiguousarray(value, dtype).reshape(np.shape(value))
        if array.nbytes <= _INLINE_BYTES:
            key = (f"{array.dtype}{array.shape}", array.tobytes())
            if key not in self._scalars:
                self._scalars[key] = self.fresh_name()
                self._initializers.append(numpy_helper.from_array(array, self._scalars[key]))
            return self._scalars[key]
        name = self.fresh_name()
        proto = TensorProto(
            name=name, dims=array.shape, data_type=helper.np_dtype_to_tensor_dtype(array.dtype),
            data_location=TensorProto.EXTERNAL,
        )
        # ONNX Runtime gets the array itself, under this name; the location is never opened.
        proto.external_data.add(key="location", value="in-memory")
        self._initializers.append(proto)
        self.large_initializers[name] = array
        return name

    def integers(self, values: Iterable[int]) -> str:
        """A list of int64 as an initializer."""
        return self.constant(np.array(list(values), np.int64))

    def target_shape(self, shape: Shape) -> str:
        """``shape`` as the operand of a Reshape: a free dimension is left to ONNX to fill in."""
        return self.integers(d if isinstance(d, int) else -1 for d in shape)

    def reshape(self, name: str, shape: Shape) -> str:
        # Only without a -1 may a 0 mean an empty dimension; otherwise it would copy the operand's.
        empty = all(isinstance(d, int) for d in shape) and 0 in shape
        return self.emit("Reshape", [name, self.target_shape(shape)], allowzero=int(empty))

    def dimension(self, dim: Dim) -> str:
        """A list with the run-time length of ``dim``, read off a graph input."""
        if isinstance(dim, int):
            return self.integers([dim])
        value, axis, coefficient = self._carrier(dim.symbol)
        length = self.emit("Shape", [self.name(value)], start=axis, end=axis + 1)
        divided = length if coefficient == 1 else self.emit("Div", [length, self.integers([coefficient])])
        return divided if dim.coefficient == 1 else self.emit("Mul", [divided, self.integers([dim.coefficient])])

    def _carrier(self, symbol: str) -> tuple[Value, int, int]:
        for value in self._graph.inputs:
            for axis, dim in enumerate(value.type.shape):
                if isinstance(dim, SymbolicDim) and dim.symbol == symbol:
                    return value, axis, dim.coefficient
        raise QCompilerError(f"no graph input tells the free dimension {symbol}", layer=self._layer)

    # The result

    @property
    def inputs(self) -> dict[Value, str]:
        """Graph inputs that the model reads, with their ONNX names."""
        return self._inputs

    def model(self, outputs: Sequence[tuple[str, TensorType]]) -> onnx.ModelProto:
        """The model with these outputs, given as (name, type)."""
        graph = helper.make_graph(
            self._nodes, "main", [_value_info(name, value.type) for value, name in self._inputs.items()],
            [_value_info(name, type) for name, type in outputs], self._initializers,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)


def _value_info(name: str, type: TensorType) -> onnx.ValueInfoProto:
    dims = [d if isinstance(d, int) else str(d) for d in type.shape]
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(type.storage.dtype), dims)
