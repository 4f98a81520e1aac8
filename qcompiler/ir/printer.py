"""Prints programs as ``.qir`` text. :mod:`qcompiler.ir.parser` reads it back to an equal graph."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from qcompiler.ir.arithmetic import Arithmetic
from qcompiler.ir.constant_array import ConstantArray
from qcompiler.ir.dimension import SymbolicDim, format_shape
from qcompiler.ir.graph import Graph
from qcompiler.ir.node import Loc, Node
from qcompiler.ir.op import Constants
from qcompiler.ir.scalar import Scalar, scalar_of
from qcompiler.ir.types import BlockFloat, Elem, TensorType
from qcompiler.ir.value import Origin, Original, Untraced, Value

VERSION = 1
INLINE_ELEMENTS = 8
"""Arrays of at most this many elements stand in the text; larger ones are cited by content."""

_IDENTIFIER = re.compile(r"[A-Za-z_][\w.]*")


def print_graph(graph: Graph) -> str:
    """The ``.qir`` text of ``graph``; constants of more than ``INLINE_ELEMENTS`` elements are cited as ``@hash``."""
    return _Printer().program(graph)


def print_with_constants(graph: Graph) -> tuple[str, dict[str, np.ndarray[Any, Any]]]:
    """Text and cited arrays together."""
    printer = _Printer()
    text = printer.program(graph)
    return text, {name: array.array for name, array in printer.cited.items()}


def value_names(graph: Graph) -> dict[Value, str]:
    """The name that each value has in the printed program, such as ``%17``; those in fused bodies included."""
    names = {value: "%" + _name(value.name) for value in graph.inputs}
    _name_results(graph, names, 0)
    return names


def print_node(node: Node, names: Mapping[Value, str]) -> str:
    """The text of one node and its body.

    Args:
        node: the node.
        names: the names of all values, from :func:`value_names`.
    """
    return "\n".join(_Printer().node(node, names, ""))


def format_elem(elem: Elem) -> str:
    """The ``.qir`` text of an element type, such as ``f32`` or ``q<i8, 0.5:-3>``."""
    return _Printer().elem(elem)


def format_attribute(value: Any) -> str:
    """An attribute value as it stands in the text."""
    return _Printer().attribute(value)


def citation(array: ConstantArray) -> str:
    """The name under which a text cites an array, without the ``@``."""
    return array.digest[:16]


class _Printer:
    def __init__(self) -> None:
        self.cited: dict[str, ConstantArray] = {}
        self.type_texts: dict[TensorType, str] = {}

    def program(self, graph: Graph) -> str:
        lines = [f"// qir {VERSION}"]
        if graph.pipeline:
            lines.append(f"// pipeline: {graph.pipeline}")
        names = value_names(graph)
        inputs = [
            f"{names[v]}: {self.tensor_type(v.type)}{self.origin(v.origin, 'graph input')}" for v in graph.inputs
        ]
        outputs = ", ".join(f"{_name(o.name)}: {self.tensor_type(o.value.type)}" for o in graph.outputs)
        target = f" target({json.dumps(graph.target)})" if graph.target else ""
        lines.append(f"graph @{_name(graph.name)}({', '.join(inputs)}) -> ({outputs}){target} {{")
        for node in graph.nodes:
            lines.extend(self.node(node, names, "  "))
        lines.append("  return " + ", ".join(names[o.value] for o in graph.outputs))
        lines.append("}")
        return "\n".join(lines) + "\n"

    def node(self, node: Node, names: Mapping[Value, str], indent: str) -> list[str]:
        lines = [indent + self.head(node, names)]
        body = getattr(node.op, "body", None)
        if isinstance(body, Graph):
            lines[-1] += " {"
            for part in body.nodes:
                lines.extend(self.node(part, names, indent + "  "))
            lines.append(f"{indent}  yield " + ", ".join(names[o.value] for o in body.outputs))
            lines.append(indent + "}")
        return lines

    def head(self, node: Node, names: Mapping[Value, str]) -> str:
        parts = [", ".join(names[v] for v in node.results), "=", node.op.name]
        if node.operands:
            parts.append(", ".join(names.get(v, "%undefined") for v in node.operands))
        attributes = self.attributes(node)
        if attributes:
            parts.append("{" + ", ".join(attributes) + "}")
        types = [self.tensor_type(v.type) for v in node.results]
        parts.append("-> " + (types[0] if len(types) == 1 else "(" + ", ".join(types) + ")"))
        head = " ".join(parts)
        return head + self.origins(node) + (" on_host" if node.on_host else "") + _loc(node.loc)

    def origins(self, node: Node) -> str:
        """Origins of the results: none where each is the usual one, else one for each result."""
        usual = f"made by {node.op.name}"
        texts = [self.origin(v.origin, usual) for v in node.results]
        if len(texts) > 1 and any(texts):
            texts = [self.origin(v.origin, None) for v in node.results]
        return "".join(texts)

    def attributes(self, node: Node) -> list[str]:
        """``name = value`` of each attribute that differs from its default."""
        items: list[str] = []
        for field in dataclasses.fields(node.op):  # type: ignore[arg-type]
            value = getattr(node.op, field.name)
            if isinstance(value, Graph) or (value == field.default and repr(value) == repr(field.default)):
                continue
            if isinstance(value, Constants):
                items.extend(f"{key} = {self.attribute(array)}" for key, array in value.items())
            else:
                items.append(f"{field.name} = {self.attribute(value)}")
        return items

    def tensor_type(self, tensor_type: TensorType) -> str:
        text = self.type_texts.get(tensor_type)
        if text is None:
            text = self.type_texts[tensor_type] = self.elem(tensor_type.elem) + format_shape(tensor_type.shape)
        return text

    def elem(self, elem: Elem) -> str:
        if isinstance(elem, Scalar):
            return elem.name
        if isinstance(elem, BlockFloat):
            return self.block_float(elem)
        storage = str(elem.storage) + ("" if elem.full_range else f"[{elem.qmin},{elem.qmax}]")
        if elem.is_per_tensor:
            return f"q<{storage}, {format_float32(np.float32(elem.scale.array))}:{elem.zero_point.array[()]}>"
        text = f"q<{storage}, blocks={format_shape(elem.blocks)}, scale={self.grid(elem.scale)}"
        return text + (">" if elem.symmetric else f", zero_point={self.grid(elem.zero_point)}>")

    def block_float(self, elem: BlockFloat) -> str:
        """Fields of the format that differ from their defaults follow the widths."""
        items = [f"m{elem.format.mantissa}e{elem.format.exponent}"]
        for field in dataclasses.fields(elem.format):
            value = getattr(elem.format, field.name)
            if field.default is not dataclasses.MISSING and field.name != "exponent" and value != field.default:
                items.append(f"{field.name}={self.attribute(value) if isinstance(value, bool) else value}")
        items.append(f"blocks={format_shape(elem.blocks)}")
        if elem.exponents is not None:
            items.append(f"exponents={self.grid(elem.exponents)}")
        return f"bf<{', '.join(items)}>"

    def grid(self, array: ConstantArray) -> str:
        if array.array.size <= INLINE_ELEMENTS:
            return "[" + ",".join(_number(v) for v in array.array.reshape(-1)) + "]"
        return self.cite(array)

    def cite(self, array: ConstantArray) -> str:
        name = citation(array)
        self.cited[name] = array
        return "@" + name

    def attribute(self, value: Any) -> str:
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, str):
            return json.dumps(value)
        if isinstance(value, float):
            return repr(float(value))
        if isinstance(value, ConstantArray):
            if value.array.size > INLINE_ELEMENTS or _has_other_nan(value.array):
                return self.cite(value)
            held = scalar_of(value.array.dtype).name + format_shape(value.shape)
            return f"dense<{held}>[" + ",".join(_number(v) for v in value.array.reshape(-1)) + "]"
        if isinstance(value, tuple):
            return "[" + ", ".join(self.attribute(v) for v in value) + "]"
        if value is None:
            return "none"
        if isinstance(value, TensorType):
            return self.tensor_type(value)
        if isinstance(value, int | SymbolicDim | Arithmetic | Scalar):
            return str(value)
        raise TypeError(f"attribute of type {type(value).__name__} has no text")

    def origin(self, origin: Origin, usual: str | None) -> str:
        """Text of an origin; nothing for the reason that a new value has by itself."""
        if isinstance(origin, Untraced):
            return "" if origin.reason == usual else f" original(none, {json.dumps(origin.reason)})"
        return f" {self.original(origin)}"

    def original(self, origin: Original) -> str:
        text = f"original({json.dumps(origin.name)}"
        if origin.permutation is not None:
            text += f", permutation = {self.attribute(origin.permutation)}"
        if origin.factor is not None:
            text += f", factor = {self.attribute(origin.factor)}"
        return text + ")"


def format_float32(value: np.floating[Any]) -> str:
    """Shortest decimal that reads back as the same float32."""
    text = str(np.float32(value))
    return text if np.float32(float(text)) == value else repr(float(value))


def _number(value: Any) -> str:
    if isinstance(value, np.bool_):
        return "true" if value else "false"
    if isinstance(value, np.float32):
        return format_float32(value)
    return str(value) if isinstance(value, np.integer) else repr(float(value))


def _has_other_nan(array: np.ndarray[Any, Any]) -> bool:
    """Whether a NaN has other bits than the one that the text ``nan`` reads back to."""
    if array.dtype.kind in "iub":
        return False
    unsigned = np.dtype(f"u{array.dtype.itemsize}")
    usual = np.array(float("nan"), array.dtype).view(unsigned)
    return bool((np.isnan(array) & (array.view(unsigned) != usual)).any())


def _name_results(graph: Graph, names: dict[Value, str], count: int) -> int:
    """Number the results of all nodes from ``count`` on; returns the next number."""
    for node in graph.nodes:
        for value in node.results:
            names[value] = f"%{count}"
            count += 1
        body = getattr(node.op, "body", None)
        if isinstance(body, Graph):
            names.update(_body_names(node, body, names))
            count = _name_results(body, names, count)
    return count


def _body_names(node: Node, body: Graph, names: Mapping[Value, str]) -> dict[Value, str]:
    """Body inputs carry the names of the operands they stand for; an operand that comes again has its index."""
    first: dict[Value, int] = {}
    return {
        inside: names.get(operand, "%undefined") if first.setdefault(operand, index) == index else f"%.{index}"
        for index, (inside, operand) in enumerate(zip(body.inputs, node.operands, strict=True))
    }


def _name(name: str) -> str:
    """``name``, in quotes where it would not read back as a word."""
    return name if _IDENTIFIER.fullmatch(name) and name not in ("inf", "nan") else json.dumps(name)


def _loc(loc: Loc) -> str:
    return " loc(" + ", ".join(json.dumps(name) for name in loc) + ")" if loc else ""
