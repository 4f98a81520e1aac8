"""Reads attributes, types and arrays in ``.qir`` text."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from qcompiler.ir.arithmetic import Arithmetic
from qcompiler.ir.attribute_types import accepts, attribute_types
from qcompiler.ir.constant_array import ConstantArray
from qcompiler.ir.dimension import parse_dim, static_shape
from qcompiler.ir.lexer import Tokens
from qcompiler.ir.op import Op
from qcompiler.ir.scalar import SCALARS
from qcompiler.ir.type_text import read_type
from qcompiler.ir.types import BlockFloat, TensorType

_NO_CONSTANTS = (
    "text alone, as from a pipe or a file of several programs, has no constants beside it; "
    "give the .qir file of one program"
)
_OTHER_CONSTANTS = (
    "constants lie beside the file, in NAME.safetensors or the folder constants/; write the program with -o OUT.qir"
)

ArrayMap = Mapping[str, "np.ndarray[Any, Any] | ConstantArray"]
"""Arrays that a text cites, by name."""


class AttributeReader:
    """Reads from tokens; equal types and citations give the same objects.

    Args:
        tokens: the text.
        constants: arrays that the text cites as ``@name``, by name; None where there can be none.
    """

    def __init__(self, tokens: Tokens, constants: ArrayMap | None) -> None:
        self.tokens = tokens
        self.constants: ArrayMap = {} if constants is None else constants
        self.lack_fix = _NO_CONSTANTS if constants is None else _OTHER_CONSTANTS
        self.arrays: dict[str, ConstantArray] = {}
        self.types: dict[str, TensorType] = {}

    def string(self) -> str:
        return self.unquoted(self.tokens.take("string"))

    def unquoted(self, text: str) -> str:
        """The name that a token spells, quoted or plain."""
        try:
            return str(json.loads(text)) if text.startswith('"') else text
        except ValueError as error:
            raise self.tokens.error(f"malformed string {text}: {error}", self.tokens.passed) from error

    def attributes(self, cls: type[Op]) -> dict[str, Any]:
        tokens = self.tokens
        declared = attribute_types(cls)
        items: dict[str, Any] = {}
        while True:
            key = tokens.take("word")
            tokens.expect("=")
            if accepts(declared.get(key), Arithmetic):
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
        try:
            return Arithmetic.parse(text)
        except ValueError as error:
            raise tokens.error(str(error), tokens.passed) from error

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
        if tokens.kind == "type":
            return self.tensor_type()
        kind, text = tokens.kind, tokens.take("number", "string", "citation", "word", "product")
        if kind == "string":
            return self.unquoted(text)
        if kind == "citation":
            return self.cited(text)
        if text in ("true", "false"):
            return text == "true"
        if text == "none":
            return None
        if text in SCALARS:
            return SCALARS[text]
        try:
            return _number(text) if kind == "number" else parse_dim(text)
        except ValueError as error:
            raise tokens.error(str(error), tokens.passed) from error

    def dense(self) -> ConstantArray:
        tokens = self.tokens
        tokens.expect("<")
        type = self.tensor_type()
        tokens.expect(">")
        values = self.literal()
        try:
            if isinstance(type.elem, BlockFloat):
                raise TypeError("block floating point is a pair of arrays")
            return ConstantArray(np.array(values, type.storage.dtype).reshape(static_shape(type.shape)))
        except (ValueError, TypeError, OverflowError) as error:
            raise tokens.error(f"the numbers do not fit {type}: {error}", tokens.passed) from error

    def cited(self, citation: str) -> ConstantArray:
        name = citation[1:]
        if name not in self.arrays:
            if name not in self.constants:
                raise self.tokens.error(f"the constants lack {citation}", self.tokens.passed, self.lack_fix)
            array = self.constants[name]
            self.arrays[name] = array if isinstance(array, ConstantArray) else ConstantArray(array)
        return self.arrays[name]

    def tensor_type(self) -> TensorType:
        text = self.tokens.take("type")
        if text not in self.types:
            try:
                self.types[text] = read_type(text, self.cited)
            except (ValueError, TypeError, KeyError, OverflowError) as error:
                raise self.tokens.error(f"malformed type {text!r}: {error}", self.tokens.passed) from error
        return self.types[text]


def _number(text: str) -> int | float:
    return int(text) if re.fullmatch(r"-?\d+", text) else float(text)
