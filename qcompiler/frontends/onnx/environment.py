"""What is known about every ONNX value while a graph is imported, node by node."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from qcompiler.errors import QCompilerError
from qcompiler.frontends.onnx import shape_arithmetic
from qcompiler.frontends.onnx.constant_evaluation import constant_value, evaluate_node
from qcompiler.frontends.onnx.layer import HANDLERS, Layer, UnavailableOperand, UnsupportedOperator, missing_operator
from qcompiler.frontends.onnx.tensor_data import check_finite, scalar_for
from qcompiler.ir import Builder, ConstantArray, Graph, Original, Value
from qcompiler.ops.constant import Constant

Array = NDArray[Any]


class Environment:
    """Every ONNX value seen so far, in one of four forms.

    Attributes:
        builder: appends to the graph.
        values: IR values.
        arrays: values known at import; of dtype object where they hold the free batch.
        deferred: float computations on constants alone: evaluated where a shape or another parameter depends on
            them, emitted where a tensor is needed.
        unavailable: values of nodes that are not supported; True for tensors, False for shapes.
        unsupported: what is missing, by node.
    """

    def __init__(self, graph: Graph, opset: int, needed: set[str]) -> None:
        self.builder = Builder(graph)
        self.opset = opset
        self.needed = needed
        self.values: dict[str, Value] = {}
        self.arrays: dict[str, Array] = {}
        self.deferred: dict[str, Layer] = {}
        self.unavailable: dict[str, bool] = {}
        self.unsupported: list[tuple[Layer, str]] = []

    # Looking up

    def is_known(self, name: str) -> bool:
        """Whether the value is, or can be, computed at import."""
        return name in self.arrays or name in self.deferred

    def require_available(self, name: str) -> None:
        """Pass over the node that asks for a value that no node could provide."""
        if name in self.unavailable:
            raise UnavailableOperand(name)

    def array(self, name: str) -> Array:
        """A value known at import."""
        if name not in self.arrays:
            layer = self.deferred[name]
            try:
                results = evaluate_node(layer, self._inputs(layer))
            except UnsupportedOperator as missing:
                raise UnsupportedOperator(f"its constant {name!r}, made by {layer.op_type}: {missing}") from missing
            self.arrays.update(zip(_outputs(layer), results, strict=True))
        return self.arrays[name]

    def value(self, name: str, user: Layer) -> Value:
        """The IR value ``name``; constants become nodes when they are first used.

        Raises:
            UnavailableOperand: it stems from a node that is not supported.
            QCompilerError: it is a shape that holds the free batch, or holds NaN or infinity.
        """
        self.require_available(name)
        if name in self.deferred and name not in self.values:
            self._emit_deferred(self.deferred[name])
        if name not in self.values:
            self.values[name] = self._constant(name, user)
        return self.values[name]

    def _constant(self, name: str, user: Layer) -> Value:
        array = self.array(name)
        if array.dtype == object:
            raise QCompilerError(
                f"{user.op_type} computes with {name!r}, which depends on the batch size", layer=user.name,
                fix="fix the batch size",
            )
        elem = scalar_for(array.dtype, f"constant {name!r}", user.name)
        check_finite(array, name, user.name)
        op = Constant(ConstantArray(array))
        return self.builder(op, elem=elem, loc=(user.name,), origin=Original(name))

    # Importing

    def import_node(self, node: onnx.NodeProto) -> None:
        """Fold, defer or emit one node.

        Raises:
            QCompilerError: the node is malformed.
        """
        layer = Layer(node, self.opset, self)
        names = [name for name in node.input if name]
        for name in names:
            if not (name in self.values or self.is_known(name) or name in self.unavailable):
                raise QCompilerError(
                    f"{layer.op_type} uses {name!r}, which no earlier node computes", layer=layer.name,
                    fix="sort the model's nodes topologically",
                )
        try:
            if layer.op_type in ("Shape", "Size"):
                self._import_shape(layer)
            elif any(name in self.unavailable for name in names):
                self._pass_over(layer)
            elif all(self.is_known(name) for name in names):
                self._import_constant(layer)
            else:
                self._emit(layer)
        except UnsupportedOperator as missing:
            self._refuse(layer, str(missing))
        except UnavailableOperand:
            self._pass_over(layer)

    def _import_shape(self, layer: Layer) -> None:
        layer.require(0)
        name = layer.node.input[0]
        if name in self.unavailable:
            self.unavailable[layer.node.output[0]] = False
            return
        shape = self.values[name].type.shape if name in self.values else self.array(name).shape
        if layer.op_type == "Size":
            array = shape_arithmetic.size_array(shape)
        else:
            end = layer.integer("end", len(shape))
            array = shape_arithmetic.shape_array(tuple(shape)[layer.integer("start", 0) : end])
        self.arrays[layer.node.output[0]] = array

    def _import_constant(self, layer: Layer) -> None:
        """A node whose operands are all known."""
        if layer.op_type == "Constant":
            self.arrays[layer.node.output[0]] = constant_value(layer)
            return
        symbolic = any(a is not None and a.dtype == object for a in self._available(layer))
        if symbolic:
            result = shape_arithmetic.evaluate(layer, self._inputs(layer))
            if result is None:
                self._emit(layer)
            else:
                self.arrays[layer.node.output[0]] = result
        elif any(self._is_float(name) for name in layer.node.input if name):
            self.deferred.update((name, layer) for name in layer.node.output if name)
        else:
            results = evaluate_node(layer, self._inputs(layer))
            self.arrays.update(zip(_outputs(layer), results, strict=True))

    def _available(self, layer: Layer) -> list[Array | None]:
        return [self.arrays.get(name) for name in layer.node.input]

    def _inputs(self, layer: Layer) -> list[Array | None]:
        return [self.array(name) if name else None for name in layer.node.input]

    def _is_float(self, name: str) -> bool:
        # Formats numpy does not know, such as bfloat16, have kind "V".
        return name in self.deferred or self.arrays[name].dtype.kind in "fV"

    def _emit(self, layer: Layer) -> None:
        handler = HANDLERS.get(layer.op_type)
        if handler is None:
            raise UnsupportedOperator(missing_operator(layer.op_type))
        results = handler(layer)
        self._bind(layer, [results] if isinstance(results, Value) else results)

    def _emit_deferred(self, layer: Layer) -> None:
        """Emit a computation on constants; where there is no handler, its result is a constant."""
        try:
            # Weights stored in another float format are converted here: the program has none but float32.
            if all(self.arrays[name].dtype == np.float32 for name in layer.node.input if self._is_stored_float(name)):
                self._emit(layer)
        except UnsupportedOperator:
            pass  # the caller evaluates what has no value

    def _is_stored_float(self, name: str) -> bool:
        return name in self.arrays and self._is_float(name)

    def _bind(self, layer: Layer, results: Sequence[Value]) -> None:
        for index, name in enumerate(layer.node.output):
            if not name:
                continue
            if index >= len(results):
                if name in self.needed:
                    raise UnsupportedOperator(f"output {index} ({name!r}) is used")
                continue
            value = results[index]
            # A handler that returns its operand gives the value a second name; the first one stays its origin.
            if value.producer in layer.created:
                value.origin = Original(name)
            self.values[name] = value

    # Refusing

    def _refuse(self, layer: Layer, reason: str) -> None:
        self.unsupported.append((layer, reason))
        self.unavailable.update((name, True) for name in layer.node.output if name)

    def _pass_over(self, layer: Layer) -> None:
        """A node with unavailable operands: it is refused only if no operands could make it importable."""
        tensor = any(name in self.values or self.unavailable.get(name, False) for name in layer.node.input)
        if layer.op_type not in HANDLERS and tensor:
            self._refuse(layer, missing_operator(layer.op_type))
        else:
            self.unavailable.update((name, tensor) for name in layer.node.output if name)


def _outputs(layer: Layer) -> list[str]:
    return [name for name in layer.node.output if name]
