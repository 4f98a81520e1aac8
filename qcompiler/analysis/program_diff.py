"""How two programs differ, by layer: ops, types, quantization, constants and connections.

Numbers of values, the order of independent nodes, the order of layer names on a node, names of cited constants, the
program's name and the passes it went through are no differences.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from qcompiler.analysis.op_changes import Change
from qcompiler.errors import QCompilerError, did_you_mean

Kind = Literal["added", "removed", "changed"]
_MARKS: dict[Kind, str] = {"added": "+", "removed": "-", "changed": "~"}


@dataclass(frozen=True)
class OpSummary:
    """An op of one of the programs.

    Attributes:
        op: its name; of a fused kernel, with those of its ops.
        layers: the user's layers, in alphabetical order.
        types: result types.
        operands: what it is computed from: original values, inputs, or ops.
        attributes: the attributes that differ from their defaults, as text.
        kernel: the fused kernel that holds it; empty outside of kernels.
        value: the name of its first result in the printed program.
    """

    op: str
    layers: tuple[str, ...]
    types: tuple[str, ...]
    operands: tuple[str, ...]
    attributes: str
    kernel: str
    value: str = field(compare=False)

    def __str__(self) -> str:
        text = f"{self.op}({', '.join(self.operands)})" if self.operands else self.op
        return f"{text} -> {', '.join(self.types)}" if self.types else text


@dataclass(frozen=True)
class OpDiff:
    """An op that only one program has, or that differs.

    Attributes:
        kind: "added", "removed" or "changed".
        before, after: the op in each program that has it.
        changes: what differs.
    """

    kind: Kind
    before: OpSummary | None
    after: OpSummary | None
    changes: tuple[Change, ...] = ()

    @property
    def summary(self) -> OpSummary:
        """The op in the later program that has it."""
        found = self.after or self.before
        assert found is not None
        return found

    @property
    def layer(self) -> str:
        return " + ".join(self.summary.layers)

    def concerns(self, layer: str) -> bool:
        return any(s is not None and layer in (*s.layers, " + ".join(s.layers)) for s in (self.before, self.after))


@dataclass(frozen=True)
class ProgramDiff:
    """The differences of two programs. False where there are none.

    Attributes:
        program: differences of target, inputs and outputs.
        ops: ops that differ, in dataflow order.
        layers: all layers of both programs.
    """

    program: tuple[Change, ...]
    ops: tuple[OpDiff, ...]
    layers: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.program or self.ops)

    def only(self, layer: str) -> ProgramDiff:
        """The differences at one layer.

        Raises:
            QCompilerError: no program has the layer.
        """
        if layer not in self.layers and not any(op.concerns(layer) for op in self.ops):
            raise QCompilerError(
                f"no program has a layer {layer!r}", fix=did_you_mean(layer, sorted(self.layers), most=3)
            )
        return ProgramDiff((), tuple(op for op in self.ops if op.concerns(layer)), self.layers)

    def by_layer(self) -> dict[str, list[OpDiff]]:
        """The ops that differ, by layer, in dataflow order."""
        found: dict[str, list[OpDiff]] = {}
        for op in self.ops:
            found.setdefault(op.layer, []).append(op)
        return found

    def summary(self) -> str:
        """The differences in one line, as counts."""
        if not self:
            return "the programs are equal"
        counts = Counter(op.kind for op in self.ops)
        parts = [f"{counts[kind]} {kind}" for kind in _MARKS if counts[kind]]
        ops = f"ops: {', '.join(parts)}, in {_counted(len(self.by_layer()), 'layer')}" if parts else ""
        program = f"program: {_counted(len(self.program), 'change')}" if self.program else ""
        return "; ".join(text for text in (program, ops) if text)

    def lines(self) -> Iterator[tuple[str, str]]:
        """The text, line by line, each with what it is: "heading", "added", "removed", "changed" or "summary"."""
        if self.program:
            yield "heading", "program"
            yield from (("changed", f"  ~ {change}") for change in self.program)
        for layer, ops in self.by_layer().items():
            yield "heading", f"layer {layer}" if layer else "no layer"
            for op in ops:
                yield from _op_lines(op)
        yield "summary", self.summary()

    def __str__(self) -> str:
        return "\n".join(text for _, text in self.lines())

    def as_json(self) -> dict[str, Any]:
        """Plain lists and dicts, for machines."""
        return {
            "equal": not self,
            "program": [dataclasses.asdict(change) for change in self.program],
            "ops": [{"layer": op.layer, **dataclasses.asdict(op)} for op in self.ops],
        }


def _op_lines(op: OpDiff) -> Iterator[tuple[str, str]]:
    mark, summary = _MARKS[op.kind], op.summary
    if op.kind == "changed":
        before = op.before.value if op.before else ""
        renamed = summary.value if before == summary.value else f"{before} -> {summary.value}"
        yield op.kind, f"  {mark} {summary.op}, {renamed}"
        yield from ((op.kind, f"      {change}") for change in op.changes)
        return
    inside = f", in {summary.kernel}" if summary.kernel else ""
    attributes = f" {summary.attributes}" if summary.attributes else ""
    yield op.kind, f"  {mark} {summary}{attributes}{inside}, {summary.value}"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")
