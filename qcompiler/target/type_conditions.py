"""Formats that serve some nodes only: the predicates of a type, which decide between the choices of an operand."""

from __future__ import annotations

from collections.abc import Iterator

from qcompiler.errors import QCompilerError
from qcompiler.ir import OPS, Node
from qcompiler.ops.contraction import Contraction
from qcompiler.target.descriptor import TypeSpec
from qcompiler.target.predicate import parse_condition
from qcompiler.target.problem import Problem
from qcompiler.target.target import Target


def unmet_condition(spec: TypeSpec, node: Node, target: Target) -> str | None:
    """The first predicate of a format that an operand's node breaks, with what was found; None where all hold."""
    for text in spec.where:
        condition = parse_condition(text)
        found = condition.broken_by(node, target)
        if found is not None:
            return f"serves only where {condition}; here: {found}"
    return None


def type_condition_problems(target: Target) -> Iterator[Problem]:
    """Citations of predicates by types."""
    for name, spec in target.descriptor.types.items():
        for text in spec.where:
            try:
                parse_condition(text)
            except ValueError as error:
                yield Problem(("types", name, "where"), str(error))
            except QCompilerError as error:
                yield Problem(("types", name, "where"), error.problem, error.fix or error.expected)


def group_problems(target: Target) -> Iterator[Problem]:
    """Types with groups, cited for anything but the weights of a contraction."""
    for name, row in target.rows.items():
        contracts = issubclass(OPS[name], Contraction)
        for index, operand in enumerate((*row.operands, row.out)):
            is_weights = contracts and index == 1 and len(row.operands) > 1
            grouped = [n for n, s in zip(operand.names, operand.choices, strict=True) if s.group_multiplier]
            if grouped and not is_weights:
                key = "out" if index == len(row.operands) else "in"
                yield Problem(
                    ("ops", name, key), f"{grouped[0]!r} has groups along a reduction, which only weights have",
                    "cite it as operand 1 of conv2d, conv_transpose2d or matmul",
                )
