"""The pass ``annotate``."""

from __future__ import annotations

import math

from qcompiler.analysis.placement import place_on_host
from qcompiler.analysis.scale_groups import tie_scales
from qcompiler.errors import QCompilerError
from qcompiler.ir import Fact, Graph, Node, Shape, Value
from qcompiler.ir.types import channel_blocks
from qcompiler.ops.contraction import Contraction
from qcompiler.ops.quantization import FakeQuant
from qcompiler.passes.block_annotation import BlockMarks
from qcompiler.passes.value_marks import ValueMarks
from qcompiler.pipeline import Context, Pass, PassResult, Stage, compiler_pass
from qcompiler.target import Row, Target, TypeSpec, choose_for, is_constant, runs_on_host, storages, stored_range
from qcompiler.target.weight_groups import group_blocks


@compiler_pass("annotate")
class Annotate(Pass):
    """Put a ``fake_quant`` node on every value that the target holds in low precision, or a ``fake_block`` node.

    Formats come from the descriptor's op rows: those of the operands that an op demands and of the results that it
    gives. A sum that is requantized gets the format of the requantize. Where the result's only user is an activation
    that limits values, the two are held as one: the format goes behind the activation. Values that the descriptor
    ties get a common group.

    Where the descriptor has ``fallback = "host"``, nodes are placed first, so that as few values as possible cross
    between target and host; those of the host are marked ``on_host``. What the host runs demands nothing; it takes the
    target's values as they are held.
    """

    needs = Stage.FLOAT
    leaves = Stage.ANNOTATED
    needs_target = True

    def run(self, graph: Graph, context: Context) -> PassResult:
        target = context.require_target(self.name)
        on_host = place_on_host(graph, target)
        for node in graph.nodes:
            node.on_host = node in on_host
        if target.has_blocks:
            BlockMarks(graph, target).mark_all()
        else:
            _AffineMarks(graph, target).mark_all()
            tie_scales(graph, target)
        return PassResult(graph, True)


class _AffineMarks(ValueMarks):
    """Creates fake_quant nodes, one for each value, format and grid of blocks."""

    def __init__(self, graph: Graph, target: Target) -> None:
        super().__init__(graph, target)
        self.formats: dict[Value, list[tuple[TypeSpec, Shape, Value]]] = {}

    def mark(self, node: Node, row: Row) -> None:
        for index, value in enumerate(node.operands):
            spec = choose_for(self.target, row, index, node)
            if spec is not None and _is_held(spec) and value not in self.held_behind_clamp:
                blocks = _weight_blocks(spec, node, index)
                node.set_operand(index, self.quantized(value, spec, blocks, node))
        if row.out.choices[0].kind != "affine":
            return
        spec = self.target.result_type(row)
        if self.is_held_behind_clamp(node, row):
            self.held_behind_clamp.add(node.result)
            return
        for value in node.results:
            if value.type.storage.is_float:
                self.quantized(value, spec, (), node)

    def is_held_behind_clamp(self, node: Node, row: Row) -> bool:
        """Whether the result exists only to be limited by the activation that follows."""
        clamp = self.target.rows.get("clamp")
        if row.tied or row.name == "clamp" or len(node.results) != 1:
            return False
        if clamp is None or not clamp.may_end(node.op.name):
            return False
        if len(node.result.uses) != 1 or _is_prescribed(self.target.result_type(row)):
            return False
        (user, _), = node.result.uses
        if Fact.CLAMP not in user.op.facts or runs_on_host(self.target, user):
            return False
        return self.target.row_for(user.op) is clamp

    def quantized(self, value: Value, spec: TypeSpec, blocks: Shape, node: Node) -> Value:
        """``value`` behind a fake_quant of this format."""
        if value.producer is not None and isinstance(value.producer.op, FakeQuant):
            return value
        known = self.formats.setdefault(value, [])
        for other, other_blocks, marked in known:
            if _satisfies(other, spec) and other_blocks == blocks:
                return marked
        qmin, qmax = stored_range(spec)
        op = FakeQuant(
            storages(spec)[0], qmin, qmax, blocks,
            fixed_scale=spec.scale if isinstance(spec.scale, float) else None,
            fixed_zero_point=spec.zero_point if isinstance(spec.zero_point, int) else None,
            power_of_two=spec.scale == "power-of-two",
            multiplier_range=(spec.group_multiplier[0], spec.group_multiplier[1]) if spec.group_multiplier else None,
        )
        source = value
        if known and not is_constant(value):
            source = known[0][2]
            self.check_taken("requantize", known[0][0], value)
        marked = self.builder_behind(source, node)(op, source, origin=value.origin)
        known.append((spec, blocks, marked))
        return marked

    def check_leaving(self, value: Value) -> None:
        self.check_taken("dequantize", self.formats[value][0][0], value)

    def check_taken(self, name: str, held: TypeSpec, value: Value) -> None:
        """Refuse a value that is to be converted by an op that does not take its format.

        Raises:
            QCompilerError: the target lacks the op, or its row has another format; names the layer.
        """
        row = self.target.rows.get(name)
        if row is not None and any(_admits(choice, held) for choice in row.operands[0].choices):
            return
        producer = value.producer
        raise QCompilerError(
            f"target {self.target.name!r} cannot convert what {producer.op.name if producer else 'an input'} gives",
            layer=producer.layer if producer else f"input {value.name}",
            expected=f"{name} takes {row.operands[0].text}" if row else f"an op {name!r}", found=_describe(held),
            fix=f"let ops.{name} of the descriptor take this format too",
        )

    def first_of(self, value: Value) -> Value | None:
        known = self.formats.get(value)
        return known[0][2] if known else None


def _is_held(spec: TypeSpec) -> bool:
    return spec.kind == "affine" and not spec.is_product


def _is_prescribed(spec: TypeSpec) -> bool:
    """Whether the target leaves calibration no choice, as with softmax's scale of 1/256."""
    return isinstance(spec.scale, float) or isinstance(spec.zero_point, int)


def _admits(choice: TypeSpec, held: TypeSpec) -> bool:
    """Whether an op takes a value held in one format, whatever parameters calibration chooses, as another."""
    if choice.scale == "power-of-two" and isinstance(held.scale, float):
        takes_scale = math.frexp(held.scale)[0] == 0.5
    else:
        takes_scale = choice.scale in ("free", held.scale)
    return (
        _is_held(choice)
        and held.storages[0] in choice.storages
        and stored_range(held) == stored_range(choice)
        and choice.zero_point in ("any", held.zero_point)
        and takes_scale
    )


def _describe(held: TypeSpec) -> str:
    """Storage, scale and zero point of a format."""
    return f"{held.storages[0]} of scale {held.scale} and zero point {held.zero_point}"


def _satisfies(held: TypeSpec, demanded: TypeSpec) -> bool:
    """Whether a value held in one format serves where another is demanded."""
    return (
        held.storages[0] in demanded.storages
        and stored_range(held) == stored_range(demanded)
        and (held.blocks, held.group_multiplier) == (demanded.blocks, demanded.group_multiplier)
        and demanded.zero_point in ("any", held.zero_point)
        and demanded.scale in ("free", held.scale)
    )


def _weight_blocks(spec: TypeSpec, node: Node, index: int) -> Shape:
    if isinstance(spec.blocks, int):
        return group_blocks(spec, node, index)
    if spec.blocks != "channel":
        return ()
    if not isinstance(node.op, Contraction):
        raise QCompilerError(f"{node.op.name} has no output channels for per-channel scales", layer=node.layer)
    shape = node.operands[index].type.shape
    return channel_blocks(shape, node.op.weight_channel_axis(len(shape)))
