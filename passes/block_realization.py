"""How ``realize`` builds programs of block floating point."""

from __future__ import annotations

import dataclasses

import numpy as np

from qcompiler.errors import QCompilerError
from qcompiler.ir import (
    BlockFloat,
    Builder,
    ConstantArray,
    Constants,
    Fact,
    Graph,
    Node,
    OpTypeError,
    Origin,
    TensorType,
    Untraced,
    Value,
)
from qcompiler.numerics import resolve
from qcompiler.numerics.block_table import BlockSoftmax, tabulate_block
from qcompiler.ops.activation import UnaryFunction
from qcompiler.ops.block_conversion import FakeBlock, FromBlock, Normalize, ToBlock, to_block
from qcompiler.ops.constant import Constant, constant_value
from qcompiler.ops.table import LookupTable
from qcompiler.target import Row, Target, TypeSpec, runs_on_host
from qcompiler.target.block_types import block_lengths


class BlockRealization:
    """Turns an annotated float program into one of block floating point."""

    def __init__(self, graph: Graph, target: Target) -> None:
        self.source = graph
        self.target = target
        self.result = Graph(graph.name, target.name, graph.pipeline)
        self.build = Builder(self.result)
        self.values: dict[Value, Value] = {}
        self.reals: dict[Value, Value] = {}

    def run(self) -> Graph:
        """The realized program.

        Raises:
            QCompilerError: a value was not annotated or not calibrated, or does not fit its op.
        """
        for value in self.source.inputs:
            self.values[value] = self.result.add_input(value.name, value.type, value.origin)
        for node in self.source.nodes:
            self.build.loc = node.loc
            if isinstance(node.op, FakeBlock):
                self.values[node.result] = self.held(node, node.op)
            elif not isinstance(node.op, Constant):
                self.operation(node)
        self.result.set_outputs((o.name, self.real(o.value)) for o in self.source.outputs)
        return self.result

    # Values

    def held(self, node: Node, op: FakeBlock) -> Value:
        """What stands for a fake_block's result."""
        operand = node.operands[0]
        array = constant_value(operand)
        if not op.is_calibrated:
            raise QCompilerError("a value has no exponent yet", layer=node.layer, fix="run 'calibrate' first")
        if array is not None:
            return self.build(Constant.of(to_block(array, op.held)), elem=op.held.elem, origin=operand.origin)
        if operand not in self.values:
            raise QCompilerError("a marked value has no producer", layer=node.layer)
        return self.converted(self.values[operand], op.held, operand.origin)

    def converted(self, value: Value, held: TensorType, origin: Origin) -> Value:
        """``value`` as ``held``; itself where it is that already."""
        elem, wanted = value.type.elem, held.elem
        assert isinstance(wanted, BlockFloat)
        if not isinstance(elem, BlockFloat):
            return self.build(ToBlock(), value, elem=wanted, origin=origin)
        if elem == wanted or (wanted.exponents is None and dataclasses.replace(elem, exponents=None) == wanted):
            return value
        return self.build(Normalize(), value, elem=wanted, origin=origin)

    def real(self, value: Value) -> Value:
        """What stands for a value outside of the target: real numbers, or plain integers as they are."""
        if value not in self.values:
            array = constant_value(value)
            if array is None:
                raise QCompilerError("a program output was not computed")
            self.values[value] = self.build(Constant(ConstantArray(array)), elem=value.type.elem, origin=value.origin)
        realized = self.values[value]
        if not isinstance(realized.type.elem, BlockFloat):
            return realized
        if realized not in self.reals:
            loc = realized.producer.loc if realized.producer else ()
            self.reals[realized] = self.build(FromBlock(), realized, origin=value.origin, loc=loc)
        return self.reals[realized]

    # Operations

    def operation(self, node: Node) -> None:
        """Build what stands for a node."""
        if runs_on_host(self.target, node):
            made = self.build.create(node.op, [self.real(v) for v in node.operands], loc=node.loc)
            made.on_host = True
            self.adopt(node, made)
            return
        row = self.target.row_for(node.op)
        if row is None:
            raise QCompilerError(
                f"target {self.target.name!r} has no op {node.op.name!r}", layer=node.layer, fix="run 'legalize' before"
            )
        try:
            if row.name == "lut":
                self.table(node, row)
            else:
                self.same_op(node, row)
        except OpTypeError as error:
            raise QCompilerError(f"{node.op.name}: {error}", layer=node.layer) from error

    def same_op(self, node: Node, row: Row) -> None:
        """The op with the arithmetic that the descriptor cites; its result as the row says."""
        op = node.op
        if row.arithmetic is not None:
            op = op.replace(arithmetic=row.arithmetic)
            rule = resolve(op.name, row.arithmetic.name, row.arithmetic.options)
            if isinstance(rule, BlockSoftmax):
                op = op.replace(constants=Constants(rule.constants()))
        operands = [self.operand(value, node) for value in node.operands]
        made = self.build.create(op, operands, elem=self.result_elems(node, row, operands), loc=node.loc)
        self.adopt(node, made)

    def result_elems(self, node: Node, row: Row, operands: list[Value]) -> list[BlockFloat] | None:
        """The element types that the row gives open results; blocks follow from the shape of each."""
        formats = [v.type.elem.format for v in operands if isinstance(v.type.elem, BlockFloat)]
        if not formats:
            return None
        blocks = [spec for spec in row.out.choices if spec.kind == "block"]
        # A row that gives several formats keeps that of its operand.
        spec = next((s for s in blocks if s.block_format == formats[0]), blocks[0] if blocks else None)
        if spec is None:
            return None
        return [BlockFloat(spec.block_format, block_lengths(spec, v.type.shape)) for v in node.results]

    def table(self, node: Node, row: Row) -> None:
        """A function of one number as a table on a fixed exponent."""
        op, source = node.op, self.operand(node.operands[0], node)
        assert isinstance(op, UnaryFunction)
        elem = source.type.elem
        if not isinstance(elem, BlockFloat) or elem.exponents is None:
            raise OpTypeError(f"a table needs an operand with fixed exponents, found {source.type}")
        spec: TypeSpec = row.out.choices[0]
        entries, exponent = tabulate_block(
            op.real, elem.format.mantissa, int(elem.exponents.array.reshape(-1)[0]), spec.block_format
        )
        blocks = block_lengths(spec, node.result.type.shape)
        fixed = ConstantArray(np.full((1,) * len(blocks), exponent, np.int32))
        table = LookupTable(ConstantArray(entries.astype(spec.block_format.mantissa_dtype)), op.name)
        self.values[node.result] = self.build(
            table, source, elem=BlockFloat(spec.block_format, blocks, fixed), origin=node.result.origin
        )

    def adopt(self, node: Node, made: Node) -> None:
        """Let the results of ``made`` stand for those of ``node``."""
        for old, new in zip(node.results, made.results, strict=True):
            kept = _is_held(old) or _is_limited(old) or self.source.terminator in old.users
            limited = Fact.CONTRACTION in node.op.facts and not kept
            new.origin = Untraced("accumulator") if limited else old.origin
            self.values[old] = new

    def operand(self, value: Value, node: Node) -> Value:
        """What stands for an operand; a constant of plain numbers is copied."""
        if value not in self.values:
            array = constant_value(value)
            if array is None:
                raise QCompilerError(f"an operand of {node.op.name} was not computed", layer=node.layer)
            self.values[value] = self.build(Constant(ConstantArray(array)), elem=value.type.elem, origin=value.origin)
        return self.values[value]


def _is_held(value: Value) -> bool:
    return any(isinstance(user.op, FakeBlock) for user in value.users)


def _is_limited(value: Value) -> bool:
    return len(value.users) == 1 and Fact.CLAMP in value.users[0].op.facts


