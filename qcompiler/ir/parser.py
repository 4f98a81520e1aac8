"""Reads ``.qir`` text. ``parse(*print_with_constants(graph))`` is equal to ``graph``."""

from __future__ import annotations

import dataclasses
import json
import re
import typing
from collections.abc import Mapping
from typing import Any

import numpy as np

from qcompiler.errors import QCompilerError
from qcompiler.ir.arithmetic import Arithmetic
from qcompiler.ir.constant_array import ConstantArray
from qcompiler.ir.dimension import Shape, parse_dim
from qcompiler.ir.graph import Graph, Loc, Node
from qcompiler.ir.lexer import Tokens
from qcompiler.ir.op import OPS, Constants, Op
from qcompiler.ir.printer import VERSION
from qcompiler.ir.scalar import SCALARS
from qcompiler.ir.types import Affine, BlockFloat, Elem, TensorType, block_grid
from qcompiler.ir.value import Origin, Original, Untraced, Value

ArrayMap = Mapping[str, "np.ndarray[Any, Any] | ConstantArray"]


def parse(text: str, constants: ArrayMap | None = None) -> Graph:
    """Read a program.

    Args:
        text: ``.qir`` text.
        constants: arrays that the text cites as ``@name``, by name.

    Raises:
        QCompilerError: the text is malformed or cites an array that ``constants`` lacks; names line and column.
    """
    header = re.match(r"// qir (\d+)\n", text)
    if not header or int(header[1]) != VERSION:
        raise QCompilerError(
            "not a .qir text of this version", expected=f"first line '// qir {VERSION}'", found=text[:40].split("\n")[0]
        )
    pipeline = re.match(r"// qir \d+\n// pipeline: ([^\n]*)\n", text)
    graph = _Parser(text, constants or {}).program()
    graph.pipeline = pipeline[1] if pipeline else ""
    return graph


def parse_type(text: str, constants: ArrayMap | None = None) -> TensorType:
    """Read a type such as ``q<i8, 0.5:-3>[1,64]``."""
    return _Parser(text, constants or {}).tensor_type()


class _Parser:
    def __init__(self, text: str, constants: ArrayMap) -> None:
        self.tokens = Tokens(text)
        self.constants = constants
        self.arrays: dict[str, ConstantArray] = {}
        self.types: dict[str, TensorType] = {}

    # Programs

    def program(self) -> Graph:
        tokens = self.tokens
        tokens.expect("graph")
        graph = Graph(_unquote(tokens.take("citation")[1:]))
        names: dict[str, Value] = {}
        tokens.expect("(")
        while not tokens.accept(")"):
            text = tokens.take("value")
            tokens.expect(":")
            type = self.tensor_type()
            names[text] = graph.add_input(_unquote(text[1:]), type, self.origin("graph input"))
            tokens.accept(",")
        output_names = self.signature_outputs()
        if tokens.accept("target"):
            tokens.expect("(")
            graph.target = json.loads(tokens.take("string"))
            tokens.expect(")")
        tokens.expect("{")
        self.nodes(graph, names, "return")
        outputs = self.values(names)
        tokens.expect("}")
        tokens.take("end")
        if len(outputs) != len(output_names):
            raise tokens.error(f"the signature names {len(output_names)} outputs, {len(outputs)} are returned")
        graph.set_outputs(zip(output_names, outputs, strict=True))
        return graph

    def signature_outputs(self) -> list[str]:
        tokens = self.tokens
        tokens.expect("->")
        tokens.expect("(")
        names = []
        while not tokens.accept(")"):
            names.append(_unquote(tokens.take("word", "string")))
            tokens.expect(":")
            self.tensor_type()
            tokens.accept(",")
        return names

    def nodes(self, graph: Graph, names: dict[str, Value], end: str) -> None:
        while not self.tokens.accept(end):
            self.node(graph, names)

    def node(self, graph: Graph, names: dict[str, Value]) -> None:
        tokens = self.tokens
        results = [tokens.take("value")]
        while tokens.accept(","):
            results.append(tokens.take("value"))
        tokens.expect("=")
        op_name = tokens.take("word")
        cls = OPS.get(op_name)
        if cls is None:
            raise tokens.error(f"unknown op {op_name!r}", tokens.items[tokens.position - 1][2])
        operands = self.values(names) if tokens.kind == "value" else []
        attributes = self.attributes(cls) if tokens.accept("{") else {}
        tokens.expect("->")
        types = self.result_types()
        if len(types) != len(results):
            raise tokens.error(f"{len(results)} results but {len(types)} types")
        usual = f"made by {op_name}"
        origins = [self.origin(usual) for _ in types]
        loc = self.loc()
        if "body" in _field_types(cls):
            tokens.expect("{")
            attributes["body"] = self.body(operands, names)
        node = Node(self.build(cls, attributes), operands, loc)
        node.results = tuple(Value(t, o, node) for t, o in zip(types, origins, strict=True))
        graph.append(node)
        for text, value in zip(results, node.results, strict=True):
            if text in names:
                raise tokens.error(f"{text} is defined twice")
            names[text] = value

    def body(self, operands: list[Value], names: dict[str, Value]) -> Graph:
        inner = Graph("body")
        outer = {value: text for text, value in names.items() if value in set(operands)}
        scope: dict[str, Value] = {}
        for index, value in enumerate(operands):
            scope[outer[value]] = inner.add_input(str(index), value.type)
        self.nodes(inner, scope, "yield")
        results = self.values(scope)
        self.tokens.expect("}")
        inner.set_outputs((str(i), v) for i, v in enumerate(results))
        return inner

    def build(self, cls: type[Op], attributes: dict[str, Any]) -> Op:
        fields = _field_types(cls)
        extra = {k: attributes.pop(k) for k in list(attributes) if k not in fields}
        holder = next((name for name, type in fields.items() if "Constants" in type), None)
        if extra and holder is None:
            raise self.tokens.error(f"op {cls.name!r} has no attribute {next(iter(extra))!r}")
        if holder is not None:
            attributes[holder] = Constants(extra)
        try:
            return cls(**attributes)
        except TypeError as error:
            raise self.tokens.error(f"op {cls.name!r}: {error}") from error

    def values(self, names: dict[str, Value]) -> list[Value]:
        values = []
        while True:
            text = self.tokens.take("value")
            if text not in names:
                raise self.tokens.error(f"{text} is not defined", self.tokens.items[self.tokens.position - 1][2])
            values.append(names[text])
            if not self.tokens.accept(","):
                return values

    def origin(self, usual: str) -> Origin:
        tokens = self.tokens
        if not tokens.accept("original"):
            return Untraced(usual)
        tokens.expect("(")
        if tokens.accept("none"):
            tokens.expect(",")
            reason = json.loads(tokens.take("string"))
            tokens.expect(")")
            return Untraced(reason)
        name = json.loads(tokens.take("string"))
        permutation, factor = None, None
        while tokens.accept(","):
            key = tokens.take("word")
            tokens.expect("=")
            if key == "permutation":
                permutation = self.literal()
            else:
                factor = self.literal()
        tokens.expect(")")
        return Original(name, permutation, factor)

    def loc(self) -> Loc:
        tokens = self.tokens
        if not tokens.accept("loc"):
            return ()
        tokens.expect("(")
        names = [json.loads(tokens.take("string"))]
        while tokens.accept(","):
            names.append(json.loads(tokens.take("string")))
        tokens.expect(")")
        return tuple(names)

    # Attributes

    def attributes(self, cls: type[Op]) -> dict[str, Any]:
        tokens = self.tokens
        fields = _field_types(cls)
        items: dict[str, Any] = {}
        while True:
            key = tokens.take("word")
            tokens.expect("=")
            if "Arithmetic" in fields.get(key, ""):
                items[key] = self.arithmetic()
            else:
                items[key] = self.literal()
            if tokens.accept("}"):
                return items
            tokens.expect(",")

    def arithmetic(self) -> Arithmetic:
        tokens = self.tokens
        text = tokens.take("word", "string")
        if tokens.accept("{"):
            items = []
            while not tokens.accept("}"):
                key = tokens.take("word")
                tokens.expect("=")
                items.append(f"{key}={tokens.take('word', 'number')}")
            text += "{" + " ".join(items) + "}"
        return Arithmetic.parse(text)

    def literal(self) -> Any:
        tokens = self.tokens
        if tokens.accept("["):
            items = []
            while not tokens.accept("]"):
                items.append(self.literal())
                tokens.accept(",")
            return tuple(items)
        if tokens.accept("dense"):
            return self.dense()
        kind, text = tokens.kind, tokens.take("number", "string", "citation", "word", "product")
        if kind == "number":
            return _number(text)
        if kind == "string":
            return json.loads(text)
        if kind == "citation":
            return self.cited(text)
        if kind == "product":
            return parse_dim(text)
        if text in ("true", "false"):
            return text == "true"
        if text == "none":
            return None
        return SCALARS[text] if text in SCALARS else parse_dim(text)

    def dense(self) -> ConstantArray:
        tokens = self.tokens
        tokens.expect("<")
        type = self.tensor_type()
        tokens.expect(">")
        shape = tuple(int(str(d)) for d in type.shape)
        return ConstantArray(np.array(self.literal(), type.storage.dtype).reshape(shape))

    def cited(self, citation: str) -> ConstantArray:
        name = citation[1:]
        if name not in self.arrays:
            if name not in self.constants:
                raise self.tokens.error(f"the constants lack {citation}")
            array = self.constants[name]
            self.arrays[name] = array if isinstance(array, ConstantArray) else ConstantArray(array)
        return self.arrays[name]

    # Types

    def result_types(self) -> list[TensorType]:
        if not self.tokens.accept("("):
            return [self.tensor_type()]
        types = []
        while not self.tokens.accept(")"):
            types.append(self.tensor_type())
            self.tokens.accept(",")
        return types

    def tensor_type(self) -> TensorType:
        text = self.tokens.take("type")
        if text not in self.types:
            try:
                self.types[text] = self.read_type(text)
            except (ValueError, KeyError, IndexError) as error:
                raise self.tokens.error(f"malformed type {text!r}: {error}") from error
        return self.types[text]

    def read_type(self, text: str) -> TensorType:
        elem_text, _, shape_text = text[:-1].rpartition("[")
        shape = _dims(shape_text)
        return TensorType(shape, self.elem(elem_text, shape))

    def elem(self, text: str, shape: Shape) -> Elem:
        if text in SCALARS:
            return SCALARS[text]
        block = re.fullmatch(r"bf<m(\d+)e(\d+), blocks=\[([^\]]*)\]>", text)
        if block:
            return BlockFloat(int(block[1]), int(block[2]), _dims(block[3]))
        single = re.fullmatch(r"q<(\w+)(?:\[(-?\d+),(-?\d+)\])?, ([^:>]+):(-?\d+)>", text)
        if single:
            storage = SCALARS[single[1]]
            return Affine.per_tensor(
                storage, float(single[4]), int(single[5]), _optional(single[2]), _optional(single[3])
            )
        grid = re.fullmatch(
            r"q<(\w+)(?:\[(-?\d+),(-?\d+)\])?, blocks=\[([^\]]*)\], scale=([^\s>]+?)(?:, zero_point=([^\s>]+))?>", text
        )
        if not grid:
            raise ValueError("not an element type")
        blocks = _dims(grid[4])
        counts = block_grid(shape, blocks)
        scale = self.grid(grid[5], counts, np.float32)
        zero_point = self.grid(grid[6], counts, np.int64) if grid[6] else np.zeros(counts, np.int64)
        return Affine.blocked(
            SCALARS[grid[1]], scale, zero_point, blocks, _optional(grid[2]), _optional(grid[3])
        )

    def grid(self, text: str, counts: tuple[int, ...], dtype: type[np.generic]) -> Any:
        if text.startswith("@"):
            return self.cited(text).array
        return np.array([float(v) if dtype is np.float32 else int(v) for v in text[1:-1].split(",")], dtype).reshape(
            counts
        )


def _dims(text: str) -> Shape:
    return tuple(parse_dim(item.strip()) for item in text.split(",") if item.strip())


def _optional(text: str | None) -> int | None:
    return None if text is None else int(text)


def _number(text: str) -> int | float:
    return int(text) if re.fullmatch(r"-?\d+", text) else float(text)


def _unquote(text: str) -> str:
    return str(json.loads(text)) if text.startswith('"') else text


_FIELD_TYPES: dict[type[Op], dict[str, str]] = {}


def _field_types(cls: type[Op]) -> dict[str, str]:
    """Attribute names of an op class with the text of their annotations."""
    if cls not in _FIELD_TYPES:
        fields = dataclasses.fields(typing.cast(Any, cls))
        _FIELD_TYPES[cls] = {f.name: str(f.type) for f in fields}
    return _FIELD_TYPES[cls]
