"""Finds the differences of two programs."""

from __future__ import annotations

from collections.abc import Iterator

from qcompiler.analysis.flat_program import FlatOp, FlatProgram, flatten
from qcompiler.analysis.op_changes import (
    Change,
    attribute_changes,
    attributes_text,
    origin_text,
    type_changes,
    type_text,
)
from qcompiler.analysis.program_diff import OpDiff, OpSummary, ProgramDiff
from qcompiler.analysis.program_matching import ProgramMatching
from qcompiler.ir import Graph, Node, Original, Value, value_names


def diff_programs(before: Graph, after: Graph) -> ProgramDiff:
    """How two programs differ.

    Ops inside of fused kernels are compared like those outside; what became one kernel is a difference of its own, an
    added op ``fused(...)``. An added or removed op with one operand is no change of the ops behind it.

    Args:
        before, after: any two verified programs, such as two stages of one compilation.
    """
    return _Comparison(flatten(before), flatten(after)).diff()


class _Comparison:
    def __init__(self, before: FlatProgram, after: FlatProgram) -> None:
        self.before, self.after = before, after
        self.matching = ProgramMatching(before, after)
        self.left = _Describer(before)
        self.right = _Describer(after)

    def diff(self) -> ProgramDiff:
        placed = [*self.ops(), *self.kernels()]
        placed.sort(key=lambda item: item[0])
        layers = frozenset(name for flat in (self.before, self.after) for op in flat.ops for name in op.node.loc)
        return ProgramDiff(tuple(self.boundary()), tuple(op for _, op in placed), layers)

    def ops(self) -> Iterator[tuple[tuple[int, int, int], OpDiff]]:
        """Ops that differ, with their places: removed ones behind the op that they stood behind."""
        partners = self.matching.partners
        place = -1
        for op in self.before.ops:
            if op in partners:
                place = partners[op].index
            else:
                yield (place, 1, op.index), OpDiff("removed", self.left.op(op), None)
        for op in self.after.ops:
            if op not in partners:
                yield (op.index, 0, 0), OpDiff("added", None, self.right.op(op))
            elif changes := tuple(self.changes(partners[op], op)):
                yield (op.index, 0, 0), OpDiff("changed", self.left.op(partners[op]), self.right.op(op), changes)

    def changes(self, before: FlatOp, after: FlatOp) -> Iterator[Change]:
        if not self.matching.alike(before, after):
            yield from self.own_changes(before, after)
        yield from self.connections(before, after)

    def own_changes(self, before: FlatOp, after: FlatOp) -> Iterator[Change]:
        if before.name == after.name:
            yield from attribute_changes(before.node.op, after.node.op)
        else:
            yield Change("op", *(f"{op.name} {attributes_text(op.node.op)}".strip() for op in (before, after)))
        results = list(zip(before.node.results, after.node.results, strict=False))
        for index, (first, second) in enumerate(results):
            label = f"result {index} " if len(results) > 1 else ""
            yield from type_changes(first.type, second.type, label)
            if first.origin != second.origin:
                yield Change(f"{label}origin", origin_text(first.origin), origin_text(second.origin))
        counts = [len(op.node.results) for op in (before, after)]
        if counts[0] != counts[1]:
            yield Change("results", *map(str, counts))
        if before.layers != after.layers:
            yield Change("layers", *(" + ".join(sorted(op.layers)) for op in (before, after)))

    def connections(self, before: FlatOp, after: FlatOp) -> Iterator[Change]:
        for index in range(max(len(before.operands), len(after.operands))):
            first = before.operands[index] if index < len(before.operands) else None
            second = after.operands[index] if index < len(after.operands) else None
            if first is not None and second is not None and self.matching.correspond(first, second):
                continue
            yield Change(f"operand {index}", *self.two_values(first, second))

    def two_values(self, before: Value | None, after: Value | None) -> tuple[str, str]:
        """What two values are; where words do not tell them apart, their names in the printed programs."""
        first = self.left.value(before) if before is not None else ""
        second = self.right.value(after) if after is not None else ""
        if first == second and before is not None and after is not None:
            return f"{first} {self.left.names[before]}", f"{second} {self.right.names[after]}"
        return first, second

    def kernels(self) -> Iterator[tuple[tuple[int, int, int], OpDiff]]:
        """Kernels that hold other ops than before. Ops that only one program has are differences already."""
        matched = set()
        for node, ops in self.after.kernels.items():
            partner = self.partner_kernel(node, ops)
            place = (ops[-1].index, 2, 0)
            if partner is None:
                yield place, OpDiff("added", None, self.right.kernel(node, ops))
                continue
            matched.add(partner)
            before = self.before.kernels[partner]
            if changes := tuple(self.kernel_changes(partner, before, node, ops)):
                summaries = self.left.kernel(partner, before), self.right.kernel(node, ops)
                yield place, OpDiff("changed", *summaries, changes)
        for node, ops in self.before.kernels.items():
            if node not in matched:
                places = [self.matching.partners[op].index for op in ops if op in self.matching.partners]
                yield (max(places, default=-1), 3, ops[-1].index), OpDiff("removed", self.left.kernel(node, ops), None)

    def partner_kernel(self, node: Node, ops: list[FlatOp]) -> Node | None:
        """The only kernel that shares ops with this one, if that shares ops with no other."""
        partners = self.matching.partners
        found = {partners[op].kernel for op in ops if op in partners} - {None}
        if len(found) != 1:
            return None
        (kernel,) = found
        assert kernel is not None
        back = {partners[op].kernel for op in self.before.kernels[kernel] if op in partners} - {None}
        return kernel if back == {node} else None

    def kernel_changes(
        self, before: Node, before_ops: list[FlatOp], after: Node, after_ops: list[FlatOp]
    ) -> Iterator[Change]:
        partners = self.matching.partners
        moved = [op for op in before_ops if op in partners and partners[op].kernel is not after]
        joined = [op for op in after_ops if op in partners and partners[op].kernel is not before]
        if moved or joined:
            yield Change("ops", *(", ".join(op.name for op in ops) for ops in (before_ops, after_ops)))
        if before.op.name != after.op.name:
            yield Change("op", before.op.name, after.op.name)
        yield from attribute_changes(before.op, after.op)
        if set(before.loc) != set(after.loc):
            yield Change("layers", *(" + ".join(sorted(node.loc)) for node in (before, after)))
        if len(before.results) != len(after.results):
            yield Change("results", str(len(before.results)), str(len(after.results)))
        for first, second in zip(before.results, after.results, strict=False):
            if first.origin != second.origin:
                yield Change("origin", origin_text(first.origin), origin_text(second.origin))

    def boundary(self) -> Iterator[Change]:
        """Differences of target, inputs and outputs."""
        before, after = self.before.graph, self.after.graph
        if before.target != after.target:
            yield Change("target", before.target, after.target)
        partners = self.matching.inputs
        for value in before.inputs:
            if value not in partners:
                yield Change(f"input {value.name}", type_text(value.type), "")
        for value in after.inputs:
            if value not in partners:
                yield Change(f"input {value.name}", "", type_text(value.type))
                continue
            partner = partners[value]
            if partner.name != value.name:
                yield Change("input", partner.name, value.name)
            yield from type_changes(partner.type, value.type, f"input {value.name} ")
            if partner.origin != value.origin:
                yield Change(f"input {value.name} origin", origin_text(partner.origin), origin_text(value.origin))
        orders = [v for v in before.inputs if v in partners], [v for v in after.inputs if v in partners]
        if [partners[v] for v in orders[0]] != orders[1]:
            yield Change("order of inputs", *(", ".join(v.name for v in order) for order in orders))
        yield from self.outputs()

    def outputs(self) -> Iterator[Change]:
        before, after = dict(self.before.outputs), dict(self.after.outputs)
        for name in dict.fromkeys([*before, *after]):
            first, second = before.get(name), after.get(name)
            if first is None or second is None or not self.matching.correspond(first, second):
                yield Change(f"output {name}", *self.two_values(first, second))
        orders = [n for n in before if n in after], [n for n in after if n in before]
        if orders[0] != orders[1]:
            yield Change("order of outputs", *map(", ".join, orders))


class _Describer:
    """Says what the ops and values of one program are."""

    def __init__(self, flat: FlatProgram) -> None:
        self.flat = flat
        self.names = value_names(flat.graph)

    def op(self, op: FlatOp) -> OpSummary:
        kernel = kernel_name(op.kernel, self.flat.kernels[op.kernel]) if op.kernel is not None else ""
        return self.summary(op.name, op.node, op.operands, kernel)

    def kernel(self, node: Node, ops: list[FlatOp]) -> OpSummary:
        return self.summary(kernel_name(node, ops), node, (), "")

    def summary(self, name: str, node: Node, operands: tuple[Value, ...], kernel: str) -> OpSummary:
        return OpSummary(
            name, tuple(sorted(set(node.loc))), tuple(type_text(v.type) for v in node.results),
            tuple(map(self.value, operands)), attributes_text(node.op), kernel, self.names[node.results[0]],
        )

    def value(self, value: Value) -> str:
        """What a value stands for, or else what computes it."""
        if isinstance(value.origin, Original):
            return value.origin.name
        op = self.flat.producers.get(value)
        if op is None:
            return value.name
        return f"{op.name} at {op.node.layer}" if op.node.loc else op.name


def kernel_name(node: Node, ops: list[FlatOp]) -> str:
    """A kernel by its ops, such as ``fused(conv2d, requantize)``."""
    return f"{node.op.name}({', '.join(op.name for op in ops)})"
