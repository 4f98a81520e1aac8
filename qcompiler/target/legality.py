"""Whether a node is legal on a target, and if not, which constraint it breaks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from qcompiler.ir import Affine, BlockFloat, Node, Scalar, Shape, TensorType, Value
from qcompiler.ir.scalar import F32
from qcompiler.ops.constant import Constant, constant_value
from qcompiler.ops.contraction import Contraction
from qcompiler.target.block_types import admits_block, block_lengths, operand_blocks, result_blocks
from qcompiler.target.descriptor import TypeSpec
from qcompiler.target.target import Row, Target, admits_affine
from qcompiler.target.type_conditions import unmet_condition
from qcompiler.target.weight_groups import admits_groups


@dataclass(frozen=True)
class Violation:
    """A broken constraint.

    Attributes:
        constraint: what the target demands.
        found: what the node has.
        entry: the entry of the descriptor that decides, such as ``ops.conv2d.kernel``.
    """

    constraint: str
    found: str
    entry: str = ""


def check_float_node(target: Target, node: Node) -> Violation | None:
    """Whether a node of a float program can run on the target, by op, attributes, shapes and constness."""
    row = target.row_for(node.op)
    if row is None:
        return Violation(f"the target has no op {node.op.name!r}", node.op.name, "ops")
    return (
        check_attributes(target, row, node) or _check_constness(target, row, node)
        or _check_conditions(target, row, node)
    )


def check_attributes(target: Target, row: Row, node: Node) -> Violation | None:
    """Limits on attributes, ranks and lengths."""
    spec, attributes = row.spec, node.op.attributes()
    type = node.operands[0].type if node.operands else None
    for key in ("kernel", "strides", "dilations"):
        limits: list[int] | None = getattr(spec, key)
        sizes = kernel_of(node) if key == "kernel" else attributes.get(key)
        if limits and sizes and not all(limits[0] <= s <= limits[1] for s in sizes):
            return Violation(f"{key} of {row.name} must lie within {limits}", str(list(sizes)), f"ops.{row.name}.{key}")
    for key, allowed in spec.attributes.items():
        value = attributes.get(key)
        # A descriptor's lists are lists; attributes hold tuples.
        value = list(value) if isinstance(value, tuple) else value
        if value not in allowed:
            return Violation(f"{key} of {row.name} must be one of {allowed}", repr(value), f"ops.{row.name}.attributes")
    if type is None:
        return None
    if spec.max_rank is not None and type.rank > spec.max_rank:
        limit_text = f"operand 0 of {row.name} has rank at most {spec.max_rank}"
        return Violation(limit_text, f"rank {type.rank}", f"ops.{row.name}.max_rank")
    rank, limit = max(v.type.rank for v in (*node.operands, *node.results)), target.descriptor.limits.max_rank
    if limit is not None and rank > limit:
        return Violation(f"tensors have rank at most {limit}", f"rank {rank}", "limits.max_rank")
    axis = attributes.get("axis")
    if axis is None:
        return None
    if spec.last_axis and axis % type.rank != type.rank - 1:
        found = f"axis {axis} of rank {type.rank}"
        return Violation(f"{row.name} runs along the last axis only", found, f"ops.{row.name}.last_axis")
    length = type.shape[axis]
    if spec.max_axis_length and isinstance(length, int) and length > spec.max_axis_length:
        limit_text = f"{row.name} runs along at most {spec.max_axis_length} elements"
        return Violation(limit_text, str(length), f"ops.{row.name}.max_axis_length")
    return None


def _check_conditions(target: Target, row: Row, node: Node) -> Violation | None:
    """The predicates that the row cites."""
    for condition in row.conditions:
        found = condition.broken_by(node, target)
        if found is not None:
            return Violation(f"{row.name}: {condition}", found, f"ops.{row.name}.where")
    return None


def choose(
    row: Row, index: int, value: Value, meets: Callable[[TypeSpec], bool] = lambda spec: True
) -> TypeSpec | None:
    """The format in which operand ``index`` is to be held: the first choice that fits; None where none does.

    Args:
        row: the row of the op.
        index: of the operand.
        value: the operand.
        meets: whether the op meets the conditions of a format; see :func:`choose_for`.
    """
    operand = row.operand(index)
    if operand is None:
        return None
    fitting = (spec for spec in operand.choices if _holds_kind(spec, value) and meets(spec))
    return next((spec for spec in fitting if not spec.constant or is_constant(value)), None)


def choose_for(target: Target, row: Row, index: int, node: Node) -> TypeSpec | None:
    """The format in which operand ``index`` of a node is to be held; None where no choice fits."""
    return choose(row, index, node.operands[index], lambda spec: unmet_condition(spec, node, target) is None)


def is_constant(value: Value) -> bool:
    """Whether the value is known at compile time, behind fake_quant nodes too."""
    producer = value.producer
    while producer is not None and producer.op.name in ("fake_quant", "fake_block"):
        producer = producer.operands[0].producer
    return producer is not None and isinstance(producer.op, Constant)


def kernel_of(node: Node) -> Any:
    """Height and width of the kernel of a convolution or pool; None for other ops."""
    kernel = getattr(node.op, "kernel", None)
    return kernel(node.operands[1].type.shape) if callable(kernel) else kernel


def _check_constness(target: Target, row: Row, node: Node) -> Violation | None:
    least = sum(not (o.optional or o.variadic) for o in row.operands)
    if len(node.operands) < least:
        return Violation(f"{row.name} takes {least} operands", str(len(node.operands)))
    for index, value in enumerate(node.operands):
        if row.operand(index) is None:
            return Violation(f"{row.name} takes {len(row.operands)} operands", str(len(node.operands)))
        if choose_for(target, row, index, node) is None:
            operand = row.operand(index)
            assert operand is not None
            if choose(row, index, value) is not None:
                unmet = "; or ".join(filter(None, (unmet_condition(s, node, target) for s in operand.choices)))
                return Violation(f"operand {index} of {row.name} ({operand.text}) {unmet}", str(value.type))
            if any(_holds_kind(spec, value) for spec in operand.choices):
                return Violation(f"operand {index} of {row.name} must be a constant", "a computed value")
            return Violation(f"operand {index} of {row.name} must be {_kinds(operand.choices)}", str(value.type.elem))
    return None


def _holds_kind(spec: TypeSpec, value: Value) -> bool:
    """Whether a format can hold a value of a float program: real numbers as affine integers, others as they are."""
    elem = value.type.elem
    if not isinstance(elem, Scalar):
        return False
    return elem.name in spec.storages if spec.kind == "scalar" else elem == F32


def _kinds(choices: Sequence[TypeSpec]) -> str:
    return " or ".join(dict.fromkeys(" or ".join(s.storages) if s.kind == "scalar" else "f32" for s in choices))


def check_quantized_node(
    target: Target, node: Node, outer: Mapping[Value, Value] = MappingProxyType({})
) -> Violation | None:
    """Whether a node of p' is legal: row, attributes, arithmetic, and the storage and parameters of every value.

    Args:
        target: the target.
        node: a node of the program or of a fused body.
        outer: for a node of a fused body, the operand behind each input of the body.
    """
    row = target.row_of(node)
    if row is None:
        return Violation(f"the target has no op {node.op.name!r}", node.op.name)
    violation = check_attributes(target, row, node)
    if violation:
        return violation
    layout = getattr(node.op, "layout", target.descriptor.layout)
    if layout != target.descriptor.layout:
        return Violation(f"layout of {row.name} must be {target.descriptor.layout}", layout)
    arithmetic = getattr(node.op, "arithmetic", None)
    cites = node.op.name in _ALWAYS_CITING or any(isinstance(v.type.elem, BlockFloat) for v in node.operands)
    needs = row.arithmetic if arithmetic is not None or cites else None
    if needs != arithmetic:
        return Violation(f"arithmetic of {row.name} must be {row.arithmetic}", str(arithmetic))
    for index, value in enumerate(node.operands):
        operand = row.operand(index)
        if operand is None:
            return Violation(f"{row.name} takes {len(row.operands)} operands", str(len(node.operands)))
        problem = _mismatch(
            operand.choices, value.type, is_constant(outer.get(value, value)),
            lambda spec, index=index: operand_blocks(spec, node, index),  # type: ignore[misc]
            lambda spec, index=index: (  # type: ignore[misc]
                admits_groups(spec, node, index) or unmet_condition(spec, node, target)
            ),
        )
        if problem:
            return Violation(f"operand {index} of {row.name} ({operand.text}) {problem}", str(value.type))
    for value in node.results:
        type = value.type
        problem = _mismatch(row.out.choices, type, True, lambda spec, type=type: result_blocks(spec, node, type))  # type: ignore[misc]
        if problem:
            return Violation(f"the result of {row.name} ({row.out.text}) {problem}", str(value.type))
    return _check_conditions(target, row, node) or _check_weight_sum(row, node, outer)


def _check_weight_sum(row: Row, node: Node, outer: Mapping[Value, Value]) -> Violation | None:
    """The limit on an output channel's weights, which depends on their numbers."""
    limit, op = row.spec.max_weight_sum, node.op
    if limit is None or not isinstance(op, Contraction):
        return None
    value = node.operands[1]
    weights = constant_value(outer.get(value, value))
    if weights is None:
        return None
    axis = op.weight_channel_axis(weights.ndim)
    others = tuple(i for i in range(weights.ndim) if i != axis)
    largest = int(np.abs(op.integer_weights(value.type, weights)).sum(others).max(initial=0))
    if largest <= limit:
        return None
    return Violation(
        f"the magnitudes of an output channel's weights sum to at most {limit}", str(largest),
        f"ops.{row.name}.max_weight_sum",
    )


def check_boundary(target: Target, value: Value) -> Violation | None:
    """Whether an input or output of p' is of a type that the target hands in or out: no accumulator, no constant's."""
    types = target.descriptor.types.values()
    specs = [s for s in types if not s.constant and not s.is_product and s not in target.accumulators]
    if any(_admits(spec, value.type, lambda s: block_lengths(s, value.type.shape)) is None for spec in specs):
        return None
    names = [n for n, s in target.descriptor.types.items() if s in specs]
    return Violation("inputs and outputs are of type " + " or ".join(names), str(value.type))


_ALWAYS_CITING = ("quantize", "requantize", "add", "sub", "mul", "mean", "reduce_sum", "softmax", "average_pool2d")


Blocks = Callable[[TypeSpec], Shape]
"""The block lengths that a format has for a value."""


def _mismatch(
    choices: Sequence[TypeSpec], type: TensorType, constant: bool, blocks: Blocks,
    refuses: Callable[[TypeSpec], str | None] = lambda spec: None,
) -> str | None:
    """Why no choice admits a value of this type; None where one does."""
    problems = []
    for spec in choices:
        problem = _admits(spec, type, blocks) or refuses(spec)
        if problem is None and spec.constant and not constant:
            problem = "must be a constant"
        if problem is None:
            return None
        problems.append(problem)
    return "; or ".join(dict.fromkeys(problems))


def _admits(spec: TypeSpec, type: TensorType, blocks: Blocks) -> str | None:
    elem = type.elem
    if isinstance(elem, Affine):
        return admits_affine(spec, elem)
    if isinstance(elem, BlockFloat):
        return admits_block(spec, type, elem, blocks(spec) if spec.kind == "block" else ())
    if spec.kind == "block":
        return f"must be block floating point with {spec.block_format.mantissa}-bit mantissas"
    if spec.kind != "scalar":
        return f"must be quantized ({' or '.join(spec.storages)} with scale and zero point)"
    if not isinstance(elem, Scalar) or elem.name not in spec.storages:
        return f"must be plain {' or '.join(spec.storages)}"
    return None
