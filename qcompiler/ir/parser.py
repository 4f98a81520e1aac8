"""Reads ``.qir`` text. ``parse(*print_with_constants(graph))`` is equal to ``graph``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from qcompiler.errors import QCompilerError, did_you_mean
from qcompiler.ir.attribute_text import ArrayMap, AttributeReader
from qcompiler.ir.attribute_types import attribute_types, conforms
from qcompiler.ir.constant_array import ConstantArray
from qcompiler.ir.graph import Graph
from qcompiler.ir.lexer import Tokens
from qcompiler.ir.node import Loc, Node
from qcompiler.ir.op import OPS, Constants, Op
from qcompiler.ir.printer import VERSION
from qcompiler.ir.types import TensorType
from qcompiler.ir.value import Origin, Original, Untraced, Value


def parse(text: str, constants: ArrayMap | None = None) -> Graph:
    """Read a program.

    Args:
        text: ``.qir`` text.
        constants: arrays that the text cites as ``@name``, by name.

    Raises:
        QCompilerError: the text is malformed or cites an array that ``constants`` lacks; names line and column.
    """
    return parse_with_names(text, constants)[0]


def parse_with_names(text: str, constants: ArrayMap | None = None) -> tuple[Graph, dict[Value, str]]:
    """Read a program, and keep the name that the text gives to each value, such as ``%sum``.

    Values in different fused bodies may have the same name. A body's inputs have none of their own.

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
    parser = _Parser(text, constants)
    graph = parser.program()
    graph.pipeline = pipeline[1] if pipeline else ""
    return graph, parser.written


def parse_type(text: str, constants: ArrayMap | None = None) -> TensorType:
    """Read a type such as ``q<i8, 0.5:-3>[1,64]``."""
    return _Parser(text, constants).tensor_type()


class _Parser(AttributeReader):
    def __init__(self, text: str, constants: ArrayMap | None) -> None:
        super().__init__(Tokens(text), constants)
        self.written: dict[Value, str] = {}

    # Programs

    def program(self) -> Graph:
        tokens = self.tokens
        tokens.expect("graph")
        graph = Graph(self.unquoted(tokens.take("citation")[1:]))
        names: dict[str, Value] = {}
        tokens.expect("(")
        while not tokens.accept(")"):
            text = tokens.take("value")
            tokens.expect(":")
            if text in names:
                raise tokens.error(f"{text} is defined twice", tokens.passed)
            type = self.tensor_type()
            names[text] = graph.add_input(self.unquoted(text[1:]), type, self.origin("graph input"))
            self.written[names[text]] = text
            tokens.accept(",")
        signature = self.signature_outputs()
        if tokens.accept("target"):
            tokens.expect("(")
            graph.target = self.string()
            tokens.expect(")")
        tokens.expect("{")
        self.nodes(graph, names, "return")
        outputs = [names[text] for text in self.defined(names)]
        if len(outputs) != len(signature):
            raise tokens.error(f"the signature names {len(signature)} outputs, {len(outputs)} are returned")
        for (name, type), value in zip(signature, outputs, strict=True):
            if value.type != type:
                raise tokens.error(f"the signature says {type} for output {name!r}, {value.type} is returned")
        tokens.expect("}")
        tokens.take("end")
        graph.set_outputs((name, value) for (name, _), value in zip(signature, outputs, strict=True))
        return graph

    def signature_outputs(self) -> list[tuple[str, TensorType]]:
        tokens = self.tokens
        tokens.expect("->")
        tokens.expect("(")
        outputs = []
        while not tokens.accept(")"):
            name = self.unquoted(tokens.take("word", "string"))
            tokens.expect(":")
            outputs.append((name, self.tensor_type()))
            tokens.accept(",")
        return outputs

    def nodes(self, graph: Graph, names: dict[str, Value], end: str) -> None:
        while not self.tokens.accept(end):
            self.node(graph, names)

    def node(self, graph: Graph, names: dict[str, Value]) -> None:
        tokens = self.tokens
        start = tokens.position
        results = [tokens.take("value")]
        while tokens.accept(","):
            results.append(tokens.take("value"))
        tokens.expect("=")
        op_name = tokens.take("word")
        cls = OPS.get(op_name)
        if cls is None:
            raise tokens.error(f"unknown op {op_name!r}", tokens.passed, did_you_mean(op_name, OPS))
        operand_texts = self.defined(names)
        operands = [names[text] for text in operand_texts]
        attributes = self.attributes(cls) if tokens.accept("{") else {}
        tokens.expect("->")
        types = self.result_types()
        if len(types) != len(results):
            raise tokens.error(f"{len(results)} results but {len(types)} types", tokens.passed)
        usual = f"made by {op_name}"
        origins = [self.origin(usual) for _ in types]
        on_host = self.tokens.accept("on_host")
        loc = self.loc()
        if "body" in attribute_types(cls):
            tokens.expect("{")
            attributes["body"] = self.body(operands, operand_texts)
        node = Node(self.build(cls, attributes, tokens.items[start][2]), operands, loc, on_host)
        node.results = tuple(Value(t, o, node) for t, o in zip(types, origins, strict=True))
        graph.append(node)
        for text, value in zip(results, node.results, strict=True):
            if text in names:
                raise tokens.error(f"{text} is defined twice", tokens.items[start][2])
            names[text] = value
            self.written[value] = text

    def body(self, operands: list[Value], texts: list[str]) -> Graph:
        """A fused body. Its inputs carry the names of the operands; one that comes again is named by its index."""
        inner = Graph("body")
        scope: dict[str, Value] = {}
        for index, (value, text) in enumerate(zip(operands, texts, strict=True)):
            scope[f"%.{index}" if text in scope else text] = inner.add_input(str(index), value.type)
        self.nodes(inner, scope, "yield")
        results = [scope[text] for text in self.defined(scope)]
        self.tokens.expect("}")
        inner.set_outputs((str(i), v) for i, v in enumerate(results))
        return inner

    def build(self, cls: type[Op], attributes: dict[str, Any], offset: int) -> Op:
        """The op; ``offset`` is where its node begins."""
        declared = attribute_types(cls)
        extra = {k: attributes.pop(k) for k in list(attributes) if k not in declared}
        holder = next((name for name, type in declared.items() if type is Constants), None)
        if extra and holder is None:
            raise self.tokens.error(f"op {cls.name!r} has no attribute {next(iter(extra))!r}", offset)
        for key, value in extra.items():
            if not isinstance(value, ConstantArray):
                raise self.tokens.error(f"op {cls.name!r}: constant {key!r} must be an array, found {value!r}", offset)
        if holder is not None:
            attributes[holder] = Constants(extra)
        for key, value in attributes.items():
            if not conforms(value, declared[key]):
                problem = f"op {cls.name!r}: attribute {key!r} has the wrong type, found {value!r}"
                raise self.tokens.error(problem, offset)
        try:
            return cls(**attributes)
        except TypeError as error:
            raise self.tokens.error(f"op {cls.name!r}: {error}", offset) from error

    def defined(self, names: Mapping[str, Value]) -> list[str]:
        """Names of values that exist, with commas between; perhaps none."""
        texts: list[str] = []
        while self.tokens.accept(",") if texts else self.tokens.kind == "value":
            text = self.tokens.take("value")
            if text not in names:
                raise self.tokens.error(f"{text} is not defined", self.tokens.passed)
            texts.append(text)
        return texts

    def origin(self, usual: str) -> Origin:
        tokens = self.tokens
        if not tokens.accept("original"):
            return Untraced(usual)
        tokens.expect("(")
        if tokens.accept("none"):
            tokens.expect(",")
            reason = self.string()
            tokens.expect(")")
            return Untraced(reason)
        name = self.string()
        found: dict[str, Any] = {"permutation": None, "factor": None}
        while tokens.accept(","):
            key = tokens.take("word")
            tokens.expect("=")
            found[key] = self.literal()
        tokens.expect(")")
        permutation, factor = found.pop("permutation"), found.pop("factor")
        if found or not conforms(permutation, tuple[int, ...] | None) or not conforms(factor, ConstantArray | None):
            raise tokens.error("an origin takes 'permutation = [...]' and 'factor = array'", tokens.passed)
        return Original(name, permutation, factor)

    def loc(self) -> Loc:
        tokens = self.tokens
        if not tokens.accept("loc"):
            return ()
        tokens.expect("(")
        names = [self.string()]
        while tokens.accept(","):
            names.append(self.string())
        tokens.expect(")")
        return tuple(names)

    def result_types(self) -> list[TensorType]:
        if not self.tokens.accept("("):
            return [self.tensor_type()]
        types = []
        while not self.tokens.accept(")"):
            types.append(self.tensor_type())
            self.tokens.accept(",")
        return types
