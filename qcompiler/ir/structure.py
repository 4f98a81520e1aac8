"""Structural identity: a hash over everything that makes two programs the same."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

from qcompiler.ir.graph import Graph
from qcompiler.ir.op import Constants
from qcompiler.ir.value import Value


def structural_hash(graph: Graph) -> str:
    """Hex digest over ops, attributes, types, origins, locations and data flow.

    Names of the program and of inner values do not count, those of inputs and outputs do.
    """
    state = hashlib.blake2b(digest_size=16)
    for line in _describe(graph):
        state.update(line.encode())
        state.update(b"\n")
    return state.hexdigest()


def _describe(graph: Graph) -> Iterator[str]:
    types = _TypeCache()
    numbers: dict[Value, int] = {}
    yield f"{graph.target}|{graph.pipeline}"
    for value in graph.inputs:
        numbers[value] = len(numbers)
        yield f"input {value.name}|{types[value.type]}|{describe_attribute(value.origin)}"
    for node in graph.nodes:
        operands = ",".join(str(numbers.get(v, "undefined")) for v in node.operands)
        yield f"{node.op.name}({operands}){node.loc}" + (" on_host" if node.on_host else "")
        for name, attribute in node.op.attributes().items():
            yield f"{name}={describe_attribute(attribute)}"
        for value in node.results:
            numbers[value] = len(numbers)
            yield f"{types[value.type]}|{describe_attribute(value.origin)}"
    for output in graph.outputs:
        yield f"output {output.name} {numbers.get(output.value, 'undefined')}"


class _TypeCache(dict[Any, str]):
    def __missing__(self, key: Any) -> str:
        text = self[key] = describe_attribute(key)
        return text


def describe_attribute(value: Any) -> str:
    """A text that is equal for equal attributes and differs otherwise."""
    if isinstance(value, Graph):
        return structural_hash(value)
    if isinstance(value, Constants):
        return "{" + ",".join(f"{k}:{v.digest}" for k, v in value.items()) + "}"
    if isinstance(value, tuple):
        return "(" + ",".join(describe_attribute(v) for v in value) + ")"
    if isinstance(value, float):
        return repr(float(value))
    if hasattr(value, "digest"):
        return str(value.digest)
    if hasattr(value, "__dataclass_fields__"):
        fields = (f"{f}={describe_attribute(getattr(value, f))}" for f in value.__dataclass_fields__)
        return type(value).__name__ + "(" + ",".join(fields) + ")"
    return repr(value)
