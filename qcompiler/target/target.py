"""A target: its descriptor with all citations resolved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from qcompiler.ir import SCALARS, Affine, Arithmetic, Fact, Node, Op, Scalar
from qcompiler.target.descriptor import Descriptor, OpRow, TypeSpec
from qcompiler.target.predicate import Condition, parse_condition
from qcompiler.target.type_expression import Operand, parse_operand


@dataclass(frozen=True)
class Row:
    """An op row with its citations resolved.

    Attributes:
        name: the op as the row names it.
        spec: the row as written.
        operands, out: resolved types.
        arithmetic: the cited arithmetic.
        conditions: the cited predicates.
    """

    name: str
    spec: OpRow
    operands: tuple[Operand, ...]
    out: Operand
    arithmetic: Arithmetic | None
    conditions: tuple[Condition, ...] = ()

    def operand(self, index: int) -> Operand | None:
        """The entry for operand ``index``; None where the row has none."""
        if index < len(self.operands):
            return self.operands[index]
        return self.operands[-1] if self.operands and self.operands[-1].variadic else None

    @property
    def tied(self) -> bool:
        return self.spec.ties == "all"

    def may_end(self, kernel: str) -> bool:
        """Whether a fused kernel that begins with the op ``kernel`` may end in this one."""
        return self.spec.fuse and (not self.spec.fuse_after or kernel in self.spec.fuse_after)


@dataclass(frozen=True, eq=False)
class Target:
    """A named target.

    Attributes:
        descriptor: the file's content.
        source_text: where it was read from, for messages.
    """

    descriptor: Descriptor
    source_text: str = ""

    @property
    def name(self) -> str:
        return self.descriptor.name

    def with_fallback(self, fallback: Literal["error", "host"]) -> Target:
        """The same target, with another entry ``fallback``."""
        return Target(self.descriptor.model_copy(update={"fallback": fallback}), self.source_text)

    @cached_property
    def rows(self) -> Mapping[str, Row]:
        """Op rows by op name."""
        types = self.descriptor.types
        return {
            name: Row(
                name, spec, tuple(parse_operand(text, types) for text in spec.operands),
                parse_operand(spec.out, types), Arithmetic.parse(spec.arithmetic) if spec.arithmetic else None,
                tuple(map(parse_condition, spec.where)),
            )
            for name, spec in self.descriptor.ops.items()
        }

    def row_for(self, op: Op) -> Row | None:
        """The row under which an op of a float program becomes legal.

        An activation that only limits values runs as ``clamp``, any other function of one number as ``lut``, unless
        it has a row of its own, which may prescribe the result's scale.
        """
        if op.name in self.rows:
            return self.rows[op.name]
        if Fact.CLAMP in op.facts and "clamp" in self.rows:
            return self.rows["clamp"]
        return self.rows.get("lut") if Fact.UNARY in op.facts else None

    def result_type(self, row: Row) -> TypeSpec:
        """The format in which the result of a float op under ``row`` is held between kernels.

        An accumulator is not held: it is requantized or normalized first.
        """
        spec = row.out.choices[0]
        if spec.is_product:
            return self.rows["requantize"].out.choices[0]
        for conversion in ("normalize", "to_block"):
            to = self.rows.get(conversion)
            if to and to is not row and self.has_blocks and spec in to.operands[0].choices:
                return to.out.choices[0]
        return spec

    @cached_property
    def accumulators(self) -> list[TypeSpec]:
        """Block floating-point types that are normalized before they are held."""
        row = self.rows.get("normalize")
        if row is None:
            return []
        return [s for s in row.operands[0].choices if s.kind == "block" and s not in row.out.choices]

    @cached_property
    def has_blocks(self) -> bool:
        """Whether its numbers are block floating point."""
        return any(spec.kind == "block" for spec in self.descriptor.types.values())

    def row_of(self, node: Node) -> Row | None:
        """The row of a node of p'.

        An activation that limits block floating point keeps its op. A table has the row of the function that it was
        made from, if that has one.
        """
        row = self.rows.get(getattr(node.op, "function", "")) or self.rows.get(node.op.name)
        if row is None and self.has_blocks and Fact.CLAMP in node.op.facts:
            return self.rows.get("clamp")
        return row


def storages(spec: TypeSpec) -> list[Scalar]:
    """The number formats that a type of a descriptor may be stored in, the preferred one first."""
    return [SCALARS[name] for name in spec.storages]


def stored_range(spec: TypeSpec) -> tuple[int, int]:
    """Smallest and largest integer that a format stores."""
    storage = storages(spec)[0]
    return (spec.range[0], spec.range[1]) if spec.range else (storage.minimum, storage.maximum)


def _range_in(spec: TypeSpec, storage: Scalar) -> tuple[int, int]:
    """Smallest and largest integer that a format keeps in one of its storage formats."""
    low, high = spec.range or (storage.minimum, storage.maximum)
    return max(low, storage.minimum), min(high, storage.maximum)


def admits_affine(spec: TypeSpec, elem: Affine) -> str | None:
    """Why a format does not admit an affine type; None where it does. Judges parameters, not names."""
    problem = None
    if spec.kind != "affine":
        problem = f"needs plain {' or '.join(spec.storages)}"
    elif elem.storage.name not in spec.storages:
        problem = f"stores {' or '.join(spec.storages)}, not {elem.storage}"
    elif (elem.qmin, elem.qmax) != _range_in(spec, elem.storage):
        problem = f"keeps integers within {list(_range_in(spec, elem.storage))}, not [{elem.qmin},{elem.qmax}]"
    elif spec.blocks == "tensor" and not spec.is_product and not elem.is_per_tensor:
        problem = "has one scale for the whole tensor"
    elif spec.zero_point != "any" and (elem.zero_point.array != spec.zero_point).any():
        problem = f"has zero point {spec.zero_point}"
    elif spec.scale == "power-of-two" and (np.frexp(elem.scale.array)[0] != 0.5).any():
        problem = "has scales that are powers of two"
    elif isinstance(spec.scale, float) and (elem.scale.array != spec.scale).any():
        problem = f"has scale {spec.scale!r}"
    return problem
