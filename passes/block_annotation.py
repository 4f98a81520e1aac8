"""How ``annotate`` marks values for targets with block floating point."""

from __future__ import annotations

from qcompiler.ir import BlockFloat, Fact, Graph, Node, Shape, TensorType, Value
from qcompiler.ops.block_conversion import FakeBlock
from qcompiler.passes.value_marks import ValueMarks
from qcompiler.target import Row, Target, TypeSpec, choose, is_constant, runs_on_host
from qcompiler.target.block_types import block_lengths, operand_blocks


class BlockMarks(ValueMarks):
    """Creates fake_block nodes, one for each value and type."""

    def __init__(self, graph: Graph, target: Target) -> None:
        super().__init__(graph, target)
        self.held: dict[Value, dict[TensorType, Value]] = {}

    def mark(self, node: Node, row: Row) -> None:
        for index, value in enumerate(node.operands):
            spec = self.operand_spec(row, index, value)
            if spec is not None and value not in self.held_behind_clamp:
                node.set_operand(index, self.marked(value, spec, operand_blocks(spec, node, index), node))
        spec = self.target.result_type(row)
        if self.is_held_behind_clamp(node, row):
            self.held_behind_clamp.add(node.result)
            return
        for value in node.results:
            if value.type.storage.is_float and spec.kind == "block" and not self.is_read_as_computed(value, row):
                self.marked(value, spec, block_lengths(spec, value.type.shape), node)

    def operand_spec(self, row: Row, index: int, value: Value) -> TypeSpec | None:
        """The block format in which an operand is held; None for others.

        What a row takes as it was accumulated it takes as it is held too, which comes last among the choices.
        """
        spec = choose(row, index, value)
        if spec is None or not value.type.storage.is_float:
            return None
        operand = row.operand(index)
        if row.name == "clamp" and operand is not None:
            spec = operand.choices[-1]
        return spec if spec.kind == "block" else None

    def is_held_behind_clamp(self, node: Node, row: Row) -> bool:
        """Whether the result exists only to be limited by the activation that follows: limits come before rounding."""
        clamp = self.target.rows.get("clamp")
        if clamp is None or not clamp.spec.fuse or row is clamp or len(node.results) != 1:
            return False
        if len(node.result.uses) != 1 or row.out.choices[0] not in clamp.operands[0].choices[:-1]:
            return False
        (user, _), = node.result.uses
        return Fact.CLAMP in user.op.facts and not runs_on_host(self.target, user)

    def is_read_as_computed(self, value: Value, row: Row) -> bool:
        """Whether a program output alone uses the value, and the target reads out what it accumulates."""
        if any(user is not self.graph.terminator for user in value.users):
            return False
        computed, reads = row.out.choices[0], self.target.rows.get("from_block")
        return computed.kind == "scalar" or (reads is not None and computed in reads.operands[0].choices)

    def marked(self, value: Value, spec: TypeSpec, blocks: Shape, node: Node) -> Value:
        """``value`` behind a fake_block of this format."""
        if value.producer is not None and isinstance(value.producer.op, FakeBlock):
            value, made = value.producer.operands[0], value
            if self.serves(made, spec, blocks):
                return made
        known = self.held.setdefault(value, {})
        held = TensorType(value.type.shape, BlockFloat(spec.block_format, blocks))
        for marked in known.values():
            if self.serves(marked, spec, blocks):
                return marked
        op = FakeBlock(held, spec.exponents == "fixed")
        source = next(iter(known.values())) if known and not is_constant(value) else value
        known[held] = self.builder_behind(source, node)(op, source, origin=value.origin)
        return known[held]

    def serves(self, marked: Value, spec: TypeSpec, blocks: Shape) -> bool:
        """Whether a marked value is held as demanded."""
        op = marked.producer.op if marked.producer else None
        assert isinstance(op, FakeBlock)
        return op.held.elem == BlockFloat(spec.block_format, blocks) and op.is_fixed == (spec.exponents == "fixed")

    def first_of(self, value: Value) -> Value | None:
        return next(iter(self.held.get(value, {}).values()), None)
