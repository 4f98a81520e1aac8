"""One ONNX node as its handler sees it: attributes, operands, and how to emit IR nodes for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray

from qcompiler.errors import QCompilerError
from qcompiler.frontends.onnx.tensor_data import scalar_for
from qcompiler.ir import ConstantArray, Node, Op, Origin, Scalar, Shape, Untraced, Value
from qcompiler.ir.types import Elem
from qcompiler.ops.constant import Constant
from qcompiler.registry import Registry

if TYPE_CHECKING:
    from qcompiler.frontends.onnx.environment import Environment

Array = NDArray[Any]


class UnsupportedOperator(Exception):
    """What the importer lacks for a node. The importer collects these and reports them all at once."""


class UnavailableOperand(Exception):
    """An operand stems from a node that is not supported; the node that uses it is passed over."""


class Layer:
    """One ONNX node that is being imported.

    Attributes:
        node: the ONNX node.
        opset: version of the standard operator set.
        name: the node's name, or its first output's name where it has none.
        created: IR nodes emitted for it.
    """

    def __init__(self, node: onnx.NodeProto, opset: int, environment: Environment) -> None:
        self.node = node
        self.opset = opset
        self.environment = environment
        self.name: str = node.name or next((o for o in node.output if o), node.op_type)
        self.created: set[Node] = set()

    @property
    def op_type(self) -> str:
        """Operator name, with its domain unless that is the standard one."""
        domain = self.node.domain
        return self.node.op_type if domain in ("", "ai.onnx") else f"{domain}.{self.node.op_type}"

    # Attributes

    @cached_property
    def attributes(self) -> dict[str, Any]:
        return {a.name: onnx.helper.get_attribute_value(a) for a in self.node.attribute}

    def integer(self, name: str, default: int) -> int:
        """Integer attribute ``name``."""
        return int(self._attribute(name, default, int))

    def number(self, name: str, default: float) -> float:
        """Float attribute ``name``: exactly the float32 that the model holds."""
        return float(np.float32(self._attribute(name, default, (int, float))))

    def text(self, name: str, default: str) -> str:
        """String attribute ``name``."""
        value = self._attribute(name, default.encode(), bytes)
        return bytes(value).decode(errors="replace")

    def integers(self, name: str) -> list[int] | None:
        """Integer list attribute ``name``; None where it is absent."""
        value = self._attribute(name, None, (list, type(None)))
        return None if value is None else [int(v) for v in value]

    def _attribute(self, name: str, default: Any, kind: type | tuple[type, ...]) -> Any:
        value = self.attributes.get(name, default)
        if not isinstance(value, kind):
            raise QCompilerError(f"attribute {name!r} has the wrong type", layer=self.name, found=repr(value))
        return value

    # Operands

    def has(self, index: int) -> bool:
        """Whether optional operand ``index`` is present."""
        return index < len(self.node.input) and bool(self.node.input[index])

    def operand(self, index: int) -> Value:
        """Operand ``index`` as an IR value; constants become constant nodes.

        Raises:
            QCompilerError: it is absent, or cannot be a tensor.
        """
        self.require(index)
        return self.environment.value(self.node.input[index], self)

    def operands(self) -> list[Value]:
        """All operands."""
        return [self.operand(i) for i in range(len(self.node.input))]

    def known(self, index: int) -> bool:
        """Whether operand ``index`` has a value at import."""
        return self.has(index) and self.environment.is_known(self.node.input[index])

    def parameter(self, index: int, what: str) -> Array:
        """Operand ``index`` as an array known at import; of Python objects where it holds the batch.

        Raises:
            UnsupportedOperator: it is computed from the inputs.
            QCompilerError: it is absent.
        """
        self.require(index)
        if not self.known(index):
            self.environment.require_available(self.node.input[index])
            raise UnsupportedOperator(f"{what} ({self.node.input[index]!r}) is computed at run time")
        return self.environment.array(self.node.input[index])

    def fixed_integers(self, index: int, what: str) -> list[int]:
        """Operand ``index`` as integers known at import.

        Raises:
            UnsupportedOperator: it is computed from the inputs, or depends on the batch.
        """
        array = self.parameter(index, what)
        if array.dtype == object:
            raise UnsupportedOperator(f"{what} depends on the batch size; fix the batch")
        if array.dtype.kind not in "iu":
            raise self.invalid(f"{what} must hold integers", found=str(array.dtype))
        return [int(v) for v in array.reshape(-1)]

    def axes(self, index: int, moved: int) -> list[int] | None:
        """Axes: an attribute before opset ``moved``, then operand ``index``; None where they are absent."""
        if self.opset < moved:
            return self.integers("axes")
        return self.fixed_integers(index, "the axes operand") if self.has(index) else None

    def axis(self, axis: int, rank: int) -> int:
        """``axis`` counted from the front.

        Raises:
            QCompilerError: it is outside ``rank``.
        """
        if not -rank <= axis < max(rank, 1):
            raise QCompilerError(f"{self.op_type}: axis {axis} is outside rank {rank}", layer=self.name)
        return axis % max(rank, 1)

    def require(self, index: int) -> None:
        """Refuse a node that lacks operand ``index``.

        Raises:
            QCompilerError: it is absent.
        """
        if not self.has(index):
            raise QCompilerError(f"{self.op_type} lacks operand {index}", layer=self.name)

    # Emitting

    def emit(self, op: Op, *operands: Value, elem: Elem | None = None) -> Value:
        """One IR node with one result."""
        return self.emit_node(op, operands, elem=elem).result

    def emit_node(
        self, op: Op, operands: Sequence[Value], *, elem: Elem | None = None, origin: Origin | None = None
    ) -> Node:
        """One IR node. Its results become traced when the handler returns them as the layer's outputs."""
        reason = origin or Untraced(f"a step of {self.op_type} layer {self.name}")
        node = self.environment.builder.create(op, operands, elem=elem, loc=(self.name,), origin=reason)
        self.created.add(node)
        return node

    def constant(self, values: Any, origin: Origin | None = None) -> Value:
        """A constant node; Python floats become float32."""
        array = np.asarray(values)
        if array.dtype == np.float64:
            array = array.astype(np.float32)
        elem: Scalar = scalar_for(array.dtype, "a constant", self.name)
        return self.emit_node(Constant(ConstantArray(array)), (), elem=elem, origin=origin).result

    def invalid(self, problem: str, *, found: str | None = None, fix: str | None = None) -> QCompilerError:
        """An error at this layer."""
        return QCompilerError(f"{self.op_type}: {problem}", layer=self.name, found=found, fix=fix)


NONDETERMINISTIC = frozenset(
    {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli"}
)


def missing_operator(op_type: str) -> str:
    """Why an operator without a handler is not supported."""
    if op_type in ("If", "Loop", "Scan"):
        return "control flow is not supported"
    if op_type in ("LSTM", "GRU", "RNN"):
        return "recurrent layers are not supported"
    if op_type in NONDETERMINISTIC:
        return "random numbers are not supported"
    if "." in op_type:
        return f"no plugin reads operators of the domain {op_type.rpartition('.')[0]!r}"
    return "the operator is not supported on values computed from the inputs"


Handler = Callable[[Layer], Value | Sequence[Value]]

HANDLERS: Registry[str, Handler] = Registry("ONNX operator")
"""Handlers by operator name, with the domain before it unless that is the standard one."""


def handles(*op_types: str, domain: str = "") -> Callable[[Handler], Handler]:
    """Register a function as the handler of ONNX operators.

    The function takes a :class:`Layer` and returns the IR values that stand for its outputs.

    Args:
        op_types: operator names.
        domain: the operator set that they belong to, such as "com.example"; empty for the standard one.

    Raises:
        QCompilerError: one of the operators has a handler.
    """

    def register(handler: Handler) -> Handler:
        for op_type in op_types:
            HANDLERS.add(f"{domain}.{op_type}" if domain else op_type, handler)
        return handler

    return register


def static_sizes(layer: Layer, shape: Shape, axes: Sequence[int]) -> list[int]:
    """Sizes of ``axes``, which must not hold the batch.

    Raises:
        UnsupportedOperator: one of them does.
    """
    sizes = []
    for axis in axes:
        size = shape[axis]
        if not isinstance(size, int):
            raise UnsupportedOperator(f"axis {axis} has the free size {size}; fix the batch")
        sizes.append(size)
    return sizes
