"""Copies of programs with one known edit, and copies with nothing changed but the order of nodes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import numpy as np

from qcompiler.ir import Affine, ConstantArray, Graph, Node, TensorType, Untraced, Value, walk
from qcompiler.ops.activation import Relu, Sigmoid
from qcompiler.ops.constant import Constant


@dataclass(frozen=True)
class Edit:
    """The only difference that an edit makes: its kind, the op, its layers, and which of its properties changed."""

    kind: str
    op: str
    layers: tuple[str, ...]
    changes: tuple[str, ...] = ()


def shuffled(graph: Graph, rng: Random) -> Graph:
    """A copy whose nodes stand in another order, those in bodies too; layers of a node and operands of kernels too."""
    copy = Graph("another name", graph.target, "another,pipeline")
    values = {v: copy.add_input(v.name, v.type, v.origin) for v in graph.inputs}
    waiting = list(graph.nodes)
    while waiting:
        node = rng.choice([n for n in waiting if all(v in values for v in n.operands)])
        waiting.remove(node)
        body = getattr(node.op, "body", None)
        op = node.op.replace(body=shuffled(body, rng)) if isinstance(body, Graph) else node.op
        made = Node(op, [values[v] for v in node.operands], tuple(rng.sample(node.loc, len(node.loc))))
        made.results = tuple(Value(v.type, v.origin, made) for v in node.results)
        copy.append(made)
        values.update(zip(node.results, made.results, strict=True))
    copy.set_outputs((o.name, values[o.value]) for o in graph.outputs)
    return copy


def edit(graph: Graph, rng: Random) -> Edit | None:
    """Change one thing in ``graph``; None where there is nothing to change in the way that was drawn.

    The result need not be well typed: a difference is one of structure.
    """
    nodes = list(walk(graph))
    return rng.choice(EDITS)(graph, rng, rng.choice(nodes)) if nodes else None


def _change_attribute(graph: Graph, rng: Random, node: Node) -> Edit | None:
    simple = {n: v for n, v in node.op.attributes().items() if isinstance(v, bool | int | float | str)}
    if not simple:
        return None
    name = rng.choice(sorted(simple))
    node.set_op(node.op.replace(**{name: _other(simple[name])}))
    return _changed(node, f"attribute {name}")


def _other(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        return value + "'"
    if isinstance(value, float):
        return 0.25 if value != 0.25 else 0.5
    return value + 3


def _change_op(graph: Graph, rng: Random, node: Node) -> Edit | None:
    if len(node.operands) != 1 or len(node.results) != 1 or _is_kernel(node):
        return None
    other = Relu() if node.op.name == "sigmoid" else Sigmoid()
    node.set_op(other)
    return _changed(node, "op")


def _change_scale(graph: Graph, rng: Random, node: Node) -> Edit | None:
    value = rng.choice(node.results)
    elem = value.type.elem
    if not isinstance(elem, Affine) or _is_kernel(node):
        return None
    scales = elem.scale.array.copy()
    scales.reshape(-1)[rng.randrange(scales.size)] *= 2
    value.type = TensorType(value.type.shape, replace(elem, scale=ConstantArray(scales)))
    return _changed(node, _of_result(node, value, "scale"))


def _change_zero_point(graph: Graph, rng: Random, node: Node) -> Edit | None:
    value = rng.choice(node.results)
    elem = value.type.elem
    if not isinstance(elem, Affine) or _is_kernel(node):
        return None
    value.type = TensorType(value.type.shape, replace(elem, zero_point=ConstantArray(elem.zero_point.array + 1)))
    return _changed(node, _of_result(node, value, "zero point"))


def _change_shape(graph: Graph, rng: Random, node: Node) -> Edit | None:
    value = rng.choice(node.results)
    if isinstance(value.type.elem, Affine) or _is_kernel(node):
        return None
    value.type = value.type.with_shape((*value.type.shape, 7))
    return _changed(node, _of_result(node, value, "shape"))


def _change_constant(graph: Graph, rng: Random, node: Node) -> Edit | None:
    if not isinstance(node.op, Constant) or not node.op.value.array.size:
        return None
    array = node.op.value.array.copy()
    octets = array.reshape(-1).view(np.uint8)
    octets[rng.randrange(octets.size)] ^= 1
    node.set_op(node.op.replace(value=ConstantArray(array)))
    return _changed(node, "value")


def _change_origin(graph: Graph, rng: Random, node: Node) -> Edit | None:
    value = rng.choice(node.results)
    value.origin = Untraced("another reason")
    return None if _is_kernel(node) else _changed(node, _of_result(node, value, "origin"))


def _change_layers(graph: Graph, rng: Random, node: Node) -> Edit | None:
    if _is_kernel(node):
        return None
    node.loc = (*node.loc, "another layer")
    return _changed(node, "layers")


def _rewire(graph: Graph, rng: Random, node: Node) -> Edit | None:
    if not node.operands or _is_kernel(node):
        return None
    index = rng.randrange(len(node.operands))
    before = node.operands[index]
    assert node.graph is not None
    earlier = [n for n in node.graph.nodes if n is not node and n.is_before(node)]
    known = [*node.graph.inputs, *(v for n in earlier for v in n.results)]
    others = [v for v in known if v is not before and _identity(v) != _identity(before)]
    if not others:
        return None
    node.set_operand(index, rng.choice(others))
    return _changed(node, f"operand {index}")


def _remove(graph: Graph, rng: Random, node: Node) -> Edit | None:
    holder = node.graph
    assert holder is not None
    if len(node.operands) != 1 or len(node.results) != 1 or _is_kernel(node):
        return None
    if holder is not graph and len(holder) == 1:
        return None
    expected = Edit("removed", node.op.name, _layers(node))
    node.result.replace_uses(node.operands[0])
    holder.erase(node)
    return expected


def _insert(graph: Graph, rng: Random, node: Node) -> Edit | None:
    value = rng.choice(node.results)
    assert node.graph is not None
    made = Node(Sigmoid(), [value], ("inserted",))
    made.results = (Value(value.type, Untraced("inserted"), made),)
    value.replace_uses(made.result)
    made.set_operand(0, value)
    node.graph.insert_after(node, made)
    return Edit("added", "sigmoid", ("inserted",))


EDITS: tuple[Callable[[Graph, Random, Node], Edit | None], ...] = (
    _change_attribute, _change_op, _change_scale, _change_zero_point, _change_shape, _change_constant, _change_origin,
    _change_layers, _rewire, _remove, _insert,
)


def _changed(node: Node, what: str) -> Edit:
    return Edit("changed", node.op.name, _layers(node), (what,))


def _layers(node: Node) -> tuple[str, ...]:
    return tuple(sorted(set(node.loc)))


def _of_result(node: Node, value: Value, what: str) -> str:
    return what if len(node.results) == 1 else f"result {node.results.index(value)} {what}"


def _is_kernel(node: Node) -> bool:
    return hasattr(node.op, "body")


def _identity(value: Value) -> Any:
    """Values that differ in this are told apart by what they are."""
    producer = value.producer
    return value.name if producer is None else (producer.op.name, frozenset(producer.loc), value.origin)
