"""Malformed text is a QCompilerError that names line and column, never another exception."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import graphs

from qcompiler.errors import QCompilerError
from qcompiler.ir import Graph, parse, parse_type, print_with_constants, verify
from qcompiler.ir.lexer import Tokens

HEAD = "// qir 1\n"
ONE = HEAD + "graph @g(%x: f32[N,4]) -> (y: f32[N,4]) {\n  %0 = "

MALFORMED = {
    "no graph": (HEAD + "nothing", 2, 1, "expected 'graph'"),
    "no name": (HEAD + "graph g() -> () { return }", 2, 7, "expected citation"),
    "unknown character": (HEAD + "graph @g() -> () {\n  ;\n}", 3, 3, "unexpected character ';'"),
    "unknown op": (ONE + "rleu %x -> f32[N,4]\n  return %0\n}", 3, 8, "unknown op 'rleu'"),
    "undefined value": (ONE + "relu %z -> f32[N,4]\n  return %0\n}", 3, 13, "%z is not defined"),
    "output of another type": (
        HEAD + "graph @g(%x: f32[1]) -> (y: f32[2]) {\n  return %x\n}", None, None, "f32[2] for output 'y'"
    ),
    "undefined output": (
        HEAD + "graph @g(%x: f32[1]) -> (y: f32[1]) {\n  return %y\n}", 3, 10, "%y is not defined"
    ),
    "no arrow": (ONE + "relu %x f32[N,4]\n  return %0\n}", 3, 16, "expected '->'"),
    "no type": (ONE + "relu %x -> N\n  return %0\n}", 3, 19, "expected type"),
    "malformed type": (ONE + "relu %x -> q<i8>[N,4]\n  return %0\n}", 3, None, "malformed type"),
    "unknown storage": (ONE + "relu %x -> q<i9, 0.5:0>[N,4]\n  return %0\n}", 3, None, "malformed type"),
    "zero point too large": (
        ONE + "relu %x -> q<i8, 1.0:9" + "9" * 30 + ">[1]\n  return %0\n}", 3, 19, "malformed type"
    ),
    "blocks too long": (
        ONE + "relu %x -> q<i8, blocks=[5], scale=[1.0]>[4]\n  return %0\n}", 3, None, "does not fit"
    ),
    "unknown attribute": (ONE + "relu %x {alpha = 1} -> f32[N,4]\n  return %0\n}", 3, None, "no attribute 'alpha'"),
    "missing attribute": (ONE + "concat %x -> f32[N,4]\n  return %0\n}", 3, None, "axis"),
    "attribute of the wrong type": (
        ONE + 'concat %x {axis = "one"} -> f32[N,4]\n  return %0\n}', 3, None, "'axis' has the wrong type"
    ),
    "tuple of the wrong length": (
        ONE + "max_pool2d %x {kernel = [3, 3, 3]} -> f32[N,4]\n  return %0\n}", 3, None, "'kernel' has the wrong type"
    ),
    "boolean for a number": (
        ONE + "leaky_relu %x {alpha = true} -> f32[N,4]\n  return %0\n}", 3, None, "'alpha' has the wrong type"
    ),
    "arithmetic that is none": (
        ONE + 'add %x, %x {arithmetic = "a b"} -> f32[N,4]\n  return %0\n}', 3, None, "not an arithmetic"
    ),
    "constant that is no array": (
        ONE + "add %x, %x {arithmetic = litert-add, multiplier = 3} -> f32[N,4]\n  return %0\n}", 3, None,
        "must be an array",
    ),
    "array of the wrong length": (
        ONE + "constant {value = dense<f32[3]>[1.0, 2.0]} -> f32[3]\n  return %0\n}", 3, None, "do not fit"
    ),
    "array with a number out of range": (
        ONE + "constant {value = dense<i8[1]>[300]} -> i8[1]\n  return %0\n}", 3, None, "do not fit"
    ),
    "array with a free dimension": (
        ONE + "constant {value = dense<f32[N]>[1.0]} -> f32[1]\n  return %0\n}", 3, None, "do not fit"
    ),
    "array of block floats": (
        ONE + "constant {value = dense<bf<m8e8, blocks=[1]>[1]>[1.0]} -> f32[1]\n  return %0\n}", 3, None, "do not fit"
    ),
    "missing constant": (ONE + "constant {value = @00ff} -> f32[99]\n  return %0\n}", 3, None, "lack @00ff"),
    "bad escape": (ONE + 'relu %x -> f32[N,4] loc("\\q")\n  return %0\n}', 3, None, "malformed string"),
    "bad origin": (ONE + 'relu %x -> f32[N,4] original("a", size = 3)\n  return %0\n}', 3, None, "an origin takes"),
    "bad permutation": (
        ONE + 'relu %x -> f32[N,4] original("a", permutation = 3)\n  return %0\n}', 3, None, "an origin takes"
    ),
    "more results than types": (
        HEAD + "graph @g(%x: f32[4]) -> () {\n  %0, %1 = relu %x -> f32[4]\n  return\n}", 3, None,
        "2 results but 1 types",
    ),
    "defined twice": (
        ONE + "relu %x -> f32[N,4]\n  %0 = relu %x -> f32[N,4]\n  return %0\n}", 4, 3, "defined twice"
    ),
    "input twice": (HEAD + "graph @g(%x: f32[1], %x: f32[1]) -> () {\n  return\n}", 2, None, "defined twice"),
    "more outputs than named": (HEAD + "graph @g(%x: f32[1]) -> () {\n  return %x\n}", None, None, "names 0 outputs"),
    "no end": (ONE + "relu %x -> f32[N,4]\n  return %0\n", 5, 1, "expected '}'"),
    "text behind the end": (ONE + "relu %x -> f32[N,4]\n  return %0\n} graph", 5, 3, "expected end"),
    "body sees outer values": (
        HEAD + "graph @g(%x: f32[1], %y: f32[1]) -> () {\n  %0 = fused %x -> f32[1] {\n    %1 = relu %y -> f32[1]\n"
        "    yield %1\n  }\n  return\n}", 4, None, "%y is not defined",
    ),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_text_names_its_place(case: str) -> None:
    text, line, column, problem = MALFORMED[case]
    with pytest.raises(QCompilerError) as caught:
        parse(text)
    message = str(caught.value)
    place = re.match(r"\.qir text, line (\d+), column (\d+): ", message)
    assert place, message
    assert line is None or int(place[1]) == line, message
    assert column is None or int(place[2]) == column, message
    assert problem in message


@pytest.mark.parametrize("text", ["", "// qir", "// qir 2\ngraph @g() -> () { return }", "graph @g() -> () { return }"])
def test_other_versions_are_refused(text: str) -> None:
    with pytest.raises(QCompilerError, match=r"not a \.qir text of this version"):
        parse(text)


@pytest.mark.parametrize("text", ["f33[1]", "f32", "q<i8, x:0>[1]", "f32[²]", "f32[N*4]", "bf<m8, blocks=[]>[1]"])
def test_malformed_types_are_refused(text: str) -> None:
    with pytest.raises(QCompilerError):
        parse_type(text)


FRAGMENTS = (
    "{", "}", "(", ")", "[", "]", ",", "=", ":", "->", "%0", "%x", "%9999", "@x", "none", "true", "inf", "nan", "-1",
    "4*N", "N", "f32", "f32[N]", "q<i8, 0.5:0>[2]", '"\\x"', '"a"', "dense", "<", ">", "original", "loc", "fused",
    "constant", "value", "axis", "yield", "return", "target", "1e999", "0.5", "99999999999999999999",
)


@settings(max_examples=150)
@given(graphs, st.data())
def test_mutated_text_raises_nothing_else(graph: Graph, data: st.DataObject) -> None:
    """A token deleted, inserted, or replaced: the text is refused, or read and then judged by the verifier."""
    text, constants = print_with_constants(graph)
    for _ in range(data.draw(st.integers(1, 3))):
        spans = [(offset, offset + len(token)) for kind, token, offset in Tokens(text).items if kind != "end"]
        start, end = data.draw(st.sampled_from(spans))
        edit = data.draw(st.sampled_from(["delete", "insert", "replace", "swap"]))
        other = data.draw(st.sampled_from(spans))
        fragment = text[slice(*other)] if edit == "swap" else data.draw(st.sampled_from(FRAGMENTS))
        if edit == "delete":
            text = text[:start] + text[end:]
        elif edit == "insert":
            text = f"{text[:start]}{fragment} {text[start:]}"
        else:
            text = f"{text[:start]} {fragment} {text[end:]}"
        try:
            verify(parse(text, constants))
            Tokens(text)
        except QCompilerError:
            break


@settings(max_examples=100)
@given(st.text(alphabet='%@"{}[]()<>,=:->.\\ \nqgraph0159fi8N*', max_size=60))
def test_random_characters_raise_nothing_else(text: str) -> None:
    for read in (parse, parse_type):
        try:
            read(HEAD + text if read is parse else text)
        except QCompilerError:
            continue
